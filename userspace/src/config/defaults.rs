// SPDX-License-Identifier: Apache-2.0
//! The values that Kubernetes gives to fields nobody wrote.

use std::net::IpAddr;

use super::{
    duration::GoDuration,
    kube_proxy::{API_VERSION, KIND, KubeProxyConfiguration},
    resolved::{BindAddress, HEALTHZ_PORT, METRICS_PORT},
};
use crate::model::ip;

/// Fills in what is absent, in the fields that v1alpha1 gives a default.
pub fn fill(mut config: KubeProxyConfiguration) -> KubeProxyConfiguration {
    config.api_version = Some(API_VERSION.into());
    config.kind = Some(KIND.into());
    fill_addresses(&mut config);
    fill_periods(&mut config);
    let mode = fill_text(&mut config.mode, "");
    if mode == "nftables" && config.node_port_addresses.as_ref().is_none_or(Vec::is_empty) {
        config.node_port_addresses = Some(vec!["primary".into()]);
    }
    fill_text(&mut config.hostname_override, "");
    fill_text(&mut config.detect_local_mode, "ClusterCIDR");
    fill_text(&mut config.cluster_cidr, "");
    fill_text(&mut config.logging.format, "text");
    config.logging.verbosity.get_or_insert(0);
    config.feature_gates.get_or_insert_default();
    config.bind_address_hard_fail.get_or_insert(false);
    config.oom_score_adj.get_or_insert(-999);
    config.iptables.masquerade_bit.get_or_insert(14);
    config.iptables.masquerade_all.get_or_insert(false);
    config.iptables.localhost_node_ports.get_or_insert(true);
    config.nftables.masquerade_bit.get_or_insert(14);
    config.nftables.masquerade_all.get_or_insert(false);
    fill_text(&mut config.ipvs.scheduler, "");
    let conntrack = &mut config.conntrack;
    conntrack.max_per_core.get_or_insert(32 * 1024);
    conntrack.min.get_or_insert(128 * 1024);
    conntrack.tcp_established_timeout.get_or_insert(GoDuration::from_secs(24 * 3600));
    conntrack.tcp_close_wait_timeout.get_or_insert(GoDuration::from_secs(3600));
    conntrack.tcp_be_liberal.get_or_insert(false);
    conntrack.udp_timeout.get_or_insert_default();
    conntrack.udp_stream_timeout.get_or_insert_default();
    let client = &mut config.client_connection;
    fill_text(&mut client.kubeconfig, "");
    client.qps = client.qps.filter(|qps| *qps != 0.0).or(Some(5.0));
    client.burst = client.burst.filter(|burst| *burst != 0).or(Some(10));
    config
}

/// In a file, an empty address is an absent one; only a flag can say that nothing shall listen.
fn fill_addresses(config: &mut KubeProxyConfiguration) {
    let bind = fill_text(&mut config.bind_address, "0.0.0.0");
    let (any, local) = match ip::parse(&bind) {
        Some(IpAddr::V6(_)) => ("[::]", "[::1]"),
        _ => ("0.0.0.0", "127.0.0.1"),
    };
    fill_address(&mut config.healthz_bind_address, any, HEALTHZ_PORT);
    fill_address(&mut config.metrics_bind_address, local, METRICS_PORT);
}

fn fill_address(field: &mut Option<String>, host: &str, port: u16) {
    let text = fill_text(field, host);
    // What does not parse stays for the validation to refuse.
    if let Ok(BindAddress::At { ip, port: None }) = text.parse() {
        *field = Some(std::net::SocketAddr::new(ip, port).to_string());
    }
}

fn fill_periods(config: &mut KubeProxyConfiguration) {
    let sync = GoDuration::from_secs(30);
    let min_sync = GoDuration::from_secs(1);
    fill_period(&mut config.iptables.sync_period, sync);
    fill_period(&mut config.iptables.min_sync_period, min_sync);
    fill_period(&mut config.nftables.sync_period, sync);
    fill_period(&mut config.nftables.min_sync_period, min_sync);
    fill_period(&mut config.ipvs.sync_period, sync);
    fill_period(&mut config.ipvs.min_sync_period, GoDuration::default());
    fill_period(&mut config.config_sync_period, GoDuration::from_secs(15 * 60));
}

/// Here zero means absent.
fn fill_period(field: &mut Option<GoDuration>, default: GoDuration) {
    *field = field.filter(|period| period.0 != 0).or(Some(default));
}

fn fill_text(field: &mut Option<String>, default: &str) -> String {
    let text = field.take().filter(|text| !text.is_empty());
    field.insert(text.unwrap_or_else(|| default.to_owned())).clone()
}
