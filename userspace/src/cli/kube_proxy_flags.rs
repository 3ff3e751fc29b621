// SPDX-License-Identifier: Apache-2.0
//! kube-proxy's own flags, so that its command line starts us.
//!
//! Those that configure fill the structure that a file fills, and do not count beside a file, as in
//! kube-proxy. Those of no effect here are named in one warning.

use std::path::PathBuf;

use clap::Args;

use crate::config::{
    duration::GoDuration,
    kube_proxy::{IpTables, KubeProxyConfiguration, NfTables},
    resolved::LogFormat,
};

/// Flags of kube-proxy that are not ours, too.
#[derive(Clone, Debug, Default, Args)]
#[command(
    next_help_heading = "Options of kube-proxy (those that configure count without --config)"
)]
pub struct KubeProxyFlags {
    /// Name of this node where it is not the host's; counts beside --config, too.
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// Level of the log as klog has it: 4 for debugging, 6 for everything.
    #[arg(long = "v", value_name = "LEVEL")]
    pub v: Option<u32>,
    /// Form of the log.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub logging_format: Option<LogFormat>,
    /// A kubeconfig for the API server.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Address of the API server in place of the kubeconfig's.
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
    /// Write the configuration with all defaults to a file, and end.
    #[arg(long, value_name = "FILE")]
    pub write_config_to: Option<PathBuf>,
    /// Write the settings of connection tracking, and end.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", value_parser = boolean)]
    pub init_only: Option<bool>,
    /// As `pintle cleanup`.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", value_parser = boolean)]
    pub cleanup: Option<bool>,
    #[command(flatten)]
    configuring: Configuring,
    #[command(flatten)]
    ignored: Ignored,
}

/// Flags that stand for fields of the configuration.
#[derive(Clone, Debug, Default, Args)]
struct Configuring {
    /// Requests to the API server per second.
    #[arg(long, value_name = "N")]
    kube_api_qps: Option<f32>,
    /// Requests to the API server at once.
    #[arg(long, value_name = "N")]
    kube_api_burst: Option<i32>,
    /// The node's own address; its family is the primary one.
    #[arg(long, value_name = "IP")]
    bind_address: Option<String>,
    /// An address to listen on that is taken ends the agent.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", value_parser = boolean)]
    bind_address_hard_fail: Option<bool>,
    /// Whose behaviour to follow where they differ: iptables, nftables or ipvs.
    #[arg(long, value_name = "MODE")]
    proxy_mode: Option<String>,
    /// Bit of the packet mark for masquerading.
    #[arg(long, value_name = "BIT", allow_negative_numbers = true)]
    iptables_masquerade_bit: Option<i32>,
    /// Masquerade whatever goes to a cluster address.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", value_parser = boolean)]
    masquerade_all: Option<bool>,
    /// Node ports also at loopback addresses.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", value_parser = boolean)]
    iptables_localhost_nodeports: Option<bool>,
    /// Half the time after which a pending change is unhealthy.
    #[arg(long, value_name = "DURATION")]
    iptables_sync_period: Option<GoDuration>,
    /// At most the period above; changes are made at once.
    #[arg(long, value_name = "DURATION")]
    iptables_min_sync_period: Option<GoDuration>,
    /// As --iptables-sync-period, in mode ipvs.
    #[arg(long, value_name = "DURATION")]
    ipvs_sync_period: Option<GoDuration>,
    /// As --iptables-min-sync-period, in mode ipvs.
    #[arg(long, value_name = "DURATION")]
    ipvs_min_sync_period: Option<GoDuration>,
    /// How backends are chosen in mode ipvs: rr or mh.
    #[arg(long, value_name = "NAME")]
    ipvs_scheduler: Option<String>,
    /// ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix.
    #[arg(long, value_name = "MODE")]
    detect_local_mode: Option<String>,
    /// The bridge of the pods.
    #[arg(long, value_name = "NAME")]
    pod_bridge_interface: Option<String>,
    /// How names of pods' interfaces begin.
    #[arg(long, value_name = "PREFIX")]
    pod_interface_name_prefix: Option<String>,
    /// Addresses of all pods, one range for each family.
    #[arg(long, value_name = "CIDR,...")]
    cluster_cidr: Option<String>,
    /// Addresses with node ports: ranges, or `primary`.
    #[arg(long, value_name = "CIDR,...|primary", value_delimiter = ',')]
    nodeport_addresses: Option<Vec<String>>,
    /// How gladly the kernel kills the agent when memory is short.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    oom_score_adj: Option<i32>,
    /// Connections that the host tracks for each CPU; 0 leaves the limit alone.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    conntrack_max_per_core: Option<i32>,
    /// Connections that the host tracks at least.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    conntrack_min: Option<i32>,
    /// Idle time of established TCP connections that the host tracks; 0 leaves it alone.
    #[arg(long, value_name = "DURATION")]
    conntrack_tcp_timeout_established: Option<GoDuration>,
    /// The same in CLOSE_WAIT.
    #[arg(long, value_name = "DURATION")]
    conntrack_tcp_timeout_close_wait: Option<GoDuration>,
    /// The host does not mind TCP packets out of their window.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", value_parser = boolean)]
    conntrack_tcp_be_liberal: Option<bool>,
    /// Idle time of UDP connections without answer that the host tracks; 0 leaves it alone.
    #[arg(long, value_name = "DURATION")]
    conntrack_udp_timeout: Option<GoDuration>,
    /// The same with answers.
    #[arg(long, value_name = "DURATION")]
    conntrack_udp_timeout_stream: Option<GoDuration>,
    /// Features on or off; AllowServiceExternalIPs counts.
    #[arg(long, value_name = "NAME=BOOL,...", value_delimiter = ',', value_parser = gate)]
    feature_gates: Option<Vec<(String, bool)>>,
}

/// Flags of no effect here.
#[derive(Clone, Debug, Default, Args)]
struct Ignored {
    #[arg(long, hide = true)]
    kube_api_content_type: Option<String>,
    #[arg(long, hide = true)]
    config_sync_period: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "")]
    profiling: Option<String>,
    #[arg(long, hide = true)]
    show_hidden_metrics_for_version: Option<String>,
    #[arg(long, hide = true)]
    ipvs_exclude_cidrs: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "")]
    ipvs_strict_arp: Option<String>,
    #[arg(long, hide = true)]
    ipvs_tcp_timeout: Option<String>,
    #[arg(long, hide = true)]
    ipvs_tcpfin_timeout: Option<String>,
    #[arg(long, hide = true)]
    ipvs_udp_timeout: Option<String>,
    #[arg(long, hide = true)]
    healthz_port: Option<String>,
    #[arg(long, hide = true)]
    metrics_port: Option<String>,
    #[arg(long, hide = true)]
    vmodule: Option<String>,
    #[arg(long, hide = true)]
    log_flush_frequency: Option<String>,
}

impl KubeProxyFlags {
    /// The configuration that the flags stand for; `None` if none of them was given.
    pub fn configuration(&self) -> Option<KubeProxyConfiguration> {
        let configuration = self.configuring.configuration();
        (configuration != KubeProxyConfiguration::default()).then_some(configuration)
    }

    /// What is to be told about flags that are of no effect.
    pub fn warnings(&self, has_file: HasFile) -> Vec<String> {
        let mut warnings = Vec::new();
        let ignored = self.ignored.given();
        if !ignored.is_empty() {
            warnings.push(format!("of no effect here: {}", ignored.join(", ")));
        }
        if let (HasFile::Yes, Some(configuration)) = (has_file, self.configuration()) {
            let mut fields = Vec::new();
            // A structure of texts and numbers serializes.
            collect("", &serde_json::to_value(configuration).unwrap_or_default(), &mut fields);
            let fields = fields.join(", ");
            warnings.push(format!("flags do not count beside --config: those for {fields}"));
        }
        warnings
    }
}

/// A configuration file was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HasFile {
    /// It was.
    Yes,
    /// It was not.
    No,
}

impl Configuring {
    fn configuration(&self) -> KubeProxyConfiguration {
        let mut config = KubeProxyConfiguration {
            bind_address: self.bind_address.clone(),
            bind_address_hard_fail: self.bind_address_hard_fail,
            mode: self.proxy_mode.clone(),
            detect_local_mode: self.detect_local_mode.clone(),
            cluster_cidr: self.cluster_cidr.clone(),
            oom_score_adj: self.oom_score_adj,
            feature_gates: self.feature_gates.clone().map(FromIterator::from_iter),
            ..KubeProxyConfiguration::default()
        };
        // An empty flag is an empty list.
        config.node_port_addresses = self.nodeport_addresses.as_ref().map(|addresses| {
            addresses.iter().filter(|address| !address.is_empty()).cloned().collect()
        });
        config.client_connection.qps = self.kube_api_qps;
        config.client_connection.burst = self.kube_api_burst;
        config.iptables = IpTables {
            masquerade_bit: self.iptables_masquerade_bit,
            masquerade_all: self.masquerade_all,
            localhost_node_ports: self.iptables_localhost_nodeports,
            sync_period: self.iptables_sync_period,
            min_sync_period: self.iptables_min_sync_period,
        };
        // The flags are called iptables', and are nftables', too.
        config.nftables = NfTables {
            masquerade_bit: None,
            masquerade_all: self.masquerade_all,
            sync_period: self.iptables_sync_period,
            min_sync_period: self.iptables_min_sync_period,
        };
        config.ipvs.sync_period = self.ipvs_sync_period;
        config.ipvs.min_sync_period = self.ipvs_min_sync_period;
        config.ipvs.scheduler = self.ipvs_scheduler.clone();
        config.detect_local.bridge_interface = self.pod_bridge_interface.clone();
        config.detect_local.interface_name_prefix = self.pod_interface_name_prefix.clone();
        let conntrack = &mut config.conntrack;
        conntrack.max_per_core = self.conntrack_max_per_core;
        conntrack.min = self.conntrack_min;
        conntrack.tcp_established_timeout = self.conntrack_tcp_timeout_established;
        conntrack.tcp_close_wait_timeout = self.conntrack_tcp_timeout_close_wait;
        conntrack.tcp_be_liberal = self.conntrack_tcp_be_liberal;
        conntrack.udp_timeout = self.conntrack_udp_timeout;
        conntrack.udp_stream_timeout = self.conntrack_udp_timeout_stream;
        config
    }
}

impl Ignored {
    fn given(&self) -> Vec<&'static str> {
        let flags = [
            ("--kube-api-content-type", &self.kube_api_content_type),
            ("--config-sync-period", &self.config_sync_period),
            ("--profiling", &self.profiling),
            ("--show-hidden-metrics-for-version", &self.show_hidden_metrics_for_version),
            ("--ipvs-exclude-cidrs", &self.ipvs_exclude_cidrs),
            ("--ipvs-strict-arp", &self.ipvs_strict_arp),
            ("--ipvs-tcp-timeout", &self.ipvs_tcp_timeout),
            ("--ipvs-tcpfin-timeout", &self.ipvs_tcpfin_timeout),
            ("--ipvs-udp-timeout", &self.ipvs_udp_timeout),
            ("--healthz-port", &self.healthz_port),
            ("--metrics-port", &self.metrics_port),
            ("--vmodule", &self.vmodule),
            ("--log-flush-frequency", &self.log_flush_frequency),
        ];
        flags.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name).collect()
    }
}

/// The paths of all fields that are there.
fn collect(path: &str, value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Null => {}
        serde_json::Value::Object(fields) if path != "featureGates" => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(&path, value, found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

/// The words that Go's flags take.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("give true or false".into()),
    }
}

fn gate(text: &str) -> Result<(String, bool), String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=true or NAME=false")?;
    Ok((name.trim().to_owned(), boolean(value.trim())?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::{Inputs, resolve, resolved::*};

    #[derive(Debug, Parser)]
    struct Wrapper {
        #[command(flatten)]
        flags: KubeProxyFlags,
    }

    fn parse(flags: &[&str]) -> Result<KubeProxyFlags, String> {
        let flags = ["agent"].iter().chain(flags);
        Ok(Wrapper::try_parse_from(flags).map_err(|error| error.to_string())?.flags)
    }

    fn resolved(flags: &[&str]) -> crate::config::Resolution {
        let flags = parse(flags).unwrap();
        let inputs = Inputs {
            flags: flags.configuration(),
            hostname_override: flags.hostname_override.clone(),
            verbosity: flags.v,
            ..Inputs::default()
        };
        resolve(inputs).unwrap()
    }

    #[test]
    fn k3s_starts_us_as_it_starts_kube_proxy() {
        // k3s also gives --healthz-bind-address, which is a flag of ours.
        let config = resolved(&[
            "--cluster-cidr=10.42.0.0/16",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-close-wait=0s",
            "--conntrack-tcp-timeout-established=0s",
            "--hostname-override=K3s-Node",
            "--kubeconfig=/var/lib/rancher/k3s/agent/kubeproxy.kubeconfig",
            "--proxy-mode=iptables",
        ])
        .config;
        assert_eq!(config.node_name, "k3s-node");
        assert_eq!(config.mode, Mode::Iptables);
        let conntrack = Conntrack { min: 131_072, ..Conntrack::default() };
        assert_eq!(config.conntrack, conntrack, "nothing is written without a limit for each CPU");
        let DetectLocal::ClusterCidr { v4: Some(v4), v6: None } = config.detect_local else {
            panic!("{:?}", config.detect_local);
        };
        assert_eq!(v4.to_string(), "10.42.0.0/16");
    }

    #[test]
    fn every_flag_lands_in_its_field() {
        let resolution = resolved(&[
            "--hostname-override=n",
            "--proxy-mode=nftables",
            "--masquerade-all",
            "--bind-address-hard-fail=true",
            "--iptables-sync-period=10s",
            "--iptables-min-sync-period=0s",
            "--nodeport-addresses=10.0.0.0/8,fd00::/8",
            "--oom-score-adj",
            "-500",
            "--conntrack-tcp-be-liberal",
            "--conntrack-udp-timeout=5s",
            "--conntrack-udp-timeout-stream=6s",
            "--conntrack-min=5",
            "--feature-gates=AllowServiceExternalIPs=false",
            "--detect-local-mode=BridgeInterface",
            "--pod-bridge-interface=cni0",
            "--bind-address=fd00::1",
            "--v=4",
        ]);
        let config = resolution.config;
        assert_eq!(config.mode, Mode::Nftables);
        assert!(config.masquerade_all && !config.external_ips);
        assert_eq!(config.bind_failure, BindFailure::Exit);
        assert_eq!(config.sync_period.as_secs(), 10);
        assert!(matches!(config.node_port_addresses, NodePortAddresses::Cidrs(_)));
        assert_eq!(config.oom_score_adj, Some(-500));
        assert!(config.conntrack.tcp_be_liberal);
        assert_eq!((config.conntrack.udp.as_secs(), config.conntrack.udp_stream.as_secs()), (5, 6));
        assert_eq!((config.conntrack.max_per_core, config.conntrack.min), (32768, 5));
        assert_eq!(config.detect_local, DetectLocal::BridgeInterface("cni0".into()));
        assert_eq!(config.healthz_bind_address, "[::]:10256".parse().ok());
        assert_eq!(config.log.filter, "debug");
        assert_eq!(resolution.warnings, [""; 0]);
    }

    #[test]
    fn a_name_a_log_level_and_a_kubeconfig_do_not_make_us_a_kube_proxy() {
        let flags = parse(&["--hostname-override=n", "--v=2", "--kubeconfig=/k"]).unwrap();
        assert_eq!(flags.configuration(), None);
    }

    #[test]
    fn flags_of_no_effect_are_named_together() {
        let flags = parse(&["--profiling", "--ipvs-strict-arp=true", "--vmodule=a=2"]).unwrap();
        assert_eq!(flags.configuration(), None);
        let warnings = flags.warnings(HasFile::No);
        assert_eq!(warnings, ["of no effect here: --profiling, --ipvs-strict-arp, --vmodule"]);

        let flags = parse(&["--proxy-mode=ipvs", "--conntrack-min=1", "--v=2"]).unwrap();
        assert_eq!(flags.warnings(HasFile::No), [""; 0]);
        let warnings = flags.warnings(HasFile::Yes);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("conntrack.min, mode"), "{warnings:?}");
    }

    #[test]
    fn what_kube_proxy_does_not_know_is_an_error() {
        assert!(parse(&["--no-such-flag"]).unwrap_err().contains("--no-such-flag"));
        assert!(parse(&["--masquerade-all=maybe"]).unwrap_err().contains("true or false"));
        assert!(parse(&["--iptables-sync-period=30"]).unwrap_err().contains("not a duration"));
    }
}
