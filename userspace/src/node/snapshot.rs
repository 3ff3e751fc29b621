// SPDX-License-Identifier: Apache-2.0
//! The node's network at one moment: pod interfaces, and the way to a pod address. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::{
    IfIndex, Uplink, devices,
    select::{self, PodInterface, Selection, is_bridge, pod_interfaces},
    state::State,
    wire::{Prefix, Route},
};

/// Pod interfaces and the tables behind them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Host sides of local pods' veths.
    pub interfaces: Arc<BTreeMap<IfIndex, PodInterface>>,
    /// Devices that lead to the network.
    pub uplinks: Arc<BTreeMap<IfIndex, Uplink>>,
    pub(super) state: Arc<State>,
}

impl Snapshot {
    /// The snapshot of these tables.
    pub fn new(state: Arc<State>, selection: &Selection) -> Self {
        let interfaces = pod_interfaces(&state, selection);
        let uplinks = devices::uplinks(&state, selection, &interfaces);
        let uplinks = uplinks.into_iter().map(|uplink| (uplink.index, uplink));
        let interfaces = interfaces.into_iter().map(|interface| (interface.index, interface));
        Self {
            interfaces: Arc::new(interfaces.collect()),
            uplinks: Arc::new(uplinks.collect()),
            state,
        }
    }

    /// The addresses that the node is known by: those of the uplink with the default route, or of any.
    pub fn node_addresses(&self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let rank = |uplink: &&Uplink| !select::carries_default_route(&self.state, uplink.index);
        let mut uplinks: Vec<&Uplink> = self.uplinks.values().collect();
        uplinks.sort_by_key(rank);
        let v4 = uplinks.iter().find_map(|uplink| uplink.v4);
        (v4, uplinks.iter().find_map(|uplink| uplink.v6))
    }

    /// Whether the loopback device is known.
    pub fn has_loopback(&self) -> bool {
        self.state.links.contains_key(&devices::LOOPBACK)
    }

    /// The name of an interface, and that of the bridge it is a port of.
    pub(super) fn names(&self, index: IfIndex) -> impl Iterator<Item = &str> {
        let link = self.state.links.get(&index);
        let bridge = link.and_then(|link| link.master).filter(|at| is_bridge(&self.state, *at));
        let bridge = bridge.and_then(|bridge| self.state.links.get(&bridge));
        link.into_iter().chain(bridge).map(|link| link.name.as_str())
    }

    /// Every address that the node answers at, in order.
    pub fn addresses(&self) -> Vec<IpAddr> {
        devices::addresses(&self.state)
    }

    /// The pod interface to which the host's stack delivers packets for the address: over a route to
    /// the pod's veth, or over a bridge and what it has learned. `None` if it is not a local pod's,
    /// or not known yet.
    ///
    /// Reads the main table only: policy routing rules are not followed.
    pub fn resolve(&self, ip: IpAddr) -> Option<IfIndex> {
        let (route, oif) = self.direct(ip)?;
        if self.interfaces.contains_key(&oif) {
            let known = route.prefix.is_host() || self.state.neighbours.contains_key(&(oif, ip));
            return known.then_some(oif);
        }
        if !is_bridge(&self.state, oif) {
            return None;
        }
        let mac = self.state.neighbours.get(&(oif, ip))?;
        let port = self.state.forwarding.get(&(oif, *mac))?;
        self.interfaces.contains_key(port).then_some(*port)
    }

    /// The device on whose link the stack would look for the address.
    pub(super) fn on_link(&self, ip: IpAddr) -> Option<IfIndex> {
        self.direct(ip).map(|(_, oif)| oif)
    }

    /// The route to an address that is no router away, and not the node's own.
    fn direct(&self, ip: IpAddr) -> Option<(&Route, IfIndex)> {
        let route = self.route(ip)?;
        let [oif] = route.oifs[..] else { return None };
        let is_direct = route.unicast && !route.gateway && !self.is_node_address(ip);
        is_direct.then_some((route, oif))
    }

    /// Names of the interfaces that carry a default route.
    pub fn default_route_interfaces(&self) -> Vec<String> {
        let routes = self.state.routes.values().flatten().filter(|route| route.prefix.len == 0);
        let links =
            routes.flat_map(|route| &route.oifs).filter_map(|oif| self.state.links.get(oif));
        let mut names: Vec<String> = links.map(|link| link.name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    fn route(&self, ip: IpAddr) -> Option<&Route> {
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        let routes =
            (0..=longest).rev().find_map(|len| self.state.routes.get(&Prefix::of(ip, len)))?;
        routes.iter().min_by_key(|route| route.metric)
    }

    fn is_node_address(&self, ip: IpAddr) -> bool {
        self.state.addresses.iter().any(|address| address.ip == ip)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            state::tests::{address, bridge, learned, neighbour, route, state, veth},
            wire::{Event, Link},
        },
        *,
    };

    fn resolve(events: impl IntoIterator<Item = Event>, ip: &str) -> Option<u32> {
        let snapshot = Snapshot::new(Arc::new(state(events)), &Selection::default());
        snapshot.resolve(ip.parse().unwrap()).map(|index| index.0)
    }

    fn bridged() -> Vec<Event> {
        vec![
            Event::Link(veth(2, "eth0")),
            route("0.0.0.0/0", 2),
            Event::Link(bridge(3)),
            address(3, "10.244.1.1/24"),
            route("10.244.1.0/24", 3),
            Event::Link(Link { master: Some(IfIndex(3)), ..veth(7, "a") }),
            Event::Link(Link { master: Some(IfIndex(3)), ..veth(8, "b") }),
            neighbour(3, "10.244.1.9", 9),
            learned(8, 3, 9),
        ]
    }

    #[test]
    fn a_host_route_leads_to_its_veth() {
        let events = || {
            [
                Event::Link(veth(7, "a")),
                Event::Link(veth(8, "b")),
                route("10.244.0.0/16", 8),
                route("10.244.0.9/32", 7),
                route("fd00::9/128", 7),
            ]
        };
        assert_eq!(resolve(events(), "10.244.0.9"), Some(7));
        assert_eq!(resolve(events(), "fd00::9"), Some(7));
        assert_eq!(resolve(events(), "10.244.0.8"), None, "a network route needs a neighbour");
    }

    #[test]
    fn a_bridge_leads_to_the_port_that_learned_the_neighbour() {
        assert_eq!(resolve(bridged(), "10.244.1.9"), Some(8));
        assert_eq!(resolve(bridged(), "10.244.1.8"), None, "no neighbour");
        assert_eq!(resolve(bridged(), "10.244.1.1"), None, "the bridge's own address");
        assert_eq!(resolve(bridged(), "192.0.2.1"), None, "behind the default route");
    }

    #[test]
    fn a_neighbour_that_moves_to_another_port_is_followed() {
        let mut events = bridged();
        events.push(learned(7, 3, 9));
        assert_eq!(resolve(events, "10.244.1.9"), Some(7));
    }

    #[test]
    fn a_more_specific_route_elsewhere_wins_over_the_bridge() {
        let mut events = bridged();
        events.push(route("10.244.1.9/32", 2));
        assert_eq!(resolve(events, "10.244.1.9"), None);
    }
}
