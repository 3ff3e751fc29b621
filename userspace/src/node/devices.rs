// SPDX-License-Identifier: Apache-2.0
//! The node's own devices: those that lead to the network, and the addresses it answers at. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    IfIndex,
    select::{self, PodInterface, Selection},
    state::State,
    wire::{Address, Link, Mac},
};

/// The loopback device, in every network namespace.
pub const LOOPBACK: IfIndex = IfIndex(1);

/// Kinds of links that carry packets to other nodes inside other packets.
const OVERLAYS: &[&str] = &[
    "vxlan",
    "geneve",
    "gretap",
    "ip6gretap",
    "bareudp",
    "gre",
    "ip6gre",
    "ipip",
    "sit",
    "ip6tnl",
];

/// The device of kube-proxy's ipvs mode.
const IPVS_DEVICE: &str = "kube-ipvs0";

/// A device that leads to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its number.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// Whether it is one end of a veth, as in a cluster whose nodes are containers.
    pub veth: bool,
    /// Whether other devices are its ports: a bond's, or the virtual function below a paravirtual device.
    pub has_ports: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Its link-layer address.
    pub mac: Mac,
    /// The address that packets leave it with, if it has one.
    pub v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// The devices that lead to the network: those of the given names, or else every Ethernet device that
/// is up, carries an address, a default route or other nodes' packets, and is no pod's.
///
/// What is enslaved to a bridge or bond is represented by that. A device without link-layer header
/// (WireGuard, IPIP) is left out: the programs read Ethernet frames.
pub fn uplinks(state: &State, selection: &Selection, pods: &[PodInterface]) -> Vec<Uplink> {
    let chosen = |link: &&Link| {
        let named = selection.uplinks.contains(&link.name);
        let wanted = match selection.uplinks.is_empty() {
            true => is_uplink(state, pods, link),
            false => named,
        };
        wanted && link.up && link.mac.is_some()
    };
    let uplink = |link: &Link| Uplink {
        index: link.index,
        name: link.name.clone(),
        veth: link.kind == "veth",
        has_ports: state.links.values().any(|port| port.master == Some(link.index)),
        mtu: link.mtu,
        mac: link.mac.unwrap_or_default(),
        v4: own_address(state, selection, link.index, v4_of),
        v6: own_address(state, selection, link.index, v6_of),
    };
    state.links.values().filter(chosen).map(uplink).collect()
}

fn is_uplink(state: &State, pods: &[PodInterface], link: &Link) -> bool {
    let is_pod = pods.iter().any(|pod| pod.index == link.index);
    let has_pods = pods.iter().any(|pod| pod.master == Some(link.index));
    let carries = || {
        OVERLAYS.contains(&link.kind.as_str())
            || select::carries_default_route(state, link.index)
            || state.addresses.iter().any(|address| {
                address.index == link.index && address.global && !is_link_local(address.ip)
            })
    };
    link.index != LOOPBACK && !is_pod && !has_pods && link.master.is_none() && carries()
}

fn v4_of(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn v6_of(ip: IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    }
}

/// The address of a device that packets leave it with: the one that Kubernetes knows the node by, or
/// else one with a network before a single one, which may be a virtual address that moves.
fn own_address<A: Ord>(
    state: &State,
    selection: &Selection,
    index: IfIndex,
    of: fn(IpAddr) -> Option<A>,
) -> Option<A> {
    let single =
        |address: &Address| u32::from(address.len) == if address.ip.is_ipv4() { 32 } else { 128 };
    state
        .addresses
        .iter()
        .filter(|address| address.index == index && address.global && !is_link_local(address.ip))
        .filter_map(|address| {
            let known = selection.node_ips.contains(&address.ip);
            of(address.ip).map(|ip| (!known, single(address), ip))
        })
        .min()
        .map(|(_, _, ip)| ip)
}

/// Every address that the node answers at, without those of the link's own scope.
///
/// kube-proxy in ipvs mode gives a device of its own every address of every service, and leaves it
/// behind: those are no addresses of the node.
pub fn addresses(state: &State) -> Vec<IpAddr> {
    let is_own = |address: &&Address| {
        let link = state.links.get(&address.index);
        !is_link_local(address.ip) && link.is_none_or(|link| link.name != IPVS_DEVICE)
    };
    let own = state.addresses.iter().filter(is_own);
    let mut found: Vec<IpAddr> = own.map(|address| address.ip).collect();
    found.sort();
    found.dedup();
    found
}

/// An IPv6 address that means something on its link only. IPv4's are used like any other
/// (node-local DNS).
fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            select::pod_interfaces,
            state::tests::{address, bridge, route, state, veth},
            wire::Event,
        },
        *,
    };

    fn device(index: u32, name: &str, kind: &str) -> Event {
        let mac = Some([2, 0, 0, 0, 0, index as u8]);
        Event::Link(Link { kind: kind.into(), mac, ..veth(index, name) })
    }

    fn found(state: &State, selection: &Selection) -> Vec<Uplink> {
        uplinks(state, selection, &pod_interfaces(state, selection))
    }

    fn names(state: &State, selection: &Selection) -> Vec<String> {
        found(state, selection).into_iter().map(|uplink| uplink.name).collect()
    }

    #[test]
    fn auto_takes_what_leads_to_the_network_and_leaves_pods_bridges_and_loopback() {
        let state = state([
            device(1, "lo", ""),
            address(1, "127.0.0.1/8"),
            device(2, "eth0", ""),
            address(2, "192.168.1.7/24"),
            route("0.0.0.0/0", 2),
            device(3, "slave", ""),
            Event::Link(bridge(4)),
            Event::Link(Link { master: Some(IfIndex(4)), ..veth(5, "pod") }),
            address(4, "10.244.1.1/24"),
            device(6, "flannel.1", "vxlan"),
            device(7, "idle", ""),
            Event::Link(Link { mac: None, kind: "wireguard".into(), ..veth(8, "wg0") }),
            address(8, "10.9.9.1/24"),
        ]);
        assert_eq!(names(&state, &Selection::default()), ["eth0", "flannel.1"]);
        let selection = Selection { uplinks: ["slave".to_owned()].into(), ..Selection::default() };
        assert_eq!(names(&state, &selection), ["slave"]);
    }

    #[test]
    fn packets_leave_with_the_node_s_address_and_not_with_a_virtual_one() {
        let events = || {
            [
                device(2, "eth0", ""),
                address(2, "10.0.0.1/32"),
                address(2, "192.168.1.7/24"),
                address(2, "192.168.1.9/24"),
                address(2, "fe80::7/64"),
                address(2, "fd00::7/128"),
            ]
        };
        let address_of = |selection: &Selection| {
            let [uplink] = &found(&state(events()), selection)[..] else { panic!("one uplink") };
            (uplink.v4.unwrap().to_string(), uplink.v6.unwrap().to_string())
        };
        let plain = ("192.168.1.7".to_owned(), "fd00::7".to_owned());
        assert_eq!(address_of(&Selection::default()), plain);
        let node_ips = ["192.168.1.9".parse().unwrap()].into();
        let selection = Selection { node_ips, ..Selection::default() };
        assert_eq!(address_of(&selection).0, "192.168.1.9");
    }

    #[test]
    fn the_node_answers_at_every_address_but_those_of_a_link() {
        let state = state([
            device(1, "lo", ""),
            address(1, "127.0.0.1/8"),
            device(2, "eth0", ""),
            address(2, "192.168.1.7/24"),
            address(2, "fe80::7/64"),
            device(3, "kube-ipvs0", "dummy"),
            address(3, "10.96.0.1/32"),
        ]);
        let texts: Vec<String> = addresses(&state).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["127.0.0.1", "192.168.1.7"]);
    }
}
