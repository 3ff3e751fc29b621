// SPDX-License-Identifier: Apache-2.0
//! The tables that netlink events add up to. Pure.
//!
//! Where the kernel removes something silently (IPv4 routes of a link that went down, a peer that
//! moved to another namespace), the fold either does the same or asks for a fresh dump.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use super::{
    IfIndex,
    wire::{Address, Event, Link, Mac, Prefix, Route},
};

/// What a change asks the caller to do; the greatest of several wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing that matters has changed.
    #[default]
    None,
    /// The tables have changed.
    Changed,
    /// The event does not tell enough: read everything again.
    Resync,
}

/// Links, addresses, routes, neighbours and bridge tables of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Every link.
    pub links: BTreeMap<IfIndex, Link>,
    /// Every address.
    pub addresses: BTreeSet<Address>,
    /// Routes of the main table.
    pub routes: HashMap<Prefix, Vec<Route>>,
    /// Link-layer addresses of neighbours that answered.
    pub neighbours: HashMap<(IfIndex, IpAddr), Mac>,
    /// Bridge and link-layer address → port.
    pub forwarding: HashMap<(IfIndex, Mac), IfIndex>,
    /// tcx programs of others that redirected packets would not meet.
    pub foreign_programs: BTreeMap<IfIndex, String>,
    /// clsact filters of others that redirected packets would not meet.
    pub foreign_filters: BTreeMap<IfIndex, String>,
}

impl State {
    /// Takes in one event.
    pub fn fold(&mut self, event: Event) -> Effect {
        match event {
            Event::Link(link) => self.link(link),
            Event::LinkGone(index) => self.link_gone(index),
            Event::Address(address) => changed(self.addresses.insert(address)),
            // Routes that prefer the address as their source go with it, unannounced.
            Event::AddressGone(address) => match self.addresses.remove(&address) {
                true => Effect::Resync,
                false => Effect::None,
            },
            Event::Route { route, replace } => self.route(route, replace),
            Event::RouteGone(route) => self.route_gone(&route),
            Event::Neighbour { index, ip, mac: Some(mac) } => {
                changed(self.neighbours.insert((index, ip), mac) != Some(mac))
            }
            Event::Neighbour { index, ip, mac: None } => {
                changed(self.neighbours.remove(&(index, ip)).is_some())
            }
            Event::Forwarding { port, bridge, mac, forgotten: false } => {
                changed(self.forwarding.insert((bridge, mac), port) != Some(port))
            }
            // Redirected packets do not pass the bridge, so its entry for an active pod ages out.
            // The port is still where the address lives until another one claims it.
            Event::Forwarding { forgotten: true, .. } => Effect::None,
            // Whoever follows the events looks at the filters of that link.
            Event::Filters(_) => Effect::None,
            // The event names the old or the new discipline; the link's own report is definite.
            Event::RootQdisc(index) => match self.links.contains_key(&index) {
                true => Effect::Resync,
                false => Effect::None,
            },
        }
    }

    fn link(&mut self, link: Link) -> Effect {
        let index = link.index;
        let old = self.links.get(&index);
        if old == Some(&link) {
            return Effect::None;
        }
        let moved = old.is_some_and(|old| old.master != link.master);
        let went_down = old.is_some_and(|old| old.up) && !link.up;
        self.links.insert(index, link);
        if moved {
            self.forget_port(index);
        }
        if went_down {
            self.forget_routes(index);
        }
        Effect::Changed
    }

    fn link_gone(&mut self, index: IfIndex) -> Effect {
        if self.links.remove(&index).is_none() {
            return Effect::None;
        }
        self.foreign_programs.remove(&index);
        self.foreign_filters.remove(&index);
        self.forget_port(index);
        self.forget_routes(index);
        self.addresses.retain(|address| address.index != index);
        self.neighbours.retain(|(on, _), _| *on != index);
        self.forwarding.retain(|(bridge, _), _| *bridge != index);
        // One end of a veth pair left: the other end reports its new namespace only when asked.
        let other_end = |link: &Link| link.peer == Some(index) && !link.peer_elsewhere;
        if self.links.values().any(other_end) { Effect::Resync } else { Effect::Changed }
    }

    /// Forgets what was learned through a bridge port, addresses of its pod included.
    fn forget_port(&mut self, port: IfIndex) {
        let mut gone = Vec::new();
        self.forwarding.retain(|key, at| {
            let keep = *at != port;
            if !keep {
                gone.push(*key);
            }
            keep
        });
        self.neighbours.retain(|(index, _), mac| !gone.contains(&(*index, *mac)));
    }

    fn forget_routes(&mut self, index: IfIndex) {
        self.routes.retain(|_, routes| {
            routes.retain(|route| !route.oifs.contains(&index));
            !routes.is_empty()
        });
    }

    fn route(&mut self, route: Route, replace: bool) -> Effect {
        let routes = self.routes.entry(route.prefix).or_default();
        if replace {
            routes.retain(|other| other.metric != route.metric);
        } else if routes.contains(&route) {
            return Effect::None;
        }
        routes.push(route);
        Effect::Changed
    }

    fn route_gone(&mut self, route: &Route) -> Effect {
        let Some(routes) = self.routes.get_mut(&route.prefix) else { return Effect::None };
        let before = routes.len();
        routes.retain(|other| other != route);
        match before - routes.len() {
            // A next hop of a multipath route, or one that we hold in another form.
            0 => Effect::Resync,
            _ if routes.is_empty() => {
                self.routes.remove(&route.prefix);
                Effect::Changed
            }
            _ => Effect::Changed,
        }
    }
}

fn changed(changed: bool) -> Effect {
    if changed { Effect::Changed } else { Effect::None }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn veth(index: u32, name: &str) -> Link {
        Link {
            index: IfIndex(index),
            name: name.into(),
            kind: "veth".into(),
            mtu: 1500,
            up: true,
            carrier: true,
            mac: None,
            qdisc: "noqueue".into(),
            master: None,
            peer: Some(IfIndex(2)),
            peer_elsewhere: true,
        }
    }

    pub fn bridge(index: u32) -> Link {
        Link { kind: "bridge".into(), peer: None, peer_elsewhere: false, ..veth(index, "cni0") }
    }

    pub fn route(prefix: &str, oif: u32) -> Event {
        let (ip, len) = prefix.split_once('/').unwrap();
        let prefix = Prefix::of(ip.parse().unwrap(), len.parse().unwrap());
        let oifs = vec![IfIndex(oif)];
        let route = Route { prefix, metric: 0, oifs, gateway: len == "0", unicast: true };
        Event::Route { route, replace: false }
    }

    pub fn address(index: u32, prefix: &str) -> Event {
        let (ip, len) = prefix.split_once('/').unwrap();
        let (ip, len) = (ip.parse().unwrap(), len.parse().unwrap());
        Event::Address(Address { index: IfIndex(index), ip, len, global: true })
    }

    pub fn neighbour(index: u32, ip: &str, mac: u8) -> Event {
        Event::Neighbour { index: IfIndex(index), ip: ip.parse().unwrap(), mac: Some([mac; 6]) }
    }

    pub fn learned(port: u32, bridge: u32, mac: u8) -> Event {
        let (port, bridge) = (IfIndex(port), IfIndex(bridge));
        Event::Forwarding { port, bridge, mac: [mac; 6], forgotten: false }
    }

    pub fn state(events: impl IntoIterator<Item = Event>) -> State {
        let mut state = State::default();
        for event in events {
            state.fold(event);
        }
        state
    }

    #[test]
    fn the_same_event_twice_changes_nothing_the_second_time() {
        let events = || {
            [
                Event::Link(veth(7, "a")),
                address(7, "10.0.0.1/32"),
                route("10.0.0.9/32", 7),
                neighbour(7, "10.0.0.9", 9),
                learned(7, 3, 9),
            ]
        };
        let mut state = State::default();
        for event in events() {
            assert_eq!(state.fold(event), Effect::Changed);
        }
        for event in events() {
            assert_eq!(state.fold(event), Effect::None);
        }
    }

    #[test]
    fn a_link_takes_everything_that_hangs_on_it_along() {
        let mut state = state([
            Event::Link(bridge(3)),
            Event::Link(Link { master: Some(IfIndex(3)), ..veth(7, "a") }),
            address(7, "10.0.0.1/32"),
            route("10.0.0.9/32", 7),
            neighbour(3, "10.0.0.9", 9),
            learned(7, 3, 9),
        ]);
        assert_eq!(state.fold(Event::LinkGone(IfIndex(7))), Effect::Changed);
        assert_eq!(state, super::tests::state([Event::Link(bridge(3))]));
    }

    #[test]
    fn a_link_that_goes_down_loses_its_routes_unannounced() {
        let mut state = state([Event::Link(veth(7, "a")), route("10.0.0.9/32", 7)]);
        let down = Link { up: false, ..veth(7, "a") };
        assert_eq!(state.fold(Event::Link(down)), Effect::Changed);
        assert!(state.routes.is_empty());
    }

    #[test]
    fn a_peer_that_leaves_the_namespace_asks_for_a_resync() {
        let here = |index, peer| Link {
            peer: Some(IfIndex(peer)),
            peer_elsewhere: false,
            ..veth(index, "v")
        };
        let mut state = state([Event::Link(here(7, 8)), Event::Link(here(8, 7))]);
        assert_eq!(state.fold(Event::LinkGone(IfIndex(8))), Effect::Resync);
    }

    #[test]
    fn an_unknown_form_of_a_known_route_asks_for_a_resync() {
        let mut state = state([route("10.0.0.9/32", 7)]);
        let Event::Route { route: other, .. } = route("10.0.0.9/32", 8) else { unreachable!() };
        assert_eq!(state.fold(Event::RouteGone(other)), Effect::Resync);
    }

    #[test]
    fn a_bridge_entry_that_ages_out_is_remembered_until_its_port_goes() {
        let (port, bridge, mac) = (IfIndex(7), IfIndex(3), [9; 6]);
        let mut state = state([Event::Link(veth(7, "a")), learned(7, 3, 9)]);
        let aged = Event::Forwarding { port, bridge, mac, forgotten: true };
        assert_eq!(state.fold(aged), Effect::None);
        assert_eq!(state.forwarding.get(&(bridge, mac)), Some(&port));
        state.fold(Event::LinkGone(port));
        assert!(state.forwarding.is_empty());
    }
}
