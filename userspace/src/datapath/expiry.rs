// SPDX-License-Identifier: Apache-2.0
//! Which flows have expired, and how they are removed while packets go on. Knows no map.

use std::io;

use pintle_abi::{
    addr::{Ordered, Tuple},
    flow::{Flow, TcpState, flow_flags, udp_timeout_ns},
};

use crate::model::addr::Protocol;

/// A flow map, element by element; the programs change it at any time.
pub(super) trait FlowTable<A> {
    /// The entry of a key.
    fn get(&self, key: &Tuple<A>) -> io::Result<Option<Flow<A>>>;
    /// Removes an entry and tells what it was at that moment.
    fn take(&mut self, key: &Tuple<A>) -> io::Result<Option<Flow<A>>>;
    /// Puts an entry back, unless another has taken its place.
    fn put_back(&mut self, key: &Tuple<A>, flow: Flow<A>) -> io::Result<()>;
    /// Writes an entry in the place of another, unless that is gone.
    fn replace(&mut self, key: &Tuple<A>, flow: Flow<A>) -> io::Result<()>;
    /// Removes an entry.
    fn remove(&mut self, key: &Tuple<A>) -> io::Result<()>;
}

/// Whether an entry was idle for longer than its state allows.
pub(super) fn is_expired<A>(protocol: Protocol, flow: &Flow<A>, now_ns: u64) -> bool {
    now_ns > flow.last_seen_ns.saturating_add(timeout_ns(protocol, flow))
}

/// An alias lives as long as its main entry; by itself only a forgotten one goes, and late. An entry
/// of the kernel's connections has a state of its own.
fn timeout_ns<A>(protocol: Protocol, flow: &Flow<A>) -> u64 {
    let alias = flow.flags & flow_flags::ALIAS != 0 && !is_kernels(flow);
    match protocol {
        Protocol::Tcp | Protocol::Sctp if alias => TcpState::Established.timeout_ns(),
        Protocol::Tcp | Protocol::Sctp => TcpState::of(flow.forward, flow.reply).timeout_ns(),
        Protocol::Udp if alias => udp_timeout_ns(u8::MAX),
        Protocol::Udp => udp_timeout_ns(flow.reply),
    }
}

/// The kernel translates the connection: the entry stands alone.
fn is_kernels<A>(flow: &Flow<A>) -> bool {
    flow.flags & flow_flags::KERNEL != 0
}

/// Removes expired entries as they were read; returns the number of connections removed.
pub(super) fn remove<A: Ordered>(
    table: &mut impl FlowTable<A>,
    expired: &[(Tuple<A>, Flow<A>)],
) -> io::Result<usize> {
    let mut removed = 0;
    for (key, flow) in expired {
        if is_kernels(flow) {
            removed += usize::from(remove_unless_refreshed(table, key, flow)?.is_some());
        } else if flow.flags & flow_flags::ALIAS != 0 {
            remove_orphan(table, key, flow)?;
        } else {
            removed += usize::from(remove_connection(table, key, flow)?);
        }
    }
    Ok(removed)
}

/// Removes an entry and returns it. A packet may have refreshed it since it was read: then it is put
/// back.
fn remove_unless_refreshed<A>(
    table: &mut impl FlowTable<A>,
    key: &Tuple<A>,
    read: &Flow<A>,
) -> io::Result<Option<Flow<A>>> {
    let Some(now) = table.take(key)? else { return Ok(None) };
    if now.last_seen_ns != read.last_seen_ns {
        table.put_back(key, now)?;
        return Ok(None);
    }
    Ok(Some(now))
}

/// Removes both entries of a connection.
fn remove_connection<A: Ordered>(
    table: &mut impl FlowTable<A>,
    key: &Tuple<A>,
    read: &Flow<A>,
) -> io::Result<bool> {
    let Some(now) = remove_unless_refreshed(table, key, read)? else { return Ok(false) };
    let (alias_key, _) = now.other.canonical();
    // The client may have a newer connection under the same alias.
    if table.get(&alias_key)?.is_some_and(|alias| alias.other.canonical().0 == *key) {
        table.remove(&alias_key)?;
    }
    Ok(true)
}

/// Removes an alias whose main entry is gone, or another connection's.
fn remove_orphan<A: Ordered>(
    table: &mut impl FlowTable<A>,
    key: &Tuple<A>,
    alias: &Flow<A>,
) -> io::Result<()> {
    match table.get(&alias.other.canonical().0)? {
        Some(main) if main.other.canonical().0 == *key => Ok(()),
        _ => table.remove(key),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{collections::HashMap, net::Ipv4Addr};

    use pintle_abi::{addr::V4, flow::seen};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A map in memory.
    #[derive(Default)]
    pub(in super::super) struct Memory {
        pub(in super::super) flows: HashMap<Tuple<V4>, Flow<V4>>,
    }

    impl FlowTable<V4> for Memory {
        fn get(&self, key: &Tuple<V4>) -> io::Result<Option<Flow<V4>>> {
            Ok(self.flows.get(key).copied())
        }

        fn take(&mut self, key: &Tuple<V4>) -> io::Result<Option<Flow<V4>>> {
            Ok(self.flows.remove(key))
        }

        fn put_back(&mut self, key: &Tuple<V4>, flow: Flow<V4>) -> io::Result<()> {
            self.flows.entry(*key).or_insert(flow);
            Ok(())
        }

        fn replace(&mut self, key: &Tuple<V4>, flow: Flow<V4>) -> io::Result<()> {
            self.flows.entry(*key).and_modify(|old| *old = flow);
            Ok(())
        }

        fn remove(&mut self, key: &Tuple<V4>) -> io::Result<()> {
            self.flows.remove(key);
            Ok(())
        }
    }

    fn tuple(src: [u8; 4], src_port: u16, dst: [u8; 4], dst_port: u16) -> Tuple<V4> {
        let address = |octets: [u8; 4]| V4::from(Ipv4Addr::from(octets));
        Tuple {
            src: address(src),
            dst: address(dst),
            src_port: src_port.to_be(),
            dst_port: dst_port.to_be(),
        }
    }

    fn client_side() -> Tuple<V4> {
        tuple([10, 244, 1, 9], 40000, [10, 96, 0, 10], 80)
    }

    fn server_side(backend: u8) -> Tuple<V4> {
        tuple([10, 244, 1, 9], 40000, [10, 244, 1, backend], 8080)
    }

    /// Both entries of a closed connection to a backend.
    fn connect(memory: &mut Memory, backend: u8, last_seen_ns: u64) {
        let seen = seen::ANY | seen::DATA | seen::FIN;
        let main = Flow {
            other: client_side(),
            last_seen_ns,
            forward: seen,
            reply: seen,
            ..Flow::default()
        };
        let alias =
            Flow { other: server_side(backend), flags: flow_flags::ALIAS, last_seen_ns, ..main };
        memory.flows.insert(server_side(backend).canonical().0, main);
        memory.flows.insert(client_side().canonical().0, alias);
    }

    fn expired(memory: &Memory, now_ns: u64) -> Vec<(Tuple<V4>, Flow<V4>)> {
        let all = memory.flows.iter().map(|(key, flow)| (*key, *flow));
        all.filter(|(_, flow)| is_expired(Protocol::Tcp, flow, now_ns)).collect()
    }

    #[test]
    fn an_expired_connection_goes_with_both_entries() {
        let mut memory = Memory::default();
        connect(&mut memory, 5, SECOND);
        assert!(expired(&memory, 6 * SECOND).is_empty(), "closed flows are kept for 5 s");
        let found = expired(&memory, 7 * SECOND);
        assert_eq!(remove(&mut memory, &found).unwrap(), 1);
        assert!(memory.flows.is_empty());
    }

    /// C5.
    #[test]
    fn a_connection_refreshed_between_scan_and_removal_survives() {
        let mut memory = Memory::default();
        connect(&mut memory, 5, SECOND);
        let found = expired(&memory, 7 * SECOND);
        let main = memory.flows.get_mut(&server_side(5).canonical().0).unwrap();
        main.last_seen_ns = 7 * SECOND;
        assert_eq!(remove(&mut memory, &found).unwrap(), 0);
        assert_eq!(memory.flows.len(), 2);
    }

    #[test]
    fn the_alias_of_a_newer_connection_survives_the_old_one() {
        let mut memory = Memory::default();
        connect(&mut memory, 5, SECOND);
        connect(&mut memory, 6, 7 * SECOND);
        let found = expired(&memory, 8 * SECOND);
        assert_eq!(remove(&mut memory, &found).unwrap(), 1);
        assert_eq!(memory.flows.len(), 2);
        let alias = memory.flows[&client_side().canonical().0];
        assert_eq!(alias.other, server_side(6));
    }

    #[test]
    fn an_alias_goes_by_itself_only_without_its_main_entry() {
        let day = 24 * 3600 * SECOND;
        let mut memory = Memory::default();
        connect(&mut memory, 5, SECOND);
        let main_key = server_side(5).canonical().0;
        memory.flows.get_mut(&main_key).unwrap().last_seen_ns = 2 * day;
        let found = expired(&memory, 2 * day);
        remove(&mut memory, &found).unwrap();
        assert_eq!(memory.flows.len(), 2, "its main entry lives");
        let mut others = Memory { flows: memory.flows.clone() };
        others.flows.get_mut(&main_key).unwrap().other.src_port += 1;
        remove(&mut others, &found).unwrap();
        assert_eq!(others.flows.len(), 1, "the main entry is another connection's");
        memory.flows.remove(&main_key);
        remove(&mut memory, &found).unwrap();
        assert!(memory.flows.is_empty());
    }

    #[test]
    fn a_connection_of_the_kernels_goes_by_its_own_state_and_alone() {
        let kernels = |forward, last_seen_ns| Flow {
            other: server_side(5),
            flags: flow_flags::KERNEL | flow_flags::ALIAS,
            forward,
            reply: seen::ANY | seen::DATA,
            last_seen_ns,
            ..Flow::default()
        };
        let mut memory = Memory::default();
        connect(&mut memory, 5, 9 * 3600 * SECOND);
        let key = client_side().canonical().0;
        memory.flows.insert(key, kernels(seen::ANY | seen::DATA, 0));
        assert!(expired(&memory, 9 * 3600 * SECOND).is_empty(), "it is established");
        memory.flows.insert(key, kernels(seen::ANY | seen::DATA | seen::FIN, 0));
        let found = expired(&memory, 9 * 3600 * SECOND);
        assert_eq!(found.len(), 1);
        memory.flows.get_mut(&key).unwrap().last_seen_ns = SECOND;
        assert_eq!(remove(&mut memory, &found).unwrap(), 0, "a packet came meanwhile");
        let found = expired(&memory, 9 * 3600 * SECOND);
        assert_eq!(remove(&mut memory, &found).unwrap(), 1);
        assert_eq!(memory.flows.len(), 1);
    }

    #[test]
    fn timeouts_follow_the_state() {
        let check = |forward, reply, seconds| {
            let flow = Flow::<V4> { forward, reply, ..Flow::default() };
            for protocol in [Protocol::Tcp, Protocol::Sctp] {
                assert!(!is_expired(protocol, &flow, seconds * SECOND));
                assert!(is_expired(protocol, &flow, seconds * SECOND + 1));
            }
        };
        let data = seen::ANY | seen::DATA;
        check(seen::ANY, 0, 60);
        check(seen::ANY, seen::ANY, 60);
        check(data, data, 24 * 3600);
        check(data | seen::FIN, data, 3600);
        check(data | seen::FIN, data | seen::FIN | seen::CLOSES, 60);
        check(data | seen::FIN, data | seen::FIN, 5);
        check(data, data | seen::RST, 5);
    }
}
