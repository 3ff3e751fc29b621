// SPDX-License-Identifier: Apache-2.0
//! kube-proxy's rules for given services, without kube-proxy: [`iptables`] as its iptables mode writes
//! them, [`nftables`] as its nftables mode does, [`ipvs`] as its IPVS mode does; [`loader`] brings them
//! into the kernel.

use std::net::{IpAddr, SocketAddr};

use crate::topology::Family;

pub mod iptables;
pub mod ipvs;
pub mod loader;
mod names;
pub mod nftables;

pub use iptables::iptables_mode;
pub use ipvs::ipvs_mode;
pub use loader::{Iptables, nft, ruleset};
pub use nftables::nftables_mode;

/// One port of a service with its endpoints.
#[derive(Clone, Debug)]
pub struct ServiceRules {
    /// `namespace/name:port`, for comments and names.
    pub name: String,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// ClusterIP and port.
    pub frontend: SocketAddr,
    /// Pod addresses; none means the service is refused.
    pub endpoints: Vec<SocketAddr>,
    /// Its node port.
    pub node_port: Option<u16>,
}

impl ServiceRules {
    /// `count` services with five endpoints each that nobody listens at.
    pub fn many(family: Family, count: u16) -> Vec<ServiceRules> {
        let ip = |first: u16, number: u16| -> IpAddr {
            let [high, low] = number.to_be_bytes();
            match family {
                Family::V4 => [10, first as u8, high, low].into(),
                Family::V6 => [0xfd00, 0x10, first, 0, 0, 0, 0, number].into(),
            }
        };
        let service = |number: u16| ServiceRules {
            name: format!("shop/many-{number}:http"),
            protocol: if number.is_multiple_of(3) { "udp" } else { "tcp" },
            frontend: SocketAddr::new(ip(97, number), 80),
            endpoints: (0..5).map(|n| SocketAddr::new(ip(128 + n, number), 8080)).collect(),
            node_port: (number.is_multiple_of(4)).then_some(30_000 + number / 4),
        };
        (0..count).map(service).collect()
    }

    /// `count` services like the documented example: `ns1/svc1:p80` at 172.30.0.1, and so on.
    #[cfg(test)]
    fn examples(count: u8, endpoints: u8) -> Vec<ServiceRules> {
        let service = |number: u8| ServiceRules {
            name: format!("ns{number}/svc{number}:p80"),
            protocol: "tcp",
            frontend: SocketAddr::new([172, 30, 0, number].into(), 80),
            endpoints: (1..=endpoints)
                .map(|endpoint| SocketAddr::new([10, 180, number - 1, endpoint].into(), 80))
                .collect(),
            node_port: None,
        };
        (1..=count).map(service).collect()
    }
}

/// The addresses of all pods, which kube-proxy does not masquerade.
fn pod_range(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.244.0.0/16",
        Family::V6 => "fd00:10:244::/48",
    }
}

/// The family of services; all have the same.
fn family(services: &[ServiceRules]) -> Family {
    match services.first().map(|service| service.frontend) {
        Some(SocketAddr::V6(_)) => Family::V6,
        _ => Family::V4,
    }
}
