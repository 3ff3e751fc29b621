// SPDX-License-Identifier: Apache-2.0
//! From the kernel's tracked connections to flow entries that let their packets pass. Pure.
//!
//! Such an entry is an alias without main entry: its key is the connection as the client sees it, so
//! packets of both directions find it there. On the backend's side the connection is like one that is
//! not translated; where the kernel has masqueraded its client, an entry of such a one keeps its port
//! from being given to another ([`reservation`]).

use std::net::{IpAddr, SocketAddr};

use pintle_abi::{
    addr::{Ordered, Tuple, V4, V6},
    flow::{Flow, flow_flags, seen},
};

use super::conntrack::{Connection, Ends, Progress};
use crate::model::addr::{BackendAddr, FrontendAddr, Protocol};

/// A backend as flows remember it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownBackend {
    /// Its id.
    pub id: u32,
    /// Its generation; 0 as long as it has none.
    pub generation: u32,
}

/// A flow entry for a connection of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelFlow {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Key and value.
    pub entry: Entry,
}

/// An entry of the flow map of its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// IPv4.
    V4(Tuple<V4>, Flow<V4>),
    /// IPv6.
    V6(Tuple<V6>, Flow<V6>),
}

/// The entry of a connection that goes on; `None` if it is over, none of ours, or better off with
/// another backend: UDP whose backend nobody knows any more would talk to nobody.
pub fn kernel_flow(
    connection: &Connection,
    now_ns: u64,
    is_frontend: impl Fn(&FrontendAddr) -> bool,
    backend: impl Fn(&BackendAddr) -> Option<KnownBackend>,
) -> Option<KernelFlow> {
    let Connection { protocol, original, reply, progress, .. } = *connection;
    let dialled = original.destination;
    let frontend = FrontendAddr { ip: dialled.ip(), port: dialled.port(), protocol };
    if progress == Progress::Closed || !is_frontend(&frontend) {
        return None;
    }
    let backend = backend(&BackendAddr { ip: reply.source.ip(), port: reply.source.port() });
    if backend.is_none() && protocol == Protocol::Udp {
        return None;
    }
    let side = Ends { source: reply.destination, destination: reply.source };
    let backend = backend.unwrap_or_default();
    let entry = match dialled.ip() {
        IpAddr::V4(_) => {
            let (key, flow) = entry(tuple(original, v4)?, tuple(side, v4)?, progress, backend);
            Entry::V4(key, Flow { last_seen_ns: now_ns, ..flow })
        }
        IpAddr::V6(_) => {
            let (key, flow) = entry(tuple(original, v6)?, tuple(side, v6)?, progress, backend);
            Entry::V6(key, Flow { last_seen_ns: now_ns, ..flow })
        }
    };
    Some(KernelFlow { protocol, entry })
}

/// The entry of a masqueraded connection's backend's side; `None` if the client is seen by its own
/// address and port, which nobody else has. Policies judge it like any connection, and admit those of
/// the node itself.
pub fn reservation(
    connection: &Connection,
    now_ns: u64,
    is_node: impl Fn(&IpAddr) -> bool,
) -> Option<KernelFlow> {
    let Connection { protocol, original, reply, progress, .. } = *connection;
    if reply.destination == original.source {
        return None;
    }
    let side = Ends { source: reply.destination, destination: reply.source };
    let host = if is_node(&original.source.ip()) { flow_flags::HOST } else { 0 };
    let entry = match side.source.ip() {
        IpAddr::V4(_) => {
            let (key, flow) = direct(tuple(side, v4)?, progress, host);
            Entry::V4(key, Flow { last_seen_ns: now_ns, ..flow })
        }
        IpAddr::V6(_) => {
            let (key, flow) = direct(tuple(side, v6)?, progress, host);
            Entry::V6(key, Flow { last_seen_ns: now_ns, ..flow })
        }
    };
    Some(KernelFlow { protocol, entry })
}

fn direct<A: Ordered>(side: Tuple<A>, progress: Progress, host: u16) -> (Tuple<A>, Flow<A>)
where
    Flow<A>: Default,
{
    let (key, flow) = entry(side, side, progress, KnownBackend::default());
    let first = flow.flags & flow_flags::CLIENT_FIRST;
    (key, Flow { flags: flow_flags::DIRECT | host | first, ..flow })
}

fn entry<A: Ordered>(
    client_side: Tuple<A>,
    server_side: Tuple<A>,
    progress: Progress,
    backend: KnownBackend,
) -> (Tuple<A>, Flow<A>)
where
    Flow<A>: Default,
{
    let (key, client_first) = client_side.canonical();
    let first = if client_first == 1 { flow_flags::CLIENT_FIRST } else { 0 };
    let (forward, reply) = directions(progress);
    let flow = Flow {
        other: server_side,
        backend: backend.id,
        generation: backend.generation,
        flags: flow_flags::KERNEL | flow_flags::ALIAS | first,
        forward,
        reply,
        ..Flow::default()
    };
    (key, flow)
}

/// What the entry would have seen of both directions; its timeout follows from it.
fn directions(progress: Progress) -> (u8, u8) {
    let both = seen::ANY | seen::DATA;
    match progress {
        Progress::Unanswered => (seen::ANY, 0),
        Progress::Opening => (seen::ANY, seen::ANY),
        Progress::Established => (both, both),
        Progress::Closing | Progress::Closed => (both | seen::FIN, both),
    }
}

fn tuple<A>(ends: Ends, address: impl Fn(SocketAddr) -> Option<A>) -> Option<Tuple<A>> {
    Some(Tuple {
        src: address(ends.source)?,
        dst: address(ends.destination)?,
        src_port: ends.source.port().to_be(),
        dst_port: ends.destination.port().to_be(),
    })
}

fn v4(address: SocketAddr) -> Option<V4> {
    match address {
        SocketAddr::V4(address) => Some((*address.ip()).into()),
        SocketAddr::V6(_) => None,
    }
}

fn v6(address: SocketAddr) -> Option<V6> {
    match address {
        SocketAddr::V6(address) => Some((*address.ip()).into()),
        SocketAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::conntrack::tests::ends, *};

    const KNOWN: KnownBackend = KnownBackend { id: 7, generation: 3 };

    fn connection(protocol: Protocol, progress: Progress) -> Connection {
        Connection {
            protocol,
            original: ends("10.244.1.9:40000", "10.96.0.10:80"),
            reply: ends("10.244.2.5:8080", "192.168.77.1:51000"),
            progress,
            timeout_seconds: 60,
        }
    }

    fn flow(connection: &Connection, backend: Option<KnownBackend>) -> Option<KernelFlow> {
        let web = "10.96.0.10".parse::<IpAddr>().unwrap();
        kernel_flow(
            connection,
            9,
            |frontend| frontend.ip == web && frontend.port == 80,
            |addr| {
                assert_eq!(addr.to_string(), "10.244.2.5:8080");
                backend
            },
        )
    }

    #[test]
    fn both_directions_of_the_clients_side_find_the_entry() {
        let connection = connection(Protocol::Tcp, Progress::Established);
        let Some(KernelFlow { entry: Entry::V4(key, flow), .. }) = flow(&connection, Some(KNOWN))
        else {
            panic!("no entry");
        };
        let client = tuple(connection.original, v4).unwrap();
        assert_eq!((key, 1), client.canonical(), "10.244.1.9 is below 10.96.0.10 in memory order");
        assert_eq!(key, client.reverse().canonical().0);
        let flags = flow_flags::KERNEL | flow_flags::ALIAS | flow_flags::CLIENT_FIRST;
        assert_eq!(flow.flags, flags);
        assert_eq!((flow.backend, flow.generation, flow.last_seen_ns), (7, 3, 9));
        let backend_side = ends("192.168.77.1:51000", "10.244.2.5:8080");
        assert_eq!(flow.other, tuple(backend_side, v4).unwrap());
    }

    #[test]
    fn what_is_over_or_of_no_frontend_has_no_entry() {
        assert_eq!(flow(&connection(Protocol::Tcp, Progress::Closed), Some(KNOWN)), None);
        let mut other = connection(Protocol::Tcp, Progress::Established);
        other.original.destination.set_port(81);
        assert_eq!(flow(&other, Some(KNOWN)), None);
    }

    #[test]
    fn tcp_goes_on_with_a_backend_that_is_gone_and_udp_does_not() {
        assert!(flow(&connection(Protocol::Tcp, Progress::Closing), None).is_some());
        assert_eq!(flow(&connection(Protocol::Udp, Progress::Established), None), None);
        assert!(flow(&connection(Protocol::Udp, Progress::Established), Some(KNOWN)).is_some());
    }

    #[test]
    fn the_port_of_a_masqueraded_client_is_reserved_on_the_backends_side() {
        let masqueraded = connection(Protocol::Tcp, Progress::Established);
        let reserve = |connection, is_node: bool| reservation(&connection, 9, |_| is_node);
        let Some(KernelFlow { entry: Entry::V4(key, flow), .. }) = reserve(masqueraded, false)
        else {
            panic!("no entry");
        };
        let side =
            Ends { source: masqueraded.reply.destination, destination: masqueraded.reply.source };
        let (expected, first) = tuple(side, v4).unwrap().canonical();
        assert_eq!((key, flow.other), (expected, tuple(side, v4).unwrap()));
        let first = if first == 1 { flow_flags::CLIENT_FIRST } else { 0 };
        assert_eq!(flow.flags, flow_flags::DIRECT | first);
        assert_eq!((flow.egress_epoch, flow.ingress_epoch), (0, 0), "nobody has judged it");
        let Some(KernelFlow { entry: Entry::V4(_, flow), .. }) = reserve(masqueraded, true) else {
            panic!("no entry");
        };
        assert_eq!(flow.flags, flow_flags::DIRECT | flow_flags::HOST | first);
        let source = masqueraded.original.source;
        let reply = Ends { destination: source, ..masqueraded.reply };
        assert_eq!(reserve(Connection { reply, ..masqueraded }, false), None);
    }
}
