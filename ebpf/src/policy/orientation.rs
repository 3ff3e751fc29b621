// SPDX-License-Identifier: Apache-2.0
//! Who began a connection of which the first packet was not seen.
//!
//! Pods that no policy selects are not tracked, so when one does, their connections are in the middle.
//! The port tells: servers listen below the ports that clients get.

use pintle_abi::addr::proto;

use crate::{flow, packet::Headers, wire::tcp::flag};

/// First of the ports that Linux gives to clients (`ip_local_port_range`).
const EPHEMERAL: u16 = 32_768;

/// Who sends a packet of an unknown connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The client.
    Client,
    /// The server, by all appearances.
    Server,
    /// It may be either.
    Unclear,
}

/// Who has sent a packet, as far as it tells.
#[inline(always)]
pub fn sender<A>(headers: &Headers<A>) -> Sender {
    if flow::is_first_segment(headers) {
        return Sender::Client;
    }
    const ANSWER: u8 = flag::SYN | flag::ACK;
    if headers.tcp_flags & ANSWER == ANSWER {
        return Sender::Server;
    }
    let (src, dst) = (u16::from_be(headers.tuple.src_port), u16::from_be(headers.tuple.dst_port));
    match (src >= EPHEMERAL, dst >= EPHEMERAL) {
        (true, false) => Sender::Client,
        (false, true) => Sender::Server,
        // Datagrams have no middle: whoever speaks first begins.
        _ if headers.proto == proto::UDP => Sender::Client,
        _ => Sender::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use pintle_abi::addr::{Tuple, V4};

    use super::*;
    use crate::packet::Fragmentation;

    fn headers(proto: u8, ports: (u16, u16), tcp_flags: u8) -> Headers<V4> {
        let (src_port, dst_port) = (ports.0.to_be(), ports.1.to_be());
        Headers {
            tuple: Tuple { src_port, dst_port, ..Tuple::default() },
            transport: 34,
            end: 54,
            id: 0,
            proto,
            ttl: 64,
            tcp_flags,
            fragmentation: Fragmentation::WHOLE,
            malformed: false,
        }
    }

    #[test]
    fn flags_of_tcp_come_before_ports() {
        let sender = |ports, flags| sender(&headers(proto::TCP, ports, flags));
        assert_eq!(sender((80, 40_000), flag::SYN), Sender::Client);
        assert_eq!(sender((40_000, 80), flag::SYN | flag::ACK), Sender::Server);
        assert_eq!(sender((40_000, 80), flag::ACK), Sender::Client);
        assert_eq!(sender((80, 40_000), flag::ACK), Sender::Server);
        assert_eq!(sender((80, 81), flag::ACK), Sender::Unclear);
        assert_eq!(sender((40_000, 40_001), flag::ACK), Sender::Unclear);
    }

    #[test]
    fn datagrams_between_ports_of_a_kind_are_the_clients() {
        let sender = |ports| sender(&headers(proto::UDP, ports, 0));
        assert_eq!(sender((5353, 5353)), Sender::Client);
        assert_eq!(sender((40_000, 53)), Sender::Client);
        assert_eq!(sender((53, 40_000)), Sender::Server);
    }
}
