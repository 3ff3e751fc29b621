// SPDX-License-Identifier: Apache-2.0
//! The planned health checks of services, kept answered at the node's addresses as both change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::{Shared, lock};
use crate::{
    config::resolved::NodePortAddresses,
    model::{cidr::Cidr, cluster::Node, ip::Family, name::ServiceName},
    node::Snapshot,
    plan::health::HealthCheck,
    server::{health::ProxyHealth, service_health::ServiceHealth},
};

/// The servers, and what they were told last.
pub struct HealthChecks {
    servers: ServiceHealth,
    node_ports: NodePortAddresses,
    checks: BTreeMap<ServiceName, HealthCheck>,
    addresses: BTreeSet<IpAddr>,
}

impl HealthChecks {
    /// Nothing is answered yet.
    pub fn new(proxy: Arc<ProxyHealth>, node_ports: NodePortAddresses) -> Self {
        Self {
            servers: ServiceHealth::new(proxy),
            node_ports,
            checks: BTreeMap::new(),
            addresses: BTreeSet::new(),
        }
    }

    /// Makes the servers as planned now; costs a comparison if nothing has changed.
    pub async fn follow(&mut self, agent: &Shared) {
        let changed = {
            let agent = lock(agent);
            let checks = agent.planner.health_checks();
            if checks.is_empty() && self.checks.is_empty() {
                return;
            }
            let node = agent.planner.node().map(Arc::as_ref);
            let addresses = addresses(&self.node_ports, &agent.network, node);
            let changed = *checks != self.checks || addresses != self.addresses;
            if changed {
                self.checks = checks.clone();
                self.addresses = addresses;
            }
            changed
        };
        if changed {
            self.servers.apply(&self.checks, &self.addresses).await;
        }
        let failures = self.servers.failures().map(|(service, failure)| {
            format!("health check of {service} at {}: {}", failure.address, failure.error)
        });
        lock(agent).unanswered = failures.collect();
    }

    /// Tries again what failed.
    pub fn retry(&mut self) {
        self.servers.retry();
    }
}

/// Where a health check is answered: the addresses with node ports, for all of a family one that
/// stands for them.
fn addresses(
    node_ports: &NodePortAddresses,
    network: &Snapshot,
    node: Option<&Node>,
) -> BTreeSet<IpAddr> {
    match node_ports {
        NodePortAddresses::All => Family::ALL.map(unspecified).into(),
        NodePortAddresses::Primary => {
            Family::ALL.iter().filter_map(|family| node?.primary_ip(*family)).collect()
        }
        NodePortAddresses::Cidrs(cidrs) => {
            let whole = |family: Family| cidrs.contains(&Cidr::all(family));
            let own = network.addresses().into_iter();
            let allowed = own.filter(|ip| {
                !whole(Family::of(*ip)) && cidrs.iter().any(|cidr| cidr.contains(*ip))
            });
            allowed.chain(Family::ALL.into_iter().filter(|f| whole(*f)).map(unspecified)).collect()
        }
    }
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::ObjectName;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn node() -> Node {
        Node {
            name: ObjectName::cluster("n1"),
            zone: None,
            internal_ips: [ip("10.0.0.1"), ip("10.0.0.2")].into(),
            external_ips: [ip("2001:db8::1")].into(),
            pod_cidrs: [].into(),
            is_leaving: false,
            labels: Default::default(),
        }
    }

    #[test]
    fn health_checks_are_where_node_ports_are() {
        let check = |node_ports: NodePortAddresses, expected: &[&str]| {
            let found = addresses(&node_ports, &Snapshot::default(), Some(&node()));
            let expected: BTreeSet<IpAddr> = expected.iter().map(|text| ip(text)).collect();
            assert_eq!(found, expected, "{node_ports:?}");
        };
        check(NodePortAddresses::All, &["0.0.0.0", "::"]);
        check(NodePortAddresses::Primary, &["10.0.0.1", "2001:db8::1"]);
        let cidrs = ["10.0.0.0/8", "::/0"].map(|text| Cidr::parse(text).unwrap());
        check(NodePortAddresses::Cidrs(cidrs.into()), &["::"]);
        let nowhere = addresses(&NodePortAddresses::Primary, &Snapshot::default(), None);
        assert_eq!(nowhere, BTreeSet::new());
    }
}
