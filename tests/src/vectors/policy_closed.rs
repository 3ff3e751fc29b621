// SPDX-License-Identifier: Apache-2.0
//! Who is let in by where it was made, who is let nowhere: pods that nothing is known of, and pods
//! that use what is not theirs.

use std::net::IpAddr;

use pintle_abi::{
    addr::{V4, V6},
    counter::Hook,
    drop_reason::DropReason,
    policy::{Endpoint, policy_mode},
};

use super::{Ip, data, first};
use crate::{
    frame::{flag, icmp, proto, tcp, udp},
    policies::{EGRESS, INGRESS, WEB, pod},
    world::{IFINDEX, Origin, World},
};

const PROTOCOLS: [u8; 3] = [proto::TCP, proto::UDP, proto::SCTP];

const FROM_POD: Hook = Hook::FromPod;
const TO_POD: Hook = Hook::ToPod;

/// P4: kubelet probes reach every pod, also past loopback; the pod may answer them and no more.
pub fn own_node_is_let_in(world: &mut dyn World, ip: Ip) {
    let (host, server) = (ip.node(40000), ip.client(8080));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(server.ip()) });
    world.ruleset(EGRESS, &[], &[]);
    world.ruleset(INGRESS, &[], &[]);
    for (origin, port) in [(Origin::Host, 41000), (Origin::Loopback, 42000)] {
        let host = ip.node(port);
        for proto in PROTOCOLS {
            world.lets_from(origin, TO_POD, &first(proto, host, server));
            world.lets(FROM_POD, &data(proto, server, host));
            world.lets_from(origin, TO_POD, &data(proto, host, server));
            world.denies(FROM_POD, &first(proto, ip.client(40000), host));
        }
    }
    // P4: another node, or a client that was masqueraded there, is not; nor is our address from outside.
    for proto in PROTOCOLS {
        world.denies(TO_POD, &first(proto, ip.other_node(40000), server));
        world.denies(TO_POD, &first(proto, host, server));
    }
    world.expect_counters(
        "from_pod: 6 passed, from_pod: 6 judged, from_pod: 6 dropped (policy denied egress), \
         to_pod: 12 passed, to_pod: 6 new flows, to_pod: 12 judged, \
         to_pod: 6 dropped (policy denied ingress)",
    );
}

/// P4: a change does not shut out the own node.
pub fn own_node_stays_in_after_a_change(world: &mut dyn World, ip: Ip) {
    let (host, server) = (ip.node(40000), ip.client(8080));
    world.ruleset(INGRESS, &[], &[]);
    world.at_pod(Endpoint { ingress: INGRESS, ..pod(server.ip()) });
    for (epoch, proto) in [1, 3, 5].into_iter().zip(PROTOCOLS) {
        world.police(epoch);
        world.lets_from(Origin::Host, TO_POD, &first(proto, host, server));
        world.police(epoch + 1);
        world.lets(FROM_POD, &data(proto, server, host));
        world.lets_from(Origin::Host, TO_POD, &data(proto, host, server));
    }
}

/// What the pod has asked the host is no connection of the host's: a change ends it.
pub fn answers_of_the_own_node_open_nothing(world: &mut dyn World, ip: Ip) {
    let (client, host) = (ip.client(40000), ip.node(53));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
    world.ruleset(EGRESS, &[], &[]);
    for proto in PROTOCOLS {
        let answer = data(proto, host, client);
        world.lets_from(Origin::Host, TO_POD, &answer);
        world.denies(FROM_POD, &data(proto, client, host));
    }
    assert_eq!(world.dropped(FROM_POD, DropReason::DeniedEgress), 3);
}

/// P5: a new pod neither sends nor receives until something is known of it; its own node may probe it.
pub fn unknown_pod_is_closed(world: &mut dyn World, ip: Ip) {
    let (pod, peer, host) = (ip.client(8080), ip.remote_pod(40000), ip.node(41000));
    world.police(1);
    for proto in PROTOCOLS {
        world.denies(FROM_POD, &first(proto, pod, peer));
        world.denies(TO_POD, &first(proto, peer, pod));
        world.lets_from(Origin::Host, TO_POD, &first(proto, host, pod));
        world.lets(FROM_POD, &data(proto, pod, host));
    }
    let echo = icmp(pod.ip(), peer.ip(), (echo(ip), 0), 0, b"ping");
    world.denies(FROM_POD, &echo);
    // It has to find its neighbours meanwhile.
    if ip.is_v6() {
        let solicitation = icmp(pod.ip(), ip.router(), (135, 0), 0, &[0; 16]);
        world.lets(FROM_POD, &solicitation);
        world.lets(TO_POD, &icmp(ip.router(), pod.ip(), (136, 0), 0, &[0; 16]));
    }
    assert_eq!(world.dropped(FROM_POD, DropReason::NotProgrammed), 4);
    assert_eq!(world.dropped(TO_POD, DropReason::NotProgrammed), 3);
}

fn echo(ip: Ip) -> u8 {
    if ip.is_v6() { 128 } else { 8 }
}

/// P5: unless asked otherwise; services work, too.
pub fn unknown_pod_is_open_if_asked_for(world: &mut dyn World, ip: Ip) {
    let (pod, peer) = (ip.client(40000), ip.remote_pod(80));
    world.police_as(policy_mode::OPEN, 1);
    for proto in PROTOCOLS {
        world.lets(FROM_POD, &first(proto, pod, peer));
        world.lets(TO_POD, &first(proto, peer, ip.client(81)));
        world.service_behind(0, (ip.service(80), proto), 1, &[peer]);
        let request = first(proto, pod, ip.service(80));
        let sent = first(proto, pod, peer);
        world.takes(FROM_POD, &request, crate::world::Exit::Next, &sent);
    }
    assert_eq!(world.dropped(FROM_POD, DropReason::NotProgrammed), 0);
}

/// P6: a pod uses its own address and no other, whether policies select it or not.
pub fn foreign_source_is_dropped(world: &mut dyn World, ip: Ip) {
    let (own, other, peer) = (ip.client(40000), ip.backend(5, 40000), ip.remote_pod(80));
    world.police(1);
    for endpoint in [pod(own.ip()), Endpoint { egress: EGRESS, ..pod(own.ip()) }] {
        world.ruleset(EGRESS, &[], &[WEB]);
        world.at_pod(endpoint);
        for proto in PROTOCOLS {
            world.denies(FROM_POD, &first(proto, other, peer));
            world.denies(FROM_POD, &first(proto, other, ip.service(80)));
        }
        world.denies(FROM_POD, &icmp(other.ip(), peer.ip(), (echo(ip), 0), 0, b"ping"));
        world.denies(FROM_POD, &udp(other, peer).options([1, 1, 1, 0]));
    }
    assert_eq!(world.dropped(FROM_POD, DropReason::Spoofed), 16);
}

/// Of what is dropped without a rule it is noted which pod sent or got it, and from or to whom; of a
/// source that is not the pod's, which.
pub fn doubtful_packets_are_noted(world: &mut dyn World, ip: Ip) {
    let (own, other, peer) = (ip.client(40000), ip.backend(5, 40000), ip.remote_pod(80));
    world.police(1);
    for proto in PROTOCOLS {
        world.denies(FROM_POD, &first(proto, own, peer));
        world.denies(TO_POD, &first(proto, peer, own));
    }
    world.at_pod(pod(own.ip()));
    for proto in PROTOCOLS {
        world.denies(FROM_POD, &first(proto, other, peer));
    }
    let denied = world.denied();
    assert_eq!(denied.len(), 3, "{denied:?}");
    for (key, value) in denied {
        let reason = DropReason::ALL[usize::from(key.outcome)];
        let (expected, port) = match (reason, key.ingress) {
            (DropReason::NotProgrammed, 0) => (peer, 80),
            (DropReason::NotProgrammed, 1) => (peer, 40000),
            (DropReason::Spoofed, 0) => (other, 80),
            _ => panic!("{reason:?} {key:?}"),
        };
        assert_eq!(value.peer, words(expected.ip()), "{reason:?}");
        assert_eq!((u16::from_be(value.port), value.packets), (port, 3), "{reason:?}");
        assert_eq!((key.ifindex, key.ruleset, key.class), (IFINDEX, 0, 0), "{reason:?}");
    }
}

/// An address as it is noted.
fn words(ip: IpAddr) -> [u32; 4] {
    match ip {
        IpAddr::V4(ip) => [V4::from(ip).0, 0, 0, 0],
        IpAddr::V6(ip) => V6::from(ip).0,
    }
}

/// P6: also into an established connection, of a service or not.
pub fn foreign_source_does_not_join_a_connection(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.client(40000), ip.service(80));
    let (backend, peer) = (ip.remote_pod(8080), ip.remote_pod(80));
    world.police(1);
    world.ruleset(EGRESS, &[], &[WEB]);
    for proto in PROTOCOLS {
        world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
        world.service_behind(0, (service, proto), 1, &[backend]);
        let sent = first(proto, client, backend);
        world.takes(FROM_POD, &first(proto, client, service), crate::world::Exit::Next, &sent);
        world.lets(FROM_POD, &first(proto, client, peer));
        world.at_pod(pod(ip.backend(5, 0).ip()));
        world.denies(FROM_POD, &data(proto, client, service));
        world.denies(FROM_POD, &data(proto, client, peer));
        world.denies(FROM_POD, &data(proto, peer, client));
    }
    assert_eq!(world.dropped(FROM_POD, DropReason::Spoofed), 9);
}

/// What is known of the pod is all that counts: an address of the other family it does not have.
pub fn address_of_a_missing_family_is_foreign(world: &mut dyn World, ip: Ip) {
    let own = ip.client(40000);
    world.police(1);
    world.put_endpoint(IFINDEX, Some(&Endpoint::default()));
    world.denies(FROM_POD, &tcp(own, ip.remote_pod(80), flag::SYN));
    assert_eq!(world.dropped(FROM_POD, DropReason::Spoofed), 1);
}

/// Policies that are switched off let everything go on.
pub fn policies_that_are_off_judge_nothing(world: &mut dyn World, ip: Ip) {
    let (client, server) = (ip.client(40000), ip.remote_pod(80));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
    world.ruleset(EGRESS, &[], &[WEB]);
    for proto in PROTOCOLS {
        world.lets(FROM_POD, &first(proto, client, server));
    }
    world.police_as(policy_mode::OFF, 2);
    world.ruleset(EGRESS, &[], &[]);
    for proto in PROTOCOLS {
        world.lets(FROM_POD, &data(proto, client, server));
        world.lets(TO_POD, &data(proto, server, client));
        world.lets(FROM_POD, &first(proto, ip.backend(5, 1), ip.outside(7, 1)));
    }
}
