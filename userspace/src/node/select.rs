// SPDX-License-Identifier: Apache-2.0
//! Which interfaces are the host sides of pods' veths, and which of those may be redirected to. Pure.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use super::{
    IfIndex,
    state::State,
    wire::{Address, Link},
};

/// How pod interfaces are found: `--pod-interfaces`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodInterfaces {
    /// Every veth whose other end is in another namespace, except the node's own.
    #[default]
    Auto,
    /// Interfaces whose names match one of the patterns; `*` stands for any characters.
    Patterns(Vec<String>),
}

impl FromStr for PodInterfaces {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let patterns: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
        match patterns.iter().any(String::is_empty) {
            true => Err("a pattern is empty; give `auto` or names such as `veth*,cali*`".into()),
            false => Ok(Self::Patterns(patterns)),
        }
    }
}

/// What the choice of pod interfaces depends on, beside the network itself.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// How pod interfaces are found.
    pub interfaces: PodInterfaces,
    /// Names of uplinks; they are never pod interfaces.
    pub uplinks: BTreeSet<String>,
    /// The node's own addresses (InternalIP, ExternalIP) as Kubernetes knows them.
    pub node_ips: BTreeSet<IpAddr>,
}

/// The host side of a local pod's veth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodInterface {
    /// Its number.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// The bridge it is enslaved to.
    pub master: Option<IfIndex>,
    /// Why packets may not be redirected to it past the host's stack; `None` if they may.
    pub ineligible: Option<Ineligible>,
}

impl PodInterface {
    /// Packets may be redirected to it past the host's stack.
    pub fn eligible(&self) -> bool {
        self.ineligible.is_none()
    }
}

/// Why packets may not be redirected to an interface past the host's stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ineligible {
    /// It is not a veth, so it has no other end to redirect to.
    NotVeth,
    /// Its other end is in this namespace, where the kernel refuses to redirect.
    SameNamespace,
    /// It is administratively down.
    Down,
    /// Its other end is down.
    NoCarrier,
    /// A queueing discipline shapes what enters the pod (a bandwidth limit); its kind.
    Queued(String),
    /// A program of somebody else is attached to it, which redirected packets would not meet.
    ForeignProgram(String),
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotVeth => f.write_str("not a veth"),
            Self::SameNamespace => f.write_str("peer in the same namespace"),
            Self::Down => f.write_str("down"),
            Self::NoCarrier => f.write_str("peer down"),
            Self::Queued(kind) => write!(f, "qdisc {kind}"),
            Self::ForeignProgram(what) => write!(f, "program {what}"),
        }
    }
}

/// The pod interfaces, in the order of their numbers.
pub fn pod_interfaces(state: &State, selection: &Selection) -> Vec<PodInterface> {
    let chosen = |link: &&Link| {
        !selection.uplinks.contains(&link.name)
            && match &selection.interfaces {
                PodInterfaces::Auto => is_pod_veth(state, selection, link),
                PodInterfaces::Patterns(patterns) => {
                    patterns.iter().any(|pattern| matches(pattern, &link.name))
                }
            }
    };
    let interface = |link: &Link| PodInterface {
        index: link.index,
        name: link.name.clone(),
        mtu: link.mtu,
        master: link.master.filter(|master| is_bridge(state, *master)),
        ineligible: ineligible(link).or_else(|| foreign(state, link)),
    };
    state.links.values().filter(chosen).map(interface).collect()
}

/// The interface is a bridge.
pub fn is_bridge(state: &State, index: IfIndex) -> bool {
    state.links.get(&index).is_some_and(|link| link.kind == "bridge")
}

fn is_pod_veth(state: &State, selection: &Selection, link: &Link) -> bool {
    // A node that is itself a container has a veth for its own network; it carries the node's
    // default route and address.
    link.kind == "veth"
        && link.peer_elsewhere
        && !carries_default_route(state, link.index)
        && !state
            .addresses
            .iter()
            .any(|address| address.index == link.index && is_own(state, selection, address))
}

/// The interface carries a default route.
pub(super) fn carries_default_route(state: &State, index: IfIndex) -> bool {
    let mut routes = state.routes.values().flatten();
    routes.any(|route| route.prefix.len == 0 && route.oifs.contains(&index))
}

/// The address is the node's own, not the gateway that a ptp CNI puts on the host side of a veth.
///
/// Such a gateway stands on every pod's veth; with only one pod, it is known by being a single
/// address instead of a network.
fn is_own(state: &State, selection: &Selection, address: &Address) -> bool {
    let link_local = matches!(address.ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if !address.global || link_local {
        return false;
    }
    let shared =
        state.addresses.iter().any(|other| other.ip == address.ip && other.index != address.index);
    if shared {
        return false;
    }
    let single = u32::from(address.len) == if address.ip.is_ipv4() { 32 } else { 128 };
    !single || selection.node_ips.contains(&address.ip)
}

fn ineligible(link: &Link) -> Option<Ineligible> {
    if link.kind != "veth" {
        Some(Ineligible::NotVeth)
    } else if !link.peer_elsewhere {
        Some(Ineligible::SameNamespace)
    } else if !link.up {
        Some(Ineligible::Down)
    } else if !link.carrier {
        Some(Ineligible::NoCarrier)
    } else if link.qdisc != "noqueue" {
        Some(Ineligible::Queued(link.qdisc.clone()))
    } else {
        None
    }
}

fn foreign(state: &State, link: &Link) -> Option<Ineligible> {
    let tables = [&state.foreign_programs, &state.foreign_filters];
    let found = tables.into_iter().find_map(|table| table.get(&link.index))?;
    Some(Ineligible::ForeignProgram(found.clone()))
}

/// The name matches the pattern, in which `*` stands for any characters or none.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(head) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| matches(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            state::tests::{address, bridge, route, state, veth},
            wire::Event,
        },
        *,
    };

    fn names(state: &State, selection: &Selection) -> Vec<String> {
        pod_interfaces(state, selection).into_iter().map(|interface| interface.name).collect()
    }

    #[test]
    fn auto_takes_pod_veths_of_ptp_and_bridge_cnis_and_leaves_the_node_s_own() {
        let state = state([
            Event::Link(Link { kind: String::new(), ..veth(1, "lo") }),
            Event::Link(veth(2, "eth0")),
            address(2, "172.18.0.2/16"),
            route("0.0.0.0/0", 2),
            Event::Link(bridge(3)),
            Event::Link(Link { master: Some(IfIndex(3)), ..veth(4, "bridged") }),
            Event::Link(veth(5, "ptp1")),
            address(5, "10.244.0.1/32"),
            Event::Link(veth(6, "ptp2")),
            address(6, "10.244.0.1/32"),
            Event::Link(veth(7, "second")),
            address(7, "192.168.7.1/24"),
            Event::Link(Link { peer_elsewhere: false, ..veth(8, "local") }),
            Event::Link(veth(9, "up1")),
        ]);
        let selection = Selection { uplinks: ["up1".to_owned()].into(), ..Selection::default() };
        assert_eq!(names(&state, &selection), ["bridged", "ptp1", "ptp2"]);
        assert_eq!(pod_interfaces(&state, &selection)[0].master, Some(IfIndex(3)));
    }

    #[test]
    fn a_lone_gateway_address_does_not_hide_a_pod_but_the_node_s_own_does() {
        let state = state([Event::Link(veth(5, "ptp1")), address(5, "10.244.0.1/32")]);
        assert_eq!(names(&state, &Selection::default()), ["ptp1"]);
        let node_ips = ["10.244.0.1".parse().unwrap()].into();
        let selection = Selection { node_ips, ..Selection::default() };
        assert!(names(&state, &selection).is_empty());
    }

    #[test]
    fn shaped_and_dead_interfaces_are_not_redirected_to() {
        let reason = |link: Link| ineligible(&link);
        assert_eq!(reason(veth(7, "a")), None);
        let tbf = Link { qdisc: "tbf".into(), ..veth(7, "a") };
        assert_eq!(reason(tbf), Some(Ineligible::Queued("tbf".into())));
        assert_eq!(reason(Link { up: false, ..veth(7, "a") }), Some(Ineligible::Down));
        assert_eq!(reason(Link { carrier: false, ..veth(7, "a") }), Some(Ineligible::NoCarrier));
        assert_eq!(reason(bridge(3)), Some(Ineligible::NotVeth));
    }

    #[test]
    fn an_interface_with_somebody_else_s_program_is_not_redirected_to() {
        let mut state = state([Event::Link(veth(7, "a"))]);
        state.foreign_filters.insert(IfIndex(7), "meter on egress".into());
        let found = pod_interfaces(&state, &Selection::default());
        let reason = found[0].ineligible.as_ref().map(ToString::to_string);
        assert_eq!(reason.as_deref(), Some("program meter on egress"));
    }

    #[test]
    fn patterns_match_whole_names() {
        let check = |pattern, name, expected| assert_eq!(matches(pattern, name), expected);
        check("veth*", "veth1", true);
        check("veth*", "xveth1", false);
        check("*", "", true);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-b-b", false);
        check("lxc", "lxc1", false);
        assert!("veth*,".parse::<PodInterfaces>().is_err());
    }
}
