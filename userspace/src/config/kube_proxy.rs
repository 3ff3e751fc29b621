// SPDX-License-Identifier: Apache-2.0
//! KubeProxyConfiguration, `kubeproxy.config.k8s.io/v1alpha1`, as it is written.
//!
//! A field that is absent, null or (where the API says so) zero takes its default in
//! [`super::defaults`]; here it is `None`. Every field is written back, so a serialized default
//! names all fields there are: [`super::decode`] takes it as the schema.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::duration::GoDuration;

/// The only version there is.
pub const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// The kind.
pub const KIND: &str = "KubeProxyConfiguration";

/// The configuration of a kube-proxy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KubeProxyConfiguration {
    /// [`API_VERSION`].
    pub api_version: Option<String>,
    /// [`KIND`].
    pub kind: Option<String>,
    /// Features switched on or off by name.
    pub feature_gates: Option<BTreeMap<String, bool>>,
    /// How to speak with the API server.
    #[serde(deserialize_with = "null_is_default")]
    pub client_connection: ClientConnection,
    /// The log.
    #[serde(deserialize_with = "null_is_default")]
    pub logging: Logging,
    /// Name of the node, in place of the host's.
    pub hostname_override: Option<String>,
    /// The node's own address, if it is specific; its family is the primary one.
    pub bind_address: Option<String>,
    /// Address of /healthz and /livez.
    pub healthz_bind_address: Option<String>,
    /// Address of /metrics.
    pub metrics_bind_address: Option<String>,
    /// An address that is taken ends the process.
    pub bind_address_hard_fail: Option<bool>,
    /// Go's profiler; there is none here.
    pub enable_profiling: Option<bool>,
    /// Metrics of an earlier version; there are none here.
    pub show_hidden_metrics_for_version: Option<String>,
    /// `iptables`, `nftables` or `ipvs`.
    pub mode: Option<String>,
    /// For mode `iptables`, and in part for `ipvs`.
    #[serde(deserialize_with = "null_is_default")]
    pub iptables: IpTables,
    /// For mode `ipvs`.
    #[serde(deserialize_with = "null_is_default")]
    pub ipvs: Ipvs,
    /// For mode `nftables`.
    #[serde(deserialize_with = "null_is_default")]
    pub nftables: NfTables,
    /// For Windows.
    pub winkernel: Option<Value>,
    /// How a local pod's traffic is recognized.
    pub detect_local_mode: Option<String>,
    /// Parameters of that.
    #[serde(deserialize_with = "null_is_default")]
    pub detect_local: Detect,
    /// The pods' addresses, one range for each family, separated by a comma.
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: Option<String>,
    /// Ranges of the addresses that have node ports, or `primary`.
    pub node_port_addresses: Option<Vec<String>>,
    /// How gladly the kernel kills this process when memory is short.
    pub oom_score_adj: Option<i32>,
    /// Settings of netfilter's connection tracking.
    #[serde(deserialize_with = "null_is_default")]
    pub conntrack: ConntrackSection,
    /// How often everything is listed again; watches make that needless.
    pub config_sync_period: Option<GoDuration>,
    /// Of no effect in kube-proxy either.
    pub port_range: Option<String>,
    /// For Windows.
    pub windows_run_as_service: Option<bool>,
}

/// `clientConnection`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientConnection {
    /// Path of a kubeconfig; none for the pod's service account.
    pub kubeconfig: Option<String>,
    /// Ignored.
    pub accept_content_types: Option<String>,
    /// Ignored.
    pub content_type: Option<String>,
    /// Requests per second.
    pub qps: Option<f32>,
    /// Requests at once.
    pub burst: Option<i32>,
}

/// `logging`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Logging {
    /// `text` or `json`.
    pub format: Option<String>,
    /// Ignored: nothing is held back.
    pub flush_frequency: Option<Value>,
    /// klog's level.
    pub verbosity: Option<u32>,
    /// Ignored.
    pub vmodule: Option<Value>,
    /// Ignored.
    pub options: Option<Value>,
}

/// `iptables`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IpTables {
    /// Bit of the packet mark.
    pub masquerade_bit: Option<i32>,
    /// Masquerade whatever goes to a cluster address.
    pub masquerade_all: Option<bool>,
    /// Node ports also at 127.0.0.1.
    pub localhost_node_ports: Option<bool>,
    /// Time between repairs.
    pub sync_period: Option<GoDuration>,
    /// Time between changes.
    pub min_sync_period: Option<GoDuration>,
}

/// `nftables`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NfTables {
    /// Bit of the packet mark.
    pub masquerade_bit: Option<i32>,
    /// Masquerade whatever goes to a cluster address.
    pub masquerade_all: Option<bool>,
    /// Time between repairs.
    pub sync_period: Option<GoDuration>,
    /// Time between changes.
    pub min_sync_period: Option<GoDuration>,
}

/// `ipvs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ipvs {
    /// Time between repairs.
    pub sync_period: Option<GoDuration>,
    /// Time between changes.
    pub min_sync_period: Option<GoDuration>,
    /// How a backend is chosen.
    pub scheduler: Option<String>,
    /// Ignored: nothing of IPVS is touched.
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Option<Vec<String>>,
    /// Ignored: no address is bound.
    #[serde(rename = "strictARP")]
    pub strict_arp: Option<bool>,
    /// Ignored.
    pub tcp_timeout: Option<GoDuration>,
    /// Ignored.
    pub tcp_fin_timeout: Option<GoDuration>,
    /// Ignored.
    pub udp_timeout: Option<GoDuration>,
}

/// `detectLocal`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Detect {
    /// For mode `BridgeInterface`.
    pub bridge_interface: Option<String>,
    /// For mode `InterfaceNamePrefix`.
    pub interface_name_prefix: Option<String>,
}

/// `conntrack`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConntrackSection {
    /// Connections for each CPU; 0 leaves the limit alone.
    pub max_per_core: Option<i32>,
    /// Connections at least.
    pub min: Option<i32>,
    /// Idle time of an established TCP connection; 0 leaves it alone.
    pub tcp_established_timeout: Option<GoDuration>,
    /// Idle time in CLOSE_WAIT; 0 leaves it alone.
    pub tcp_close_wait_timeout: Option<GoDuration>,
    /// Packets out of their window are not INVALID.
    pub tcp_be_liberal: Option<bool>,
    /// Idle time of a UDP connection without answer; 0 leaves it alone.
    pub udp_timeout: Option<GoDuration>,
    /// Idle time of a UDP connection with answers; 0 leaves it alone.
    pub udp_stream_timeout: Option<GoDuration>,
}

/// Go decodes a null as if the field were not there.
fn null_is_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
