// SPDX-License-Identifier: Apache-2.0
//! Asks the kernel to find out where a local pod is, before somebody has to wait for it.
//!
//! On a bridge an address leads to an interface only once its neighbour has answered, which it does
//! when the first packet wants to go there. A pod that is to be known before its first packet has to
//! be asked for. The answer comes to [`super::NodeView`] like any other.
//!
//! [`Snapshot::solicitation`] decides, and is pure; [`Solicitor`] asks.

use std::{
    collections::BTreeMap,
    io, mem,
    net::IpAddr,
    time::{Duration, Instant},
};

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use tracing::debug;

use super::{
    IfIndex, Snapshot,
    select::is_bridge,
    wire::{self, HEADER},
};

/// Larger than any answer to our requests.
const DATAGRAM: usize = 8 * 1024;
/// How long a pod that is asked for the first time is expected to take: several times what it takes a
/// packet to go there and back, and the kernel to tell.
pub const ANSWER: Duration = Duration::from_millis(100);
/// To resolve an address as if a packet wanted to go there.
const NTF_USE: u8 = 0x01;

/// What the kernel is asked about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// The device that the stack would resolve it on.
    pub on: IfIndex,
    /// The address.
    pub ip: IpAddr,
    /// What is known already.
    pub known: Known,
}

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is to be resolved.
    Nothing,
    /// Its link-layer address, but not behind which port of the bridge: it is to say something.
    LinkLayer,
}

impl Snapshot {
    /// What to ask so that [`Self::resolve`] finds the interface of a local pod. `None` if it finds
    /// it already, or if no neighbour is behind the address.
    pub fn solicitation(&self, ip: IpAddr) -> Option<Solicitation> {
        if self.resolve(ip).is_some() {
            return None;
        }
        let on = self.on_link(ip)?;
        let leads_to_pods = self.interfaces.contains_key(&on) || is_bridge(&self.state, on);
        let is_known = self.state.neighbours.contains_key(&(on, ip));
        let known = if is_known { Known::LinkLayer } else { Known::Nothing };
        leads_to_pods.then_some(Solicitation { on, ip, known })
    }
}

/// Who is asked for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A pod that nothing was known of.
    New,
    /// One that was found before: it may be gone.
    Lost,
}

/// Asks on behalf of the agent. Invariant: it never changes what the kernel knows to be true.
#[derive(Debug)]
pub struct Solicitor {
    socket: Socket,
    /// Who has not answered, and until when an answer is expected, if it is.
    asked: BTreeMap<IpAddr, Option<Instant>>,
}

impl Solicitor {
    /// Must be called on a thread of the network namespace that is meant.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        Ok(Self { socket, asked: BTreeMap::new() })
    }

    /// Asks for every one of these addresses that nobody has answered for; those of local pods. The
    /// kernel gives up after some seconds without an answer, so this is to be repeated. Only who is new
    /// is expected to answer, and only the first time.
    pub fn ask(
        &mut self,
        network: &Snapshot,
        unresolved: impl IntoIterator<Item = IpAddr>,
        these_are: Asked,
    ) {
        let before = mem::take(&mut self.asked);
        let answer = (these_are == Asked::New).then(|| Instant::now() + ANSWER);
        for one in unresolved.into_iter().filter_map(|ip| network.solicitation(ip)) {
            self.asked.insert(one.ip, before.get(&one.ip).copied().unwrap_or(answer));
            if let Err(error) = self.send(one) {
                // The device may have gone meanwhile; whoever still misses the pod asks again.
                debug!(ip = %one.ip, on = %one.on, %error, "cannot ask for a neighbour");
            }
        }
    }

    /// Until when somebody is expected to answer; `None` if nobody is worth waiting for.
    pub fn expects_until(&self, now: Instant) -> Option<Instant> {
        self.asked.values().flatten().copied().filter(|until| now < *until).max()
    }

    fn send(&self, one: Solicitation) -> io::Result<()> {
        self.socket.send(&request(one), 0)?;
        let mut datagram = Vec::with_capacity(DATAGRAM);
        self.socket.recv(&mut datagram, 0)?;
        for (kind, _, body) in wire::messages(&datagram) {
            if i32::from(kind) == libc::NLMSG_ERROR {
                wire::answer(body)?;
            }
        }
        Ok(())
    }
}

/// The message, with an answer to come in any case. Its body is a `struct ndmsg`.
fn request(one: Solicitation) -> Vec<u8> {
    let (family, address) = match one.ip {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    let (state, neighbour_flags, more) = match one.known {
        Known::Nothing => (libc::NUD_NONE, NTF_USE, libc::NLM_F_CREATE),
        Known::LinkLayer => (libc::NUD_PROBE, 0, libc::NLM_F_REPLACE),
    };
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | more) as u16;
    let length = HEADER + 12 + 4 + address.len();
    let mut request = Vec::with_capacity(length);
    request.extend((length as u32).to_ne_bytes());
    request.extend(libc::RTM_NEWNEIGH.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    // Neither sequence number nor sender: one request at a time.
    request.extend([0; 8]);
    request.extend([family as u8, 0, 0, 0]);
    request.extend(one.on.0.to_ne_bytes());
    request.extend(state.to_ne_bytes());
    request.extend([neighbour_flags, 0]);
    request.extend((4 + address.len() as u16).to_ne_bytes());
    request.extend(libc::NDA_DST.to_ne_bytes());
    request.extend(address);
    request
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::{
            Selection,
            state::tests::{address, bridge, learned, neighbour, route, state, veth},
            wire::{Event, Link},
        },
        *,
    };

    fn ask(events: impl IntoIterator<Item = Event>, ip: &str) -> Option<(u32, Known)> {
        let snapshot = Snapshot::new(Arc::new(state(events)), &Selection::default());
        snapshot.solicitation(ip.parse().unwrap()).map(|one| (one.on.0, one.known))
    }

    fn bridged() -> Vec<Event> {
        vec![
            Event::Link(Link { peer_elsewhere: false, ..veth(2, "eth0") }),
            route("0.0.0.0/0", 2),
            route("192.168.77.0/24", 2),
            Event::Link(bridge(3)),
            address(3, "10.244.1.1/24"),
            route("10.244.1.0/24", 3),
            route("fd00::/64", 3),
            Event::Link(Link { master: Some(IfIndex(3)), ..veth(7, "a") }),
        ]
    }

    #[test]
    fn a_pod_behind_a_bridge_is_asked_for_until_it_is_found() {
        let mut events = bridged();
        assert_eq!(ask(events.clone(), "10.244.1.9"), Some((3, Known::Nothing)));
        assert_eq!(ask(events.clone(), "fd00::9"), Some((3, Known::Nothing)));
        events.push(neighbour(3, "10.244.1.9", 9));
        assert_eq!(ask(events.clone(), "10.244.1.9"), Some((3, Known::LinkLayer)));
        events.push(learned(7, 3, 9));
        assert_eq!(ask(events, "10.244.1.9"), None);
    }

    #[test]
    fn nobody_is_asked_for_what_is_no_pods() {
        assert_eq!(ask(bridged(), "10.244.1.1"), None, "the bridge's own address");
        assert_eq!(ask(bridged(), "192.0.2.1"), None, "behind a router");
        assert_eq!(ask(bridged(), "192.168.77.9"), None, "on the node's own network");
    }

    #[test]
    fn a_pod_with_a_route_of_its_own_is_not_asked_for() {
        let pod = || Event::Link(veth(7, "a"));
        assert_eq!(ask([pod(), route("10.244.0.9/32", 7)], "10.244.0.9"), None);
        let network = ask([pod(), route("10.244.0.0/24", 7)], "10.244.0.9");
        assert_eq!(network, Some((7, Known::Nothing)), "a route to a network");
    }
}
