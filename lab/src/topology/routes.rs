// SPDX-License-Identifier: Apache-2.0
//! What nodes and their router may be told beyond the usual: other ways, and neighbours.

use anyhow::Result;

use super::{Family, World};
use crate::device::Device;
use crate::netns::NetNs;

impl World {
    /// Tells every node where the router and the other nodes are, so that nobody has to ask.
    pub fn know_neighbours(&self) -> Result<()> {
        let mac_of = |ns: &NetNs, device: &str| -> Result<String> {
            let mac = Device::new(ns, device).mac()?;
            Ok(mac.map(|byte| format!("{byte:02x}")).join(":"))
        };
        let mut lines = Vec::new();
        let mut tell = |[v4, v6]: [String; 2], mac: String| {
            for ip in [v4, v6] {
                lines.push(format!("neigh replace {ip} lladdr {mac} dev eth0 nud permanent"));
            }
        };
        let router = ["192.168.77.254", "fd00:77::fe"].map(str::to_owned);
        tell(router, mac_of(&self.underlay.ns, "switch")?);
        for node in &self.nodes {
            tell(Family::BOTH.map(|family| node.ip_of(family).to_string()), mac_of(node, "eth0")?);
        }
        self.nodes.iter().try_for_each(|node| node.ip(&lines))
    }

    /// From now on whoever is outside reaches all pods by way of the first node, and they answer by it.
    pub fn route_pods_by_first(&self) -> Result<()> {
        // The node would tell the router of shorter ways.
        for device in ["all", "eth0"] {
            let redirects = format!("net/ipv4/conf/{device}/send_redirects");
            self.nodes[0].set_sysctls(&[(&redirects, "0")])?;
        }
        for node in &self.nodes[1..] {
            node.ns.ip(&[
                "route add 198.51.100.0/24 via 192.168.77.1".into(),
                "route add fd00:51::/64 via fd00:77::1".into(),
            ])?;
        }
        self.underlay.ns.ip(&[
            "route add 10.244.0.0/16 via 192.168.77.1 dev switch".into(),
            "route add fd00:10:244::/48 via fd00:77::1 dev switch".into(),
        ])
    }
}
