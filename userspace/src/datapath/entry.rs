// SPDX-License-Identifier: Apache-2.0
//! Map entries in the words of people: one address type for both families, host byte order. Pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use pintle_abi::{
    addr::{Tuple, V4, V6, proto},
    counter::{CONNECT, CONNECT_ROW, Counter, Hook},
    device::{Device, device_flags},
    drop_reason::DropReason,
    flow::{Flow, TcpState, flow_flags, seen},
    plain::Plain,
    service::{Backend, Frontend, FrontendKey as AbiKey, backend_state, frontend_flags},
};

use crate::{
    model::{
        addr::{BackendAddr, FrontendAddr, FrontendKey, Protocol, Scope},
        service::BackendSelection,
    },
    node::IfIndex,
};

/// An address as it stands in the maps of its family.
pub trait AbiAddr: Plain + Default {
    /// The address.
    fn ip(self) -> IpAddr;
    /// An address, if it is of this family.
    fn of(ip: IpAddr) -> Option<Self>;
}

impl AbiAddr for V4 {
    fn ip(self) -> IpAddr {
        Ipv4Addr::from(self).into()
    }

    fn of(ip: IpAddr) -> Option<Self> {
        if let IpAddr::V4(ip) = ip { Some(ip.into()) } else { None }
    }
}

impl AbiAddr for V6 {
    fn ip(self) -> IpAddr {
        Ipv6Addr::from(self).into()
    }

    fn of(ip: IpAddr) -> Option<Self> {
        if let IpAddr::V6(ip) = ip { Some(ip.into()) } else { None }
    }
}

/// An address that clients dial, and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendEntry {
    /// The address, and for which clients it is.
    pub key: FrontendKey,
    /// Number of the service port.
    pub service: u32,
    /// Ids of its backends, of the address's family, each once.
    pub backends: Vec<u32>,
    /// Bits of `pintle_abi::service::frontend_flags`.
    pub flags: u32,
    /// Session affinity timeout in seconds; 0 for none.
    pub affinity_seconds: u32,
}

impl FrontendEntry {
    /// Without backends, packets are dropped silently instead of refused.
    pub fn is_silent(&self) -> bool {
        self.has(frontend_flags::DROP)
    }

    /// The clients that it is for.
    pub fn clients(&self) -> &'static str {
        match (self.key.scope, self.has(frontend_flags::SPLIT)) {
            (Scope::External, _) => "outside",
            (Scope::Internal, true) => "inside",
            (Scope::Internal, false) => "all",
        }
    }

    /// The clients whose address is replaced by one of the node's.
    pub fn masquerade(&self) -> &'static str {
        if self.has(frontend_flags::MASQUERADE_LOCAL) {
            "always"
        } else if self.has(frontend_flags::MASQUERADE) {
            "remote"
        } else if self.has(frontend_flags::MASQUERADE_OTHERS) {
            "others"
        } else {
            "none"
        }
    }

    /// Only clients in the service's source ranges may use it.
    pub fn is_restricted(&self) -> bool {
        self.has(frontend_flags::SOURCE_RANGES)
    }

    /// How the backend of a new connection is chosen.
    pub fn selection(&self) -> BackendSelection {
        match self.has(frontend_flags::MAGLEV) {
            true => BackendSelection::Maglev,
            false => BackendSelection::Random,
        }
    }

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// An address that can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendEntry {
    /// Its id, unique within its address family.
    pub id: u32,
    /// The address.
    pub addr: BackendAddr,
    /// It is on this node.
    pub local: bool,
    /// Where packets are redirected to past the host's stack.
    pub redirect: Option<IfIndex>,
    /// Changes whenever the id is given up or out.
    pub generation: u32,
    /// MTU of the interface in bytes; 0 without one.
    pub mtu: u32,
}

/// Progress of a tracked connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// TCP, or SCTP in the words of TCP.
    Tcp(TcpState),
    /// UDP; the backend has answered.
    Answered,
    /// UDP; the backend has not answered yet.
    Unanswered,
}

impl FlowState {
    /// The word shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp(state) => state.as_str(),
            Self::Answered => "answered",
            Self::Unanswered => "unanswered",
        }
    }
}

/// A tracked connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowEntry {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Progress.
    pub state: FlowState,
    /// Who connected, as it sees itself.
    pub client: SocketAddr,
    /// What it dialed.
    pub frontend: SocketAddr,
    /// Who answers.
    pub backend: SocketAddr,
    /// Number of the service port.
    pub service: u32,
    /// Host-side interface of the client's pod.
    pub client_interface: IfIndex,
    /// Redirected past the host's stack.
    pub fast: bool,
    /// Client and backend are one pod.
    pub hairpin: bool,
    /// Nothing is translated; it is tracked because policies select one of its ends.
    pub direct: bool,
    /// The client's socket was translated: its packets do not tell which frontend it dialled.
    pub of_socket: bool,
    /// The client is the node itself.
    pub from_node: bool,
    /// The policy epoch at which the client's egress was allowed here; 0 for never.
    pub egress_epoch: u32,
    /// The same of the server's ingress.
    pub ingress_epoch: u32,
    /// Kept in the overflow map, where it may be evicted.
    pub overflow: bool,
    /// Packets of both directions.
    pub packets: u64,
    /// Bytes of both directions, link-layer headers included.
    pub bytes: u64,
    /// Last packet, `CLOCK_MONOTONIC` in ns.
    pub last_seen_ns: u64,
}

/// A pod interface as the programs know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEntry {
    /// Its number.
    pub index: IfIndex,
    /// Packets may be redirected past the host's stack.
    pub fast: bool,
    /// MTU in bytes.
    pub mtu: u32,
}

/// What a cell of the counter table counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Something that is no drop.
    Event(Counter),
    /// Packets dropped for a reason.
    Drop(DropReason),
}

impl Counted {
    /// Everything that is counted, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        let events = Counter::ALL.iter().copied().map(Self::Event);
        events.chain(DropReason::ALL.iter().copied().map(Self::Drop))
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Event(counter) => counter.as_str(),
            Self::Drop(reason) => reason.as_str(),
        })
    }
}

/// Where something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a hook that packets pass.
    Hook(Hook),
    /// Where a socket dials.
    Connect,
}

impl Place {
    /// Every place, in the order of their rows.
    pub fn all() -> impl Iterator<Item = Self> {
        Hook::ALL.iter().copied().map(Self::Hook).chain([Self::Connect])
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hook(hook) => hook.as_str(),
            Self::Connect => CONNECT,
        }
    }

    /// Its row in `COUNTERS`.
    pub fn row(self) -> u32 {
        match self {
            Self::Hook(hook) => hook as u32,
            Self::Connect => CONNECT_ROW,
        }
    }
}

/// A count of one place, summed over all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterEntry {
    /// Where it was counted.
    pub place: Place,
    /// What.
    pub counted: Counted,
    /// How many.
    pub value: u64,
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// Its name.
    pub name: &'static str,
    /// Entries in use; `None` where every index always exists.
    pub entries: Option<u64>,
    /// Entries it has room for.
    pub capacity: u64,
    /// Kernel memory it takes; `None` if the kernel does not tell.
    pub bytes: Option<u64>,
}

/// A frontend without its backends, with the range of its slots; `None` for the wildcard entry of an
/// address.
pub(super) fn frontend<A: AbiAddr>(
    key: &AbiKey<A>,
    value: &Frontend,
) -> Option<(FrontendEntry, std::ops::Range<usize>)> {
    let protocol = socket_protocol(key.proto)?;
    let scope = Scope::of(key.scope)?;
    let base = value.base as usize;
    let addr = FrontendAddr { ip: key.addr.ip(), port: u16::from_be(key.port), protocol };
    let entry = FrontendEntry {
        key: FrontendKey { addr, scope },
        service: value.service,
        backends: Vec::new(),
        flags: value.flags,
        affinity_seconds: value.affinity_seconds,
    };
    Some((entry, base..base.saturating_add(value.count as usize)))
}

/// A backend; `None` if the id is free.
pub(super) fn backend<A: AbiAddr>(id: u32, value: &Backend<A>) -> Option<BackendEntry> {
    (value.state != backend_state::FREE).then(|| BackendEntry {
        id,
        addr: BackendAddr { ip: value.addr.ip(), port: u16::from_be(value.port) },
        local: value.state == backend_state::LOCAL,
        redirect: (value.ifindex != 0).then_some(IfIndex(value.ifindex)),
        generation: value.generation,
        mtu: value.mtu,
    })
}

/// Client, frontend and backend of an alias, and the counts that its main entry does not have yet; `None` if
/// it has all.
pub(super) fn pending<A: AbiAddr>(
    key: &Tuple<A>,
    value: &Flow<A>,
) -> Option<([SocketAddr; 3], (u64, u64))> {
    let is_alias = value.flags & (flow_flags::ALIAS | flow_flags::KERNEL) == flow_flags::ALIAS;
    if !is_alias || value.packets == 0 {
        return None;
    }
    let client_first = value.flags & flow_flags::CLIENT_FIRST != 0;
    let backend = (value.other.dst, value.other.dst_port);
    let ends = [(key.src, key.src_port), (key.dst, key.dst_port), backend];
    let [first, second, backend] =
        ends.map(|(addr, port)| SocketAddr::new(addr.ip(), u16::from_be(port)));
    let (client, frontend) = if client_first { (first, second) } else { (second, first) };
    Some(([client, frontend, backend], (value.packets, value.bytes)))
}

/// A connection from its main entry; `None` for an alias, which only repeats it.
pub(super) fn flow<A: AbiAddr>(
    protocol: Protocol,
    overflow: bool,
    key: &Tuple<A>,
    value: &Flow<A>,
) -> Option<FlowEntry> {
    if value.flags & flow_flags::ALIAS != 0 {
        return None;
    }
    let client_first = value.flags & flow_flags::CLIENT_FIRST != 0;
    let (backend, port) =
        if client_first { (key.dst, key.dst_port) } else { (key.src, key.src_port) };
    let state = match protocol {
        Protocol::Tcp | Protocol::Sctp => FlowState::Tcp(TcpState::of(value.forward, value.reply)),
        Protocol::Udp if value.reply & seen::ANY != 0 => FlowState::Answered,
        Protocol::Udp => FlowState::Unanswered,
    };
    let socket = |addr: A, port: u16| SocketAddr::new(addr.ip(), u16::from_be(port));
    Some(FlowEntry {
        protocol,
        state,
        client: socket(value.other.src, value.other.src_port),
        frontend: socket(value.other.dst, value.other.dst_port),
        backend: socket(backend, port),
        service: value.service,
        client_interface: IfIndex(value.client_ifindex),
        fast: value.flags & flow_flags::FAST != 0,
        hairpin: value.flags & flow_flags::HAIRPIN != 0,
        direct: value.flags & flow_flags::DIRECT != 0,
        of_socket: value.flags & flow_flags::SOCKET != 0,
        from_node: value.flags & flow_flags::HOST != 0,
        egress_epoch: value.egress_epoch,
        ingress_epoch: value.ingress_epoch,
        overflow,
        packets: value.packets,
        bytes: value.bytes,
        last_seen_ns: value.last_seen_ns,
    })
}

/// A pod interface.
pub(super) fn device(index: u32, value: &Device) -> DeviceEntry {
    let fast = value.flags & device_flags::FAST != 0;
    DeviceEntry { index: IfIndex(index), fast, mtu: value.mtu }
}

/// The protocol of a service port; `None` for the number of a wildcard.
pub(super) fn socket_protocol(number: u8) -> Option<Protocol> {
    match number {
        proto::TCP => Some(Protocol::Tcp),
        proto::UDP => Some(Protocol::Udp),
        proto::SCTP => Some(Protocol::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> V4 {
        text.parse::<Ipv4Addr>().unwrap().into()
    }

    fn tuple(src: &str, src_port: u16, dst: &str, dst_port: u16) -> Tuple<V4> {
        let (src, dst) = (v4(src), v4(dst));
        Tuple { src, dst, src_port: src_port.to_be(), dst_port: dst_port.to_be() }
    }

    #[test]
    fn a_flow_is_told_from_client_to_backend_whichever_end_stands_first() {
        let other = tuple("10.0.0.1", 4000, "10.96.0.1", 80);
        let check = |flags, key| {
            let value = Flow { other, flags, forward: seen::ANY, ..Flow::default() };
            let flow = flow(Protocol::Tcp, false, &key, &value).unwrap();
            assert_eq!(flow.client.to_string(), "10.0.0.1:4000");
            assert_eq!(flow.frontend.to_string(), "10.96.0.1:80");
            assert_eq!(flow.backend.to_string(), "10.0.0.9:8080");
            assert_eq!(flow.state.as_str(), "syn-sent");
        };
        check(flow_flags::CLIENT_FIRST, tuple("10.0.0.1", 4000, "10.0.0.9", 8080));
        check(0, tuple("10.0.0.9", 8080, "10.0.0.1", 4000));
        let alias = Flow { flags: flow_flags::ALIAS, ..Flow::default() };
        assert_eq!(flow(Protocol::Tcp, false, &other, &alias), None);
    }

    #[test]
    fn counts_of_an_alias_belong_to_its_client_and_frontend() {
        let check = |flags, key| {
            let other = tuple("10.0.0.5", 50_000, "10.0.0.9", 8080);
            let value = Flow { packets: 3, bytes: 200, other, flags, ..Flow::default() };
            let (ends, counts) = pending(&key, &value).unwrap();
            let expected = ["10.0.0.1:4000", "10.96.0.1:80", "10.0.0.9:8080"];
            assert_eq!(ends.map(|end| end.to_string()), expected);
            assert_eq!(counts, (3, 200));
        };
        let (client, frontend) = (("10.0.0.1", 4000), ("10.96.0.1", 80));
        let key = tuple(client.0, client.1, frontend.0, frontend.1);
        check(flow_flags::ALIAS | flow_flags::CLIENT_FIRST, key);
        check(flow_flags::ALIAS, key.reverse());
        let nothing = Flow { flags: flow_flags::ALIAS, ..Flow::default() };
        assert_eq!(pending(&key, &nothing), None);
        assert_eq!(pending(&key, &Flow { packets: 1, ..Flow::default() }), None, "a main entry");
    }

    #[test]
    fn wildcard_frontends_and_free_backends_are_not_shown() {
        let wildcard = AbiKey { addr: v4("10.96.0.1"), ..AbiKey::default() };
        assert_eq!(frontend(&wildcard, &Frontend::default()), None);
        assert_eq!(backend::<V6>(3, &Backend::default()), None);
    }
}
