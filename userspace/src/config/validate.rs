// SPDX-License-Identifier: Apache-2.0
//! What kube-proxy refuses in a configuration. Every complaint names the field.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{
    duration::GoDuration,
    kube_proxy::KubeProxyConfiguration,
    resolved::{BindAddress, MODES},
};
use crate::model::{cidr::Cidr, ip};

/// The kernel's limit for the name of an interface, without its terminator.
const INTERFACE_NAME: usize = 15;

/// Everything that is wrong with a configuration.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{}", .0.join("; "))]
pub struct Invalid(pub Vec<String>);

/// Checks a configuration whose defaults are filled in.
pub fn validate(config: &KubeProxyConfiguration) -> Result<(), Invalid> {
    let mut complaints = Complaints::default();
    complaints.general(config);
    complaints.periods(config);
    complaints.conntrack(config);
    complaints.addresses(config);
    complaints.detection(config);
    match complaints.0.is_empty() {
        true => Ok(()),
        false => Err(Invalid(complaints.0)),
    }
}

/// `clusterCIDR` as a list.
pub fn cluster_cidrs(config: &KubeProxyConfiguration) -> Vec<&str> {
    let text = config.cluster_cidr.as_deref().unwrap_or_default();
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() }
}

#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn add(&mut self, field: &str, words: impl std::fmt::Display) {
        self.0.push(format!("{field}: {words}"));
    }

    fn general(&mut self, config: &KubeProxyConfiguration) {
        let mode = config.mode.as_deref().unwrap_or_default();
        if !mode.is_empty() && !MODES.iter().any(|(word, _)| *word == mode) {
            self.add("mode", format!("'{mode}' is not iptables, nftables or ipvs"));
        }
        for (field, bit) in [
            ("iptables.masqueradeBit", config.iptables.masquerade_bit),
            ("nftables.masqueradeBit", config.nftables.masquerade_bit),
        ] {
            self.range(field, bit, 0, 31);
        }
        self.range("oomScoreAdj", config.oom_score_adj, -1000, 1000);
        let format = config.logging.format.as_deref().unwrap_or_default();
        if !["", "text", "json"].contains(&format) {
            self.add("logging.format", format!("'{format}' is not text or json"));
        }
        self.at_least("clientConnection.burst", config.client_connection.burst, 0);
        if config.hostname_override.as_deref().is_some_and(|name| {
            // An empty one was not given.
            !name.is_empty() && name.trim().is_empty()
        }) {
            self.add("hostnameOverride", "is blank");
        }
    }

    fn periods(&mut self, config: &KubeProxyConfiguration) {
        self.period("configSyncPeriod", config.config_sync_period);
        let (iptables, nftables, ipvs) = (&config.iptables, &config.nftables, &config.ipvs);
        let mode = config.mode.as_deref().unwrap_or_default();
        self.pair("iptables", iptables.sync_period, iptables.min_sync_period);
        self.pair("nftables", nftables.sync_period, nftables.min_sync_period);
        if mode == "ipvs" {
            self.pair("ipvs", ipvs.sync_period, ipvs.min_sync_period);
            for (field, timeout) in [
                ("ipvs.tcpTimeout", ipvs.tcp_timeout),
                ("ipvs.tcpFinTimeout", ipvs.tcp_fin_timeout),
                ("ipvs.udpTimeout", ipvs.udp_timeout),
            ] {
                self.at_least(field, timeout, GoDuration(0));
            }
        }
    }

    fn pair(&mut self, section: &str, sync: Option<GoDuration>, min: Option<GoDuration>) {
        self.period(&format!("{section}.syncPeriod"), sync);
        let field = format!("{section}.minSyncPeriod");
        self.at_least(&field, min, GoDuration(0));
        if let (Some(sync), Some(min)) = (sync, min)
            && min > sync
        {
            self.add(&field, format!("{min} is more than {section}.syncPeriod, {sync}"));
        }
    }

    fn conntrack(&mut self, config: &KubeProxyConfiguration) {
        let conntrack = &config.conntrack;
        self.at_least("conntrack.maxPerCore", conntrack.max_per_core, 0);
        self.at_least("conntrack.min", conntrack.min, 0);
        for (field, timeout) in [
            ("conntrack.tcpEstablishedTimeout", conntrack.tcp_established_timeout),
            ("conntrack.tcpCloseWaitTimeout", conntrack.tcp_close_wait_timeout),
            ("conntrack.udpTimeout", conntrack.udp_timeout),
            ("conntrack.udpStreamTimeout", conntrack.udp_stream_timeout),
        ] {
            self.at_least(field, timeout, GoDuration(0));
        }
    }

    fn addresses(&mut self, config: &KubeProxyConfiguration) {
        let bind = config.bind_address.as_deref().unwrap_or_default();
        if !bind.is_empty() && ip::parse(bind).is_none() {
            self.add("bindAddress", format!("'{bind}' is not an IP address"));
        }
        for (field, text) in [
            ("healthzBindAddress", &config.healthz_bind_address),
            ("metricsBindAddress", &config.metrics_bind_address),
        ] {
            let text = text.as_deref().unwrap_or_default();
            if let Err(words) = text.parse::<BindAddress>() {
                self.add(field, format!("'{text}': {words}"));
            }
        }
        let addresses = config.node_port_addresses.as_deref().unwrap_or_default();
        if addresses != ["primary"] {
            for (index, text) in addresses.iter().enumerate() {
                let field = format!("nodePortAddresses[{index}]");
                if text == "primary" {
                    self.add(&field, "primary must stand alone");
                } else if Cidr::parse(text).is_none() {
                    self.add(&field, format!("'{text}' is not a CIDR"));
                }
            }
        }
    }

    fn detection(&mut self, config: &KubeProxyConfiguration) {
        let cidrs = cluster_cidrs(config);
        let parsed: Vec<Cidr> = cidrs.iter().filter_map(|text| Cidr::parse(text)).collect();
        for text in cidrs.iter().filter(|text| Cidr::parse(text).is_none()) {
            self.add("clusterCIDR", format!("'{text}' is not a CIDR"));
        }
        let families: BTreeSet<_> = parsed.iter().map(|cidr| cidr.family()).collect();
        if families.len() < parsed.len() {
            self.add("clusterCIDR", "takes one range for each address family");
        }
        let detect = &config.detect_local;
        match config.detect_local_mode.as_deref().unwrap_or_default() {
            "" | "ClusterCIDR" | "NodeCIDR" => {}
            "BridgeInterface" => {
                self.interface("detectLocal.bridgeInterface", detect.bridge_interface.as_deref());
            }
            "InterfaceNamePrefix" => {
                let prefix = detect.interface_name_prefix.as_deref();
                self.interface("detectLocal.interfaceNamePrefix", prefix);
            }
            other => self.add(
                "detectLocalMode",
                format!(
                    "'{other}' is not ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix"
                ),
            ),
        }
    }

    fn interface(&mut self, field: &str, name: Option<&str>) {
        match name.unwrap_or_default() {
            "" => self.add(field, "is empty, and detectLocalMode needs it"),
            name if name.len() > INTERFACE_NAME => {
                self.add(field, format!("'{name}' is longer than {INTERFACE_NAME} characters"));
            }
            _ => {}
        }
    }

    fn range(&mut self, field: &str, value: Option<i32>, low: i32, high: i32) {
        if let Some(value) = value.filter(|value| !(low..=high).contains(value)) {
            self.add(field, format!("{value} is not within {low} to {high}"));
        }
    }

    fn period(&mut self, field: &str, value: Option<GoDuration>) {
        if let Some(value) = value.filter(|value| *value <= GoDuration(0)) {
            self.add(field, format!("{value} is not more than 0"));
        }
    }

    fn at_least<T>(&mut self, field: &str, value: Option<T>, low: T)
    where
        T: PartialOrd + std::fmt::Display,
    {
        if let Some(value) = value.filter(|value| *value < low) {
            self.add(field, format!("{value} is less than 0"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::defaults, *};

    fn complaint(body: &str) -> String {
        let config: KubeProxyConfiguration = serde_yaml_ng::from_str(body).unwrap();
        match validate(&defaults::fill(config)) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_kube_proxy_accepts_is_accepted() {
        for body in [
            "{}",
            "mode: nftables",
            "iptables: {masqueradeBit: 31, minSyncPeriod: 10s, syncPeriod: 10s}",
            "clusterCIDR: 10.244.0.0/16",
            "clusterCIDR: 10.244.0.0/016,fd00::/48",
            "nodePortAddresses: [primary]",
            "nodePortAddresses: [10.0.0.0/8, 192.168.001.0/24, fd00::/64]",
            "healthzBindAddress: 127.0.0.1",
            "metricsBindAddress: '[::]:10249'",
            "bindAddress: fd00::1",
            "conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s}",
            "oomScoreAdj: -1000",
            "{detectLocalMode: BridgeInterface, detectLocal: {bridgeInterface: cni0}}",
            // Only the mode that is in use is looked at.
            "ipvs: {minSyncPeriod: 90s}",
        ] {
            assert_eq!(complaint(body), "", "{body}");
        }
    }

    #[test]
    fn what_kube_proxy_refuses_is_refused_with_the_field_s_path() {
        for (body, words) in [
            ("mode: userspace", "mode: 'userspace' is not iptables"),
            ("iptables: {masqueradeBit: 32}", "iptables.masqueradeBit: 32 is not within 0 to 31"),
            ("nftables: {masqueradeBit: -1}", "nftables.masqueradeBit: -1"),
            ("iptables: {syncPeriod: -1s}", "iptables.syncPeriod: -1s is not more than 0"),
            ("iptables: {minSyncPeriod: 31s}", "iptables.minSyncPeriod: 31s is more than"),
            ("{mode: ipvs, ipvs: {minSyncPeriod: 90s}}", "ipvs.minSyncPeriod: 1m30s is more"),
            ("{mode: ipvs, ipvs: {udpTimeout: -1s}}", "ipvs.udpTimeout: -1s is less than 0"),
            ("configSyncPeriod: -1m", "configSyncPeriod: -1m0s"),
            ("bindAddress: node-1", "bindAddress: 'node-1' is not an IP address"),
            ("healthzBindAddress: localhost:1", "healthzBindAddress: 'localhost:1'"),
            ("metricsBindAddress: 1.2.3.4:70000", "metricsBindAddress: '1.2.3.4:70000'"),
            ("clusterCIDR: 10.0.0.0", "clusterCIDR: '10.0.0.0' is not a CIDR"),
            ("clusterCIDR: '10.0.0.0/8,11.0.0.0/8'", "clusterCIDR: takes one range"),
            ("clusterCIDR: '10.0.0.0/8,fd00::/8,fc00::/8'", "clusterCIDR: takes one range"),
            ("nodePortAddresses: [10.0.0.1]", "nodePortAddresses[0]: '10.0.0.1' is not a CIDR"),
            ("nodePortAddresses: ['::/0', primary]", "nodePortAddresses[1]: primary must stand"),
            ("conntrack: {maxPerCore: -1}", "conntrack.maxPerCore: -1 is less than 0"),
            ("conntrack: {udpTimeout: -1s}", "conntrack.udpTimeout: -1s is less than 0"),
            ("oomScoreAdj: 1001", "oomScoreAdj: 1001 is not within -1000 to 1000"),
            ("detectLocalMode: Magic", "detectLocalMode: 'Magic' is not"),
            ("detectLocalMode: BridgeInterface", "detectLocal.bridgeInterface: is empty"),
            (
                "{detectLocalMode: InterfaceNamePrefix, \
                 detectLocal: {interfaceNamePrefix: abcdefghijklmnop}}",
                "detectLocal.interfaceNamePrefix: 'abcdefghijklmnop' is longer",
            ),
            ("logging: {format: xml}", "logging.format: 'xml'"),
            ("hostnameOverride: ' '", "hostnameOverride: is blank"),
        ] {
            let complaint = complaint(body);
            assert!(complaint.contains(words), "{body}: {complaint}");
        }
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let complaint = complaint("{mode: x, oomScoreAdj: 2000}");
        assert!(complaint.contains("mode: ") && complaint.contains("oomScoreAdj: "), "{complaint}");
    }
}
