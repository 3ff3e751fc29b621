// SPDX-License-Identifier: Apache-2.0
//! File, kube-proxy's flags and our own → one [`Config`], and what is to be told about it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use thiserror::Error;

use super::{
    defaults,
    duration::GoDuration,
    kube_proxy::KubeProxyConfiguration,
    resolved::{
        Api, BindAddress, BindFailure, Config, Conntrack, DetectLocal, HEALTHZ_PORT, Log,
        LogFormat, METRICS_PORT, MODES, Mode, NodePortAddresses, Unallocated,
    },
    validate::{self, Invalid},
};
use crate::{
    model::{cidr::Cidr, ip, ip::Family, service::BackendSelection},
    plan::maglev::TableSize,
};

/// The feature gate that counts.
const EXTERNAL_IPS_GATE: &str = "AllowServiceExternalIPs";

/// Everything that a configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The file.
    pub file: Option<KubeProxyConfiguration>,
    /// kube-proxy's flags; `None` if none of them was given.
    pub flags: Option<KubeProxyConfiguration>,
    /// Our `--node-name`.
    pub node_name: Option<String>,
    /// kube-proxy's `--hostname-override`, which counts beside a file.
    pub hostname_override: Option<String>,
    /// The name of the host.
    pub hostname: String,
    /// `--healthz-bind-address`.
    pub healthz_bind_address: Option<BindAddress>,
    /// `--metrics-bind-address`.
    pub metrics_bind_address: Option<BindAddress>,
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--master`.
    pub master: Option<String>,
    /// `--backend-selection`.
    pub backend_selection: Option<BackendSelection>,
    /// `--maglev-table-size`.
    pub table_size: TableSize,
    /// Our `--log-format`, or kube-proxy's `--logging-format`.
    pub log_format: Option<LogFormat>,
    /// Our `--log-level`.
    pub log_level: Option<String>,
    /// klog's `--v`.
    pub verbosity: Option<u32>,
}

/// A configuration, how kube-proxy would write it, and what is to be told about it.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// What the agent shall do.
    pub config: Config,
    /// kube-proxy's view of it, all defaults filled in; of no effect if nothing of it was given.
    pub effective: KubeProxyConfiguration,
    /// One sentence for each thing that was given and is not done.
    pub warnings: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ResolveError {
    /// kube-proxy would refuse it, too.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Neither flags nor file nor host give the node a name.
    #[error("this node has no name; give --node-name")]
    NoName,
}

/// Resolves. Without file and flags the result is our own default.
pub fn resolve(inputs: Inputs) -> Result<Resolution, ResolveError> {
    let written = inputs.file.as_ref().or(inputs.flags.as_ref());
    let effective = defaults::fill(written.cloned().unwrap_or_default());
    validate::validate(&effective)?;
    let mut warnings = Vec::new();
    let mut config = match written {
        Some(written) => {
            warn_of_ignored(written, &mut warnings);
            from_kube_proxy(&effective, &mut warnings)
        }
        None => own_default(),
    };
    config.node_name = node_name(&inputs, &effective)?;
    apply_own(&inputs, &effective, &mut config);
    Ok(Resolution { config, effective, warnings })
}

/// The "Suggested" column where kube-proxy's modes differ.
fn own_default() -> Config {
    Config {
        node_name: String::new(),
        mode: Mode::Pintle,
        bind_address: None,
        healthz_bind_address: Some(SocketAddr::from(([0, 0, 0, 0], HEALTHZ_PORT))),
        metrics_bind_address: Some(SocketAddr::from(([127, 0, 0, 1], METRICS_PORT))),
        bind_failure: BindFailure::Retry,
        detect_local: DetectLocal::PodInterfaces,
        masquerade_all: false,
        masquerade_bit: 14,
        node_port_addresses: NodePortAddresses::All,
        localhost_node_ports: true,
        unallocated: Unallocated::Drop,
        external_ips: true,
        backend_selection: BackendSelection::Random,
        table_size: TableSize::default(),
        sync_period: Duration::from_secs(30),
        oom_score_adj: None,
        conntrack: Conntrack::default(),
        api: Api { kubeconfig: None, master: None, qps: 5.0, burst: 10 },
        log: Log { format: LogFormat::Text, filter: level(0).to_owned() },
    }
}

/// What a kube-proxy with this configuration would do, as far as modes differ or it was asked to.
fn from_kube_proxy(effective: &KubeProxyConfiguration, warnings: &mut Vec<String>) -> Config {
    let mode = mode(effective);
    let own = own_default();
    let (iptables, nftables) = (&effective.iptables, &effective.nftables);
    let (masquerade_all, masquerade_bit) = match mode {
        Mode::Nftables => (nftables.masquerade_all, nftables.masquerade_bit),
        Mode::Pintle | Mode::Iptables | Mode::Ipvs => {
            (iptables.masquerade_all, iptables.masquerade_bit)
        }
    };
    let sync_period = match mode {
        Mode::Pintle | Mode::Iptables => iptables.sync_period,
        Mode::Nftables => nftables.sync_period,
        Mode::Ipvs => effective.ipvs.sync_period,
    };
    let bind = effective.bind_address.as_deref().and_then(ip::parse);
    let hard_fail = effective.bind_address_hard_fail == Some(true);
    Config {
        mode,
        bind_address: bind.filter(|ip| !ip.is_unspecified()),
        healthz_bind_address: listen(effective.healthz_bind_address.as_deref(), HEALTHZ_PORT),
        metrics_bind_address: listen(effective.metrics_bind_address.as_deref(), METRICS_PORT),
        bind_failure: if hard_fail { BindFailure::Exit } else { BindFailure::Retry },
        detect_local: detect_local(effective, warnings),
        masquerade_all: masquerade_all == Some(true),
        masquerade_bit: masquerade_bit.and_then(|bit| bit.try_into().ok()).unwrap_or(14),
        node_port_addresses: node_port_addresses(effective),
        localhost_node_ports: match mode {
            Mode::Pintle | Mode::Iptables => iptables.localhost_node_ports == Some(true),
            Mode::Nftables | Mode::Ipvs => false,
        },
        unallocated: match mode {
            Mode::Pintle | Mode::Nftables => Unallocated::Drop,
            Mode::Iptables | Mode::Ipvs => Unallocated::Pass,
        },
        external_ips: gate(effective, EXTERNAL_IPS_GATE).unwrap_or(true),
        backend_selection: backend_selection(effective, mode, warnings),
        sync_period: sync_period.map_or(own.sync_period, GoDuration::to_std),
        oom_score_adj: effective.oom_score_adj,
        conntrack: conntrack(effective),
        ..own
    }
}

fn mode(effective: &KubeProxyConfiguration) -> Mode {
    let word = effective.mode.as_deref().unwrap_or_default();
    // An empty word is kube-proxy's default.
    MODES.iter().find(|(known, _)| *known == word).map_or(Mode::Iptables, |(_, mode)| *mode)
}

fn listen(text: Option<&str>, port: u16) -> Option<SocketAddr> {
    text?.parse::<BindAddress>().ok()?.with_port(port)
}

fn detect_local(effective: &KubeProxyConfiguration, warnings: &mut Vec<String>) -> DetectLocal {
    let detect = &effective.detect_local;
    match effective.detect_local_mode.as_deref().unwrap_or_default() {
        "NodeCIDR" => DetectLocal::NodeCidr,
        "BridgeInterface" => {
            DetectLocal::BridgeInterface(detect.bridge_interface.clone().unwrap_or_default())
        }
        "InterfaceNamePrefix" => DetectLocal::InterfaceNamePrefix(
            detect.interface_name_prefix.clone().unwrap_or_default(),
        ),
        _ => {
            let cidrs = validate::cluster_cidrs(effective);
            let cidrs: Vec<Cidr> = cidrs.into_iter().filter_map(Cidr::parse).collect();
            let of = |family| cidrs.iter().find(|cidr| cidr.family() == family).copied();
            let (v4, v6) = (of(Family::V4), of(Family::V6));
            if v4.is_none() && v6.is_none() {
                warnings.push(
                    "detectLocalMode is ClusterCIDR and clusterCIDR is empty: kube-proxy would \
                     take no traffic for a pod's; we go by the pods' interfaces"
                        .into(),
                );
                return DetectLocal::PodInterfaces;
            }
            DetectLocal::ClusterCidr { v4, v6 }
        }
    }
}

/// A family without range has all of its addresses.
fn node_port_addresses(effective: &KubeProxyConfiguration) -> NodePortAddresses {
    let texts = effective.node_port_addresses.as_deref().unwrap_or_default();
    if texts == ["primary"] {
        return NodePortAddresses::Primary;
    }
    let mut cidrs: Vec<Cidr> = texts.iter().filter_map(|text| Cidr::parse(text)).collect();
    for family in Family::ALL {
        if cidrs.iter().all(|cidr| cidr.family() != family) {
            cidrs.push(Cidr::all(family));
        }
    }
    match Family::ALL.iter().all(|family| cidrs.contains(&Cidr::all(*family))) {
        true => NodePortAddresses::All,
        false => NodePortAddresses::Cidrs(cidrs),
    }
}

fn gate(effective: &KubeProxyConfiguration, name: &str) -> Option<bool> {
    effective.feature_gates.as_ref()?.get(name).copied()
}

fn backend_selection(
    effective: &KubeProxyConfiguration,
    mode: Mode,
    warnings: &mut Vec<String>,
) -> BackendSelection {
    let word = effective.ipvs.scheduler.as_deref().unwrap_or_default();
    match (mode, word) {
        (Mode::Ipvs, "mh") => BackendSelection::Maglev,
        (Mode::Ipvs, "" | "rr" | "random") => BackendSelection::Random,
        (Mode::Ipvs, word) => {
            warnings.push(format!("ipvs.scheduler: {word} is not here; connections spread evenly"));
            BackendSelection::Random
        }
        (Mode::Pintle | Mode::Iptables | Mode::Nftables, _) => BackendSelection::Random,
    }
}

fn conntrack(effective: &KubeProxyConfiguration) -> Conntrack {
    let section = &effective.conntrack;
    let count = |value: Option<i32>| value.and_then(|value| value.try_into().ok()).unwrap_or(0);
    let time = |value: Option<GoDuration>| value.unwrap_or_default().to_std();
    Conntrack {
        max_per_core: count(section.max_per_core),
        min: count(section.min),
        tcp_established: time(section.tcp_established_timeout),
        tcp_close_wait: time(section.tcp_close_wait_timeout),
        tcp_be_liberal: section.tcp_be_liberal == Some(true),
        udp: time(section.udp_timeout),
        udp_stream: time(section.udp_stream_timeout),
    }
}

/// Our flag as it is; kube-proxy trims and lowers what it is given.
fn node_name(inputs: &Inputs, effective: &KubeProxyConfiguration) -> Result<String, ResolveError> {
    let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    if let Some(name) = given(&inputs.node_name) {
        return Ok(name);
    }
    let name = given(&inputs.hostname_override).or_else(|| given(&effective.hostname_override));
    let name = name.unwrap_or_else(|| inputs.hostname.clone());
    match name.trim() {
        "" => Err(ResolveError::NoName),
        name => Ok(name.to_lowercase()),
    }
}

/// What wins over the file.
fn apply_own(inputs: &Inputs, effective: &KubeProxyConfiguration, config: &mut Config) {
    if let Some(address) = inputs.healthz_bind_address {
        config.healthz_bind_address = address.with_port(HEALTHZ_PORT);
    }
    if let Some(address) = inputs.metrics_bind_address {
        config.metrics_bind_address = address.with_port(METRICS_PORT);
    }
    if let Some(selection) = inputs.backend_selection {
        config.backend_selection = selection;
    }
    config.table_size = inputs.table_size;
    let client = &effective.client_connection;
    let kubeconfig = client.kubeconfig.as_ref().filter(|path| !path.is_empty());
    config.api = Api {
        kubeconfig: inputs.kubeconfig.clone().or_else(|| kubeconfig.map(PathBuf::from)),
        master: inputs.master.clone().filter(|master| !master.is_empty()),
        qps: client.qps.unwrap_or(config.api.qps),
        burst: client.burst.and_then(|burst| burst.try_into().ok()).unwrap_or(config.api.burst),
    };
    let logging = &effective.logging;
    let json = logging.format.as_deref() == Some("json");
    let format = if json { LogFormat::Json } else { LogFormat::Text };
    let verbosity = inputs.verbosity.or(logging.verbosity).unwrap_or(0);
    config.log = Log {
        format: inputs.log_format.unwrap_or(format),
        filter: inputs.log_level.clone().unwrap_or_else(|| level(verbosity).to_owned()),
    };
}

/// klog's 2 is what everybody runs with; 4 is for debugging, more tells everything.
fn level(verbosity: u32) -> &'static str {
    match verbosity {
        0..=3 => "info",
        4..=5 => "debug",
        _ => "trace",
    }
}

/// Names what was set and is of no effect here.
fn warn_of_ignored(written: &KubeProxyConfiguration, warnings: &mut Vec<String>) {
    let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let is_long = |period: Option<GoDuration>| period.is_some_and(|period| period.0 != 0);
    let ipvs = &written.ipvs;
    let in_ipvs = written.mode.as_deref() == Some("ipvs");
    for (field, set) in [
        ("enableProfiling", written.enable_profiling == Some(true)),
        ("showHiddenMetricsForVersion", is_set(&written.show_hidden_metrics_for_version)),
        ("portRange", is_set(&written.port_range)),
        ("windowsRunAsService", written.windows_run_as_service == Some(true)),
        ("logging.vmodule", written.logging.vmodule.as_ref().is_some_and(|list| !is_empty(list))),
        ("ipvs.strictARP", in_ipvs && ipvs.strict_arp == Some(true)),
        (
            "ipvs.excludeCIDRs",
            in_ipvs && ipvs.exclude_cidrs.as_ref().is_some_and(|c| !c.is_empty()),
        ),
        ("ipvs.tcpTimeout", in_ipvs && is_long(ipvs.tcp_timeout)),
        ("ipvs.tcpFinTimeout", in_ipvs && is_long(ipvs.tcp_fin_timeout)),
        ("ipvs.udpTimeout", in_ipvs && is_long(ipvs.udp_timeout)),
    ] {
        if set {
            warnings.push(format!("{field}: of no effect here"));
        }
    }
    let gates = written.feature_gates.iter().flatten().map(|(name, _)| name.as_str());
    let gates: Vec<&str> = gates.filter(|name| *name != EXTERNAL_IPS_GATE).collect();
    if !gates.is_empty() {
        warnings.push(format!("featureGates: of no effect here: {}", gates.join(", ")));
    }
}

fn is_empty(value: &serde_json::Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value == ""
}
