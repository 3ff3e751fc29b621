// SPDX-License-Identifier: Apache-2.0
//! Network policies about connections that are not translated.

use pintle_abi::{
    counter::{Counter, Hook},
    drop_reason::DropReason,
    flow::flow_flags,
    policy::{Endpoint, PROTOCOL_BITS, PolicyPort, ruleset},
};

use super::{Ip, data, first};
use crate::{
    frame::{flag, proto, tcp, udp},
    policies::{EGRESS, FRIEND, INGRESS, PORTS, WEB, pod},
    world::{Range, Table, World},
};

const PROTOCOLS: [u8; 3] = [proto::TCP, proto::UDP, proto::SCTP];

const FROM_POD: Hook = Hook::FromPod;
const TO_POD: Hook = Hook::ToPod;

/// P1, P9: what a pod may send passes, and its answers need no rule.
pub fn allowed_egress_passes_with_its_answers(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.client(40000), ip.remote_pod(80));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(client.ip()) });
    world.put_peer(server.ip(), FRIEND);
    world.ruleset(EGRESS, &[WEB], &[]);
    world.ruleset(INGRESS, &[], &[]);
    for proto in PROTOCOLS {
        world.lets(FROM_POD, &first(proto, client, server));
        world.lets(TO_POD, &data(proto, server, client));
        world.lets(FROM_POD, &data(proto, client, server));
        world.lets(TO_POD, &data(proto, server, client));
    }
    world.expect(
        "from_pod: 6 passed, from_pod: 3 new flows, from_pod: 3 judged, to_pod: 6 passed, \
         1 tcp flows, 1 udp flows, 1 sctp flows",
    );
}

/// P1: silence, and nothing is remembered of it.
pub fn denied_egress_is_dropped(world: &mut dyn World, ip: Ip) {
    let (client, friend) = (ip.client(40000), ip.remote_pod(81));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
    world.put_peer(friend.ip(), FRIEND);
    world.ruleset(EGRESS, &[WEB], &[]);
    for proto in PROTOCOLS {
        world.denies(FROM_POD, &first(proto, client, friend));
        world.denies(FROM_POD, &first(proto, client, ip.outside(7, 80)));
        world.denies(FROM_POD, &first(proto, client, ip.outside(7, 80)));
    }
    world.expect("from_pod: 9 judged, from_pod: 9 dropped (policy denied egress)");
    let denied = world.denied();
    assert_eq!(denied.len(), 2, "{denied:?}");
    for (key, value) in denied {
        let (class, port_class, packets) =
            if key.class == 0 { (0, WEB, 6) } else { (FRIEND, PORTS, 3) };
        assert_eq!(
            (key.ruleset, key.class, u32::from(key.port_class)),
            (EGRESS, class, port_class)
        );
        assert_eq!((key.ingress, value.packets), (0, packets));
        assert_eq!(u32::from(key.outcome), DropReason::DeniedEgress as u32);
    }
}

/// P1, P9: the same at the other end, where the pod's answers need no rule.
pub fn allowed_ingress_passes_with_its_answers(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.remote_pod(40000), ip.client(80));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(server.ip()) });
    world.put_peer(client.ip(), FRIEND);
    world.ruleset(EGRESS, &[], &[]);
    world.ruleset(INGRESS, &[WEB], &[]);
    for proto in PROTOCOLS {
        world.lets(TO_POD, &first(proto, client, server));
        world.lets(FROM_POD, &data(proto, server, client));
        world.lets(TO_POD, &data(proto, client, server));
        world.denies(FROM_POD, &first(proto, ip.client(41000), client));
    }
    world.expect(
        "from_pod: 3 passed, from_pod: 3 judged, \
         from_pod: 3 dropped (policy denied egress), to_pod: 6 passed, to_pod: 3 new flows, \
         to_pod: 3 judged, 1 tcp flows, 1 udp flows, 1 sctp flows",
    );
}

/// P1.
pub fn denied_ingress_is_dropped(world: &mut dyn World, ip: Ip) {
    let (stranger, server) = (ip.outside(7, 40000), ip.client(80));
    world.police(1);
    world.at_pod(Endpoint { ingress: INGRESS, ..pod(server.ip()) });
    world.ruleset(INGRESS, &[WEB], &[]);
    for proto in PROTOCOLS {
        world.denies(TO_POD, &first(proto, stranger, server));
    }
    world.expect("to_pod: 3 judged, to_pod: 3 dropped (policy denied ingress)");
}

/// P1: both ends must allow it. The pod at the interface is first the one, then the other.
pub fn both_ends_must_allow(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.client(40000), ip.backend(5, 80));
    world.police(1);
    world.put_peer(server.ip(), FRIEND);
    world.ruleset(EGRESS, &[WEB], &[]);
    world.ruleset(INGRESS, &[WEB], &[]);
    for proto in PROTOCOLS {
        world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
        world.lets(FROM_POD, &first(proto, client, server));
        world.at_pod(Endpoint { ingress: INGRESS, ..pod(server.ip()) });
        world.denies(TO_POD, &first(proto, client, server));
        // Nor can the server answer.
        world.denies(FROM_POD, &data(proto::TCP, server, client));
    }
    world.put_peer(client.ip(), FRIEND);
    for proto in PROTOCOLS {
        world.lets(TO_POD, &first(proto, client, server));
        world.lets(FROM_POD, &data(proto, server, client));
    }
    let flows = world.flows(ip.is_v6(), proto::UDP, Table::Main);
    let seen =
        flows.iter().map(|flow| (flow.flags & flow_flags::DIRECT, flow.epochs, flow.packets));
    // The client's packet was counted where it left its pod.
    assert_eq!(seen.collect::<Vec<_>>(), [(flow_flags::DIRECT, (1, 1), 2)]);
}

/// P9, and the issue's own demand: silence from the next packet on, in both directions.
pub fn change_ends_established_connections(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.remote_pod(40000), ip.client(80));
    let ingress = Endpoint { ingress: INGRESS, ..pod(server.ip()) };
    for (epoch, proto) in [1, 3, 5].into_iter().zip(PROTOCOLS) {
        world.police(epoch);
        world.at_pod(ingress);
        world.put_peer(client.ip(), FRIEND);
        world.ruleset(INGRESS, &[WEB], &[]);
        world.lets(TO_POD, &first(proto, client, server));
        world.lets(FROM_POD, &data(proto, server, client));
        // Without another epoch nothing is asked.
        world.ruleset(INGRESS, &[], &[]);
        world.lets(TO_POD, &data(proto, client, server));
        world.police(epoch + 1);
        world.denies(TO_POD, &data(proto, client, server));
        world.denies(FROM_POD, &data(proto, server, client));
        world.denies(TO_POD, &data(proto, client, server));
        // Denied is not remembered.
        world.ruleset(INGRESS, &[WEB], &[]);
        world.lets(FROM_POD, &data(proto, server, client));
        world.lets(TO_POD, &data(proto, client, server));
    }
    world.expect(
        "from_pod: 6 passed, from_pod: 6 judged, from_pod: 3 dropped (policy denied ingress), \
         to_pod: 9 passed, to_pod: 3 new flows, to_pod: 9 judged, \
         to_pod: 6 dropped (policy denied ingress), 1 tcp flows, 1 udp flows, 1 sctp flows",
    );
}

/// The same from the client's end.
pub fn change_ends_connections_of_the_client(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.client(40000), ip.remote_pod(80));
    for (epoch, proto) in [1, 3, 5].into_iter().zip(PROTOCOLS) {
        world.police(epoch);
        world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
        world.ruleset(EGRESS, &[], &[WEB]);
        world.lets(FROM_POD, &first(proto, client, server));
        world.lets(TO_POD, &data(proto, server, client));
        world.ruleset(EGRESS, &[], &[]);
        world.police(epoch + 1);
        world.denies(TO_POD, &data(proto, server, client));
        world.denies(FROM_POD, &data(proto, client, server));
    }
    world.expect_counters(
        "from_pod: 3 passed, from_pod: 3 new flows, from_pod: 6 judged, \
         from_pod: 3 dropped (policy denied egress), to_pod: 3 passed, to_pod: 3 judged, \
         to_pod: 3 dropped (policy denied egress)",
    );
}

/// A pod that was not selected has connections of which nothing is known when it is: their ports tell
/// who began them.
pub fn unknown_connections_are_judged_by_their_ports(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.remote_pod(40000), ip.client(80));
    world.police(1);
    world.at_pod(Endpoint { ingress: INGRESS, ..pod(server.ip()) });
    world.ruleset(INGRESS, &[WEB], &[]);
    // Its egress is open: that is no way around its ingress.
    let answer = data(proto::TCP, server, client);
    world.denies(TO_POD, &data(proto::TCP, client, server));
    world.denies(FROM_POD, &answer);
    // A datagram may be one that nobody has asked for; it opens nothing.
    world.lets(FROM_POD, &data(proto::UDP, server, client));
    world.denies(TO_POD, &data(proto::UDP, client, server));
    world.put_peer(client.ip(), FRIEND);
    world.lets(FROM_POD, &answer);
    world.lets(TO_POD, &data(proto::TCP, client, server));
    // Both ports may be a server's.
    world.lets(FROM_POD, &data(proto::TCP, ip.client(80), ip.remote_pod(81)));
    world.expect_counters(
        "from_pod: 3 passed, from_pod: 2 new flows, from_pod: 4 judged, \
         from_pod: 1 dropped (policy denied ingress), to_pod: 1 passed, to_pod: 2 judged, \
         to_pod: 2 dropped (policy denied ingress)",
    );
}

/// A packet that is asked about both ways counts once, under the question that decides.
pub fn unclear_packets_are_noted_once(world: &mut dyn World, ip: Ip) {
    let (own, peer) = (ip.client(80), ip.remote_pod(81));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(own.ip()) });
    world.ruleset(EGRESS, &[], &[]);
    world.ruleset(INGRESS, &[WEB], &[]);
    // Both ports may be a server's; a datagram that looks like an answer may be none.
    world.denies(FROM_POD, &data(proto::TCP, own, peer));
    world.denies(FROM_POD, &data(proto::UDP, own, ip.remote_pod(40000)));
    let noted = |world: &dyn World| {
        let sides = world.denied().into_iter().map(|(key, value)| (key.ingress, value.packets));
        sides.collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(noted(world), [(0, 1), (1, 1)].into());
    // What passes was not denied.
    world.put_peer(peer.ip(), FRIEND);
    world.lets(FROM_POD, &data(proto::TCP, own, peer));
    assert_eq!(noted(world), [(0, 1), (1, 1)].into());
    // The server of a connection that it never let in begins one of its own.
    let client = ip.backend(5, 5000);
    world.at_pod(Endpoint { ingress: INGRESS, ..pod(client.ip()) });
    world.lets(FROM_POD, &udp(client, own));
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(own.ip()) });
    world.denies(FROM_POD, &udp(own, client));
    assert_eq!(noted(world), [(0, 2), (1, 1)].into());
}

/// The tuple of a connection that is over may be used in the other direction.
pub fn finished_connection_does_not_bind_its_successor(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.client(40000), ip.remote_pod(80));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(client.ip()) });
    world.ruleset(EGRESS, &[], &[WEB]);
    world.ruleset(INGRESS, &[], &[]);
    world.lets(FROM_POD, &first(proto::TCP, client, server));
    world.lets(TO_POD, &tcp(server, client, flag::RST | flag::ACK));
    world.denies(TO_POD, &first(proto::TCP, server, client));
    world.lets(FROM_POD, &first(proto::TCP, client, server));
    world.lets(TO_POD, &tcp(server, client, flag::SYN | flag::ACK));
    assert_eq!(world.count(TO_POD, Counter::Judged), 1);
    assert_eq!(world.dropped(TO_POD, DropReason::DeniedIngress), 1);
}

/// A connection counts when its pod allows it for the first time: neither with its later packets, nor
/// after a change, nor if it is denied.
pub fn allowed_connections_are_counted_once(world: &mut dyn World, ip: Ip) {
    let (own, server) = (ip.client(40000), ip.remote_pod(80));
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(own.ip()) });
    world.put_peer(server.ip(), FRIEND);
    world.ruleset(EGRESS, &[WEB], &[]);
    world.ruleset(INGRESS, &[], &[PORTS]);
    for (epoch, proto) in [1, 3, 5].into_iter().zip(PROTOCOLS) {
        world.police(epoch);
        world.lets(FROM_POD, &first(proto, own, server));
        world.lets(FROM_POD, &first(proto, own, server));
        world.lets(TO_POD, &data(proto, server, own));
        world.lets(TO_POD, &first(proto, ip.outside(7, 50000), ip.client(81)));
        world.denies(FROM_POD, &first(proto, own, ip.outside(7, 80)));
        world.police(epoch + 1);
        world.lets(FROM_POD, &data(proto, own, server));
        world.lets(TO_POD, &data(proto, server, own));
    }
    let counted: std::collections::BTreeMap<_, _> = world
        .allowed()
        .into_iter()
        .map(|(key, value)| ((key.ruleset, key.class, key.port_class), value.connections))
        .collect();
    assert_eq!(counted, [((EGRESS, FRIEND, WEB), 3), ((INGRESS, 0, PORTS), 3)].into());
}

/// A client that was let out but not in answers nothing; its peer may still dial it.
pub fn unanswered_datagrams_do_not_bind_the_other_end(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.client(5000), ip.backend(5, 5000));
    world.police(1);
    world.ruleset(EGRESS, &[], &[PORTS]);
    world.ruleset(INGRESS, &[], &[]);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
    world.lets(FROM_POD, &udp(client, server));
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(server.ip()) });
    world.denies(TO_POD, &udp(client, server));
    world.lets(FROM_POD, &udp(server, client));
    world.lets(TO_POD, &udp(client, server));
}

/// A pod that no policy selects is not tracked, nor is anything while policies are off.
pub fn pods_without_policy_are_not_tracked(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.client(40000), ip.remote_pod(80));
    for on in [false, true] {
        if on {
            world.police(1);
            world.at_pod(pod(client.ip()));
        }
        for proto in PROTOCOLS {
            world.lets(FROM_POD, &first(proto, client, server));
            world.lets(TO_POD, &data(proto, server, client));
        }
    }
    world.expect("from_pod: 6 passed, to_pod: 6 passed");
}

/// P3: every prefix has the class of all that holds there, pods' and nodes' addresses have their own.
pub fn longest_prefix_gives_the_class(world: &mut dyn World, ip: Ip) {
    let client = ip.client(40000);
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
    world.ruleset(EGRESS, &[PORTS], &[]);
    world.row(EGRESS, 6, &[], &[]);
    let width = if ip.is_v6() { 128 } else { 32 };
    world.put_peer_range(Range { ip: ip.outside(0, 0).ip(), bits: width - 8 }, FRIEND);
    world.put_peer_range(Range { ip: ip.outside(7, 0).ip(), bits: width }, 6);
    world.put_peer(ip.outside(8, 0).ip(), 0);
    for proto in PROTOCOLS {
        world.lets(FROM_POD, &first(proto, client, ip.outside(6, 90)));
        world.denies(FROM_POD, &first(proto, client, ip.outside(7, 90)));
        world.denies(FROM_POD, &first(proto, client, ip.outside(8, 90)));
        world.denies(FROM_POD, &first(proto, client, ip.other_node(90)));
    }
    assert_eq!(world.dropped(FROM_POD, DropReason::DeniedEgress), 9);
}

/// P10: a ruleset that did not fit denies everything, under a reason of its own.
pub fn closed_ruleset_denies_everything(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.client(40000), ip.remote_pod(80));
    world.police(1);
    let closed = ruleset::CLOSED;
    world.at_pod(Endpoint { egress: closed, ingress: closed, ..pod(client.ip()) });
    world.put_peer(server.ip(), FRIEND);
    for proto in PROTOCOLS {
        world.denies(FROM_POD, &first(proto, client, server));
        world.denies(TO_POD, &first(proto, server, client));
    }
    world.expect(
        "from_pod: 3 judged, from_pod: 3 dropped (policy capacity), to_pod: 3 judged, \
         to_pod: 3 dropped (policy capacity)",
    );
}

/// What user space has forgotten to write is not allowed.
pub fn missing_row_denies(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.client(40000), ip.remote_pod(80));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
    world.put_peer(server.ip(), 99);
    world.ruleset(EGRESS, &[WEB], &[WEB]);
    world.denies(FROM_POD, &first(proto::TCP, client, server));
    world.expect("from_pod: 1 judged, from_pod: 1 dropped (policy row missing)");
}

/// Audit: what the staged policies would deny passes, and is counted.
pub fn audited_policies_only_report(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.client(40000), ip.remote_pod(80));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
    world.ruleset(EGRESS, &[], &[]);
    world.row(EGRESS, 0, &[WEB, PORTS], &[PORTS]);
    for proto in PROTOCOLS {
        world.lets(FROM_POD, &first(proto, client, server));
        world.lets(FROM_POD, &first(proto, client, ip.remote_pod(81)));
    }
    world.expect(
        "from_pod: 6 passed, from_pod: 6 new flows, from_pod: 6 judged, from_pod: 3 would drop, \
         2 tcp flows, 2 udp flows, 2 sctp flows",
    );
    let denied = world.denied();
    let outcomes: Vec<_> = denied.iter().map(|(key, value)| (key.outcome, value.packets)).collect();
    assert_eq!(outcomes, [(pintle_abi::policy::outcome::WOULD_DROP, 3)]);
}

/// An allowed connection passes even if it cannot be tracked; its answers are judged by themselves.
pub fn full_flow_maps_do_not_open_or_close(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.client(40000), ip.remote_pod(80));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(client.ip()) });
    world.ruleset(EGRESS, &[], &[WEB]);
    world.ruleset(INGRESS, &[], &[]);
    world.fill_flows(ip.is_v6(), proto::SCTP);
    world.lets(FROM_POD, &first(proto::SCTP, client, server));
    world.lets(TO_POD, &data(proto::SCTP, server, client));
    world.denies(TO_POD, &first(proto::SCTP, server, client));
    assert_eq!(world.count(FROM_POD, Counter::Untracked), 1);
}

/// P2: a range of ports is the prefixes that cover it; its edges are in, their neighbours are not.
pub fn port_ranges_end_at_their_edges(world: &mut dyn World, ip: Ip) {
    let client = ip.client(40000);
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
    world.row(EGRESS, 0, &[1], &[1]);
    for proto in PROTOCOLS {
        // 1..=6, 65,528..=65,534 and all of 1,024..=2,047.
        let cover: [(u16, u32); 8] = [
            (1, 16),
            (2, 15),
            (4, 15),
            (6, 16),
            (65_528, 14),
            (65_532, 15),
            (65_534, 16),
            (1024, 6),
        ];
        for (port, bits) in cover {
            let port = port.to_be();
            let key = PolicyPort { ruleset: EGRESS.to_be(), proto, pad: 0, port };
            world.put_policy_port(PROTOCOL_BITS + bits, key, 1);
        }
        for (port, allowed) in [
            (0, false),
            (1, true),
            (6, true),
            (7, false),
            (1023, false),
            (1024, true),
            (2047, true),
            (2048, false),
            (65_527, false),
            (65_528, true),
            (65_534, true),
            (65_535, false),
        ] {
            let packet = first(proto, client, ip.remote_pod(port));
            if allowed { world.lets(FROM_POD, &packet) } else { world.denies(FROM_POD, &packet) }
        }
    }
}
