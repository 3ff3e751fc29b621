// SPDX-License-Identifier: Apache-2.0
//! The configuration as the rest of the agent reads it: complete, valid, typed.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::{
    model::{cidr::Cidr, ip, service::BackendSelection},
    plan::maglev::TableSize,
};

/// Port of /healthz where none is given.
pub const HEALTHZ_PORT: u16 = 10256;
/// Port of /metrics where none is given.
pub const METRICS_PORT: u16 = 10249;

/// What the agent shall do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Name of this node, as in its Node object.
    pub node_name: String,
    /// Whose behaviour is followed where kube-proxy's modes differ.
    pub mode: Mode,
    /// The node's own address where that was given; its family is the primary one.
    pub bind_address: Option<IpAddr>,
    /// Where /healthz, /livez and /readyz are served.
    pub healthz_bind_address: Option<SocketAddr>,
    /// Where /metrics and its like are served.
    pub metrics_bind_address: Option<SocketAddr>,
    /// What happens when one of these addresses is taken.
    pub bind_failure: BindFailure,
    /// How traffic of pods is told from other traffic.
    pub detect_local: DetectLocal,
    /// Whatever goes to a cluster address is masqueraded.
    pub masquerade_all: bool,
    /// Bit of the packet mark that kube-proxy would have used.
    pub masquerade_bit: u8,
    /// Addresses of the node that have node ports.
    pub node_port_addresses: NodePortAddresses,
    /// Node ports also at loopback addresses.
    pub localhost_node_ports: bool,
    /// An address of the cluster's ranges that no service has.
    pub unallocated: Unallocated,
    /// `externalIPs` count (feature gate AllowServiceExternalIPs).
    pub external_ips: bool,
    /// How the backend of a new connection from outside is chosen.
    pub backend_selection: BackendSelection,
    /// Size of Maglev's tables.
    pub table_size: TableSize,
    /// kube-proxy's period of repairs; something that is pending for twice as long is unhealthy.
    #[serde(serialize_with = "seconds")]
    pub sync_period: Duration,
    /// How gladly the kernel kills the agent when memory is short; `None` leaves it alone.
    pub oom_score_adj: Option<i32>,
    /// Settings of netfilter's connection tracking.
    pub conntrack: Conntrack,
    /// How to reach the API server.
    pub api: Api,
    /// The log.
    pub log: Log,
}

/// Whose behaviour is followed where kube-proxy's modes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Our own choice; nobody configured a mode.
    Pintle,
    /// kube-proxy's iptables mode.
    Iptables,
    /// kube-proxy's nftables mode.
    Nftables,
    /// kube-proxy's ipvs mode.
    Ipvs,
}

/// The modes that can be configured, by their words.
pub const MODES: [(&str, Mode); 3] =
    [("iptables", Mode::Iptables), ("nftables", Mode::Nftables), ("ipvs", Mode::Ipvs)];

impl Mode {
    /// The answer to `/proxyMode`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pintle => "pintle",
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Ipvs => "ipvs",
        }
    }
}

/// What happens when an address to listen on is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BindFailure {
    /// It is tried again; the agent goes on without.
    Retry,
    /// The agent ends.
    Exit,
}

/// How traffic of pods is told from other traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DetectLocal {
    /// By source address: that of any pod of the cluster.
    ClusterCidr {
        /// Pods' IPv4 addresses.
        v4: Option<Cidr>,
        /// Pods' IPv6 addresses.
        v6: Option<Cidr>,
    },
    /// By source address: in the ranges of our Node object.
    NodeCidr,
    /// By the bridge it comes from.
    BridgeInterface(String),
    /// By how the name of the interface that it comes from begins.
    InterfaceNamePrefix(String),
    /// By the interface that it comes from: one of those that we know as pods'.
    PodInterfaces,
}

/// Addresses of the node that have node ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum NodePortAddresses {
    /// All of them.
    All,
    /// The Node object's first of each family.
    Primary,
    /// Those in one of these ranges, at least one of each family.
    Cidrs(Vec<Cidr>),
}

/// What becomes of packets to an address of the cluster's ranges that no service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unallocated {
    /// They are none of our business.
    Pass,
    /// They are dropped.
    Drop,
}

/// Settings of netfilter's connection tracking; what is zero or absent is left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Conntrack {
    /// Connections for each CPU.
    pub max_per_core: u32,
    /// Connections at least, if there is a limit for each CPU.
    pub min: u32,
    /// Idle time of an established TCP connection.
    #[serde(serialize_with = "seconds")]
    pub tcp_established: Duration,
    /// Idle time in CLOSE_WAIT.
    #[serde(serialize_with = "seconds")]
    pub tcp_close_wait: Duration,
    /// Packets out of their window are not INVALID.
    pub tcp_be_liberal: bool,
    /// Idle time of a UDP connection without answer.
    #[serde(serialize_with = "seconds")]
    pub udp: Duration,
    /// Idle time of a UDP connection with answers.
    #[serde(serialize_with = "seconds")]
    pub udp_stream: Duration,
}

/// How to reach the API server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Api {
    /// A kubeconfig; `None` for the service account of our pod.
    pub kubeconfig: Option<PathBuf>,
    /// The server's address in place of the kubeconfig's.
    pub master: Option<String>,
    /// Requests per second.
    pub qps: f32,
    /// Requests at once.
    pub burst: u32,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// Its form.
    pub format: LogFormat,
    /// What is logged: a level or a filter.
    pub filter: String,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// Nothing listens.
    Nowhere,
    /// Listen there.
    At {
        /// The address.
        ip: IpAddr,
        /// The port; `None` for the usual one.
        port: Option<u16>,
    },
}

impl BindAddress {
    /// Where to listen if `port` is the usual one.
    pub fn with_port(self, port: u16) -> Option<SocketAddr> {
        match self {
            Self::Nowhere => None,
            Self::At { ip, port: given } => Some(SocketAddr::new(ip, given.unwrap_or(port))),
        }
    }
}

impl FromStr for BindAddress {
    type Err = String;

    /// `IP:PORT`, `[IP]:PORT`, `IP`, `[IP]`, `:PORT` or nothing.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Nowhere);
        }
        let (host, port) = match text.rsplit_once(':') {
            // The colon of an address without port.
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => (text, None),
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let ip = match bare {
            "" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            bare => ip::parse(bare),
        };
        let refuse = || "give IP:PORT, or nothing".to_owned();
        let port = port.map(str::parse).transpose().map_err(|_| refuse())?;
        Ok(Self::At { ip: ip.ok_or_else(refuse)?, port })
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_listen_on_may_lack_host_or_port() {
        for (text, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("127.0.0.1", "127.0.0.1:10256"),
            (":1", "0.0.0.0:1"),
            ("[::]:1", "[::]:1"),
            ("[::1]", "[::1]:10256"),
            ("::1", "[::1]:10256"),
            ("fd00::a:1", "[fd00::a:1]:10256"),
            ("10.0.0.01:1", "10.0.0.1:1"),
        ] {
            let address: BindAddress = text.parse().unwrap();
            let address = address.with_port(HEALTHZ_PORT).map(|address| address.to_string());
            assert_eq!(address.as_deref(), Some(expected), "{text}");
        }
        assert_eq!("".parse(), Ok(BindAddress::Nowhere));
        for text in ["localhost:1", "1.2.3.4:", "1.2.3.4:99999", "[::1:1", "eth0"] {
            assert!(text.parse::<BindAddress>().is_err(), "{text}");
        }
    }
}
