// SPDX-License-Identifier: Apache-2.0
//! Configurations as installers write them, and what becomes of them.

use crate::{model::service::BackendSelection, plan::maglev::TableSize};
use std::time::Duration;

use super::{decode::decode, resolved::*, *};
use crate::model::cidr::Cidr;

/// `config.conf` of kubeadm's ConfigMap, of a version that still wrote `udpIdleTimeout`.
const KUBEADM: &str = r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
udpIdleTimeout: 0s
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"#;

/// The file of EKS' add-on.
const EKS: &str = r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
clientConnection:
  acceptContentTypes: ""
  burst: 10
  contentType: application/vnd.kubernetes.protobuf
  kubeconfig: /var/lib/kube-proxy/kubeconfig
  qps: 5
clusterCIDR: ""
configSyncPeriod: 15m0s
conntrack:
  maxPerCore: 32768
  min: 131072
  tcpCloseWaitTimeout: 1h0m0s
  tcpEstablishedTimeout: 24h0m0s
enableProfiling: false
healthzBindAddress: 0.0.0.0:10256
hostnameOverride: ""
iptables:
  masqueradeAll: false
  masqueradeBit: 14
  minSyncPeriod: 0s
  syncPeriod: 30s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  syncPeriod: 30s
kind: KubeProxyConfiguration
metricsBindAddress: 0.0.0.0:10249
mode: "iptables"
nodePortAddresses: null
oomScoreAdj: -998
portRange: ""
"#;

fn file(text: &str) -> Resolution {
    let decoded = decode(text).unwrap();
    let hostname = "Node-1\n".to_owned();
    let inputs = Inputs { file: Some(decoded.configuration), hostname, ..Inputs::default() };
    let mut resolution = resolve(inputs).unwrap();
    resolution.warnings.splice(0..0, decoded.warnings);
    resolution
}

fn body(body: &str) -> Resolution {
    file(&format!("apiVersion: {}\nkind: {}\n{body}", kube_proxy::API_VERSION, kube_proxy::KIND))
}

fn kube_proxy_conntrack() -> Conntrack {
    Conntrack {
        max_per_core: 32768,
        min: 131_072,
        tcp_established: Duration::from_secs(86400),
        tcp_close_wait: Duration::from_secs(3600),
        ..Conntrack::default()
    }
}

#[test]
fn a_kubeadm_cluster_keeps_what_it_has() {
    let Resolution { config, warnings, .. } = file(KUBEADM);
    let expected = Config {
        node_name: "node-1".into(),
        mode: Mode::Iptables,
        bind_address: None,
        healthz_bind_address: "0.0.0.0:10256".parse().ok(),
        metrics_bind_address: "127.0.0.1:10249".parse().ok(),
        bind_failure: BindFailure::Retry,
        detect_local: DetectLocal::ClusterCidr { v4: Cidr::parse("10.244.0.0/16"), v6: None },
        masquerade_all: false,
        masquerade_bit: 14,
        node_port_addresses: NodePortAddresses::All,
        localhost_node_ports: true,
        unallocated: Unallocated::Pass,
        external_ips: true,
        backend_selection: BackendSelection::Random,
        table_size: TableSize::default(),
        sync_period: Duration::from_secs(30),
        oom_score_adj: Some(-999),
        conntrack: kube_proxy_conntrack(),
        api: Api {
            kubeconfig: Some("/var/lib/kube-proxy/kubeconfig.conf".into()),
            master: None,
            qps: 5.0,
            burst: 10,
        },
        log: Log { format: LogFormat::Text, filter: "info".into() },
    };
    assert_eq!(config, expected);
    assert_eq!(warnings, ["udpIdleTimeout: there is no such field; it is ignored"]);
}

#[test]
fn an_eks_cluster_keeps_what_it_has() {
    let Resolution { config, warnings, .. } = file(EKS);
    assert_eq!(config.mode, Mode::Iptables);
    assert_eq!(config.metrics_bind_address, "0.0.0.0:10249".parse().ok());
    assert_eq!(config.oom_score_adj, Some(-998));
    assert_eq!(config.conntrack, kube_proxy_conntrack());
    // The add-on leaves clusterCIDR empty, because the VPC's addresses are the pods'.
    assert_eq!(config.detect_local, DetectLocal::PodInterfaces);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("clusterCIDR is empty"), "{warnings:?}");
}

#[test]
fn without_a_configuration_nothing_of_the_node_is_touched() {
    let inputs = Inputs { node_name: Some("n1".into()), ..Inputs::default() };
    let Resolution { config, warnings, .. } = resolve(inputs).unwrap();
    assert_eq!(config.mode.as_str(), "pintle");
    assert_eq!((config.oom_score_adj, config.conntrack), (None, Conntrack::default()));
    assert_eq!(config.detect_local, DetectLocal::PodInterfaces);
    assert_eq!(config.unallocated, Unallocated::Drop);
    assert_eq!(config.healthz_bind_address, "0.0.0.0:10256".parse().ok());
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn modes_differ_where_kube_proxy_s_do() {
    let nftables = body("mode: nftables\nnftables: {masqueradeAll: true, syncPeriod: 5s}").config;
    assert_eq!(nftables.node_port_addresses, NodePortAddresses::Primary);
    assert_eq!(nftables.unallocated, Unallocated::Drop);
    assert!(nftables.masquerade_all && !nftables.localhost_node_ports);
    assert_eq!(nftables.sync_period, Duration::from_secs(5));

    let iptables = body("iptables: {localhostNodePorts: false}\nnftables: {masqueradeAll: true}");
    assert!(!iptables.config.masquerade_all && !iptables.config.localhost_node_ports);
    assert_eq!(iptables.config.node_port_addresses, NodePortAddresses::All);

    let ipvs = body("mode: ipvs\niptables: {masqueradeAll: true}\nipvs: {scheduler: mh}").config;
    assert!(ipvs.masquerade_all && !ipvs.localhost_node_ports);
    assert_eq!(ipvs.backend_selection, BackendSelection::Maglev);
}

#[test]
fn local_traffic_is_detected_in_four_ways() {
    let check = |text: &str, expected: DetectLocal| {
        assert_eq!(body(text).config.detect_local, expected, "{text}");
    };
    let (v4, v6) = (Cidr::parse("10.4.0.0/16"), Cidr::parse("fd00::/48"));
    check("clusterCIDR: 10.004.0.0/16,fd00::/48", DetectLocal::ClusterCidr { v4, v6 });
    check("clusterCIDR: fd00::/48", DetectLocal::ClusterCidr { v4: None, v6 });
    check("detectLocalMode: NodeCIDR", DetectLocal::NodeCidr);
    check(
        "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}",
        DetectLocal::BridgeInterface("cni0".into()),
    );
    check(
        "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: cali}",
        DetectLocal::InterfaceNamePrefix("cali".into()),
    );
}

#[test]
fn a_family_without_range_has_node_ports_everywhere() {
    let check = |text: &str, expected: NodePortAddresses| {
        let found = body(&format!("nodePortAddresses: {text}")).config.node_port_addresses;
        assert_eq!(found, expected, "{text}");
    };
    let cidrs = |texts: &[&str]| {
        NodePortAddresses::Cidrs(texts.iter().map(|text| Cidr::parse(text).unwrap()).collect())
    };
    check("[10.0.0.0/8]", cidrs(&["10.0.0.0/8", "::/0"]));
    check("[10.0.0.0/8, fd00::/8]", cidrs(&["10.0.0.0/8", "fd00::/8"]));
    check("[0.0.0.0/0]", NodePortAddresses::All);
    check("[primary]", NodePortAddresses::Primary);
    check("[]", NodePortAddresses::All);
}

#[test]
fn addresses_follow_the_primary_family() {
    let config = body("bindAddress: 'fd00::1'").config;
    assert_eq!(config.bind_address, "fd00::1".parse().ok());
    assert_eq!(config.healthz_bind_address, "[::]:10256".parse().ok());
    assert_eq!(config.metrics_bind_address, "[::1]:10249".parse().ok());
    let config = body("healthzBindAddress: 10.0.0.1\nbindAddressHardFail: true").config;
    assert_eq!(config.healthz_bind_address, "10.0.0.1:10256".parse().ok());
    assert_eq!(config.bind_failure, BindFailure::Exit);
}

#[test]
fn our_flags_win_over_the_file() {
    let text = "hostnameOverride: ' From-File '\nlogging: {format: json, verbosity: 4}";
    let text =
        format!("apiVersion: {}\nkind: {}\n{text}", kube_proxy::API_VERSION, kube_proxy::KIND);
    let inputs = Inputs {
        file: Some(decode(&text).unwrap().configuration),
        hostname: "host".into(),
        ..Inputs::default()
    };
    let plain = resolve(inputs.clone()).unwrap().config;
    assert_eq!(plain.node_name, "from-file");
    assert_eq!(plain.log, Log { format: LogFormat::Json, filter: "debug".into() });

    let overridden = Inputs { hostname_override: Some("From-Flag".into()), ..inputs.clone() };
    assert_eq!(resolve(overridden).unwrap().config.node_name, "from-flag");

    let own = Inputs {
        node_name: Some("Exact".into()),
        hostname_override: Some("from-flag".into()),
        healthz_bind_address: Some(BindAddress::Nowhere),
        metrics_bind_address: "127.0.0.1:1".parse().ok(),
        log_format: Some(LogFormat::Text),
        log_level: Some("warn".into()),
        ..inputs
    };
    let config = resolve(own).unwrap().config;
    assert_eq!(config.node_name, "Exact");
    assert_eq!(config.healthz_bind_address, None);
    assert_eq!(config.metrics_bind_address, "127.0.0.1:1".parse().ok());
    assert_eq!(config.log, Log { format: LogFormat::Text, filter: "warn".into() });
}

#[test]
fn what_is_of_no_effect_is_named_once() {
    let warnings = body(
        "clusterCIDR: 10.0.0.0/8\nfeatureGates: {AllAlpha: true, AllowServiceExternalIPs: false}\n\
         mode: ipvs\nipvs: {scheduler: lc, strictARP: true, tcpTimeout: 5s}\nportRange: 1-2\n",
    )
    .warnings;
    let fields: Vec<&str> =
        warnings.iter().filter_map(|warning| warning.split(':').next()).collect();
    assert_eq!(
        fields,
        ["portRange", "ipvs.strictARP", "ipvs.tcpTimeout", "featureGates", "ipvs.scheduler"]
    );
    assert!(!body("featureGates: {AllowServiceExternalIPs: false}").config.external_ips);
}

#[test]
fn what_is_written_reads_back_the_same() {
    let effective = file(KUBEADM).effective;
    let text = serde_yaml_ng::to_string(&effective).unwrap();
    let decoded = decode(&text).unwrap();
    assert_eq!(decoded.configuration, effective);
    assert_eq!(decoded.warnings, [""; 0]);
}
