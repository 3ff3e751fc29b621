// SPDX-License-Identifier: Apache-2.0
//! Network policies about what has no ports: ICMP and its errors, other protocols, later fragments.

use std::net::{IpAddr, SocketAddr};

use pintle_abi::{counter::Hook, drop_reason::DropReason, policy::Endpoint};

use super::{Ip, data, first};
use crate::{
    frame::{Frame, frame, icmp, proto, udp},
    policies::{EGRESS, FRIEND, INGRESS, OTHER, PORTS, WEB, pod},
    world::{Origin, World},
};

const FROM_POD: Hook = Hook::FromPod;
const TO_POD: Hook = Hook::ToPod;

/// Generic routing encapsulation, as good as any other.
const GRE: u8 = 47;

fn ping(ip: Ip, src: IpAddr, dst: IpAddr) -> Frame {
    icmp(src, dst, (if ip.is_v6() { 128 } else { 8 }, 0), 7, b"ping")
}

fn pong(ip: Ip, src: IpAddr, dst: IpAddr) -> Frame {
    icmp(src, dst, (if ip.is_v6() { 129 } else { 0 }, 0), 7, b"ping")
}

/// An error of a router about a packet.
fn error(ip: Ip, about: &Frame) -> Frame {
    let kind = if ip.is_v6() { (1, 3) } else { (3, 1) };
    icmp(ip.router(), about.src.ip(), kind, 0, &about.quote(28 + 20))
}

/// P9: echo follows the rules that name no port, and answers need none.
pub fn echo_follows_portless_rules(world: &mut dyn World, ip: Ip) {
    let (own, peer) = (ip.client(0).ip(), ip.remote_pod(0).ip());
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(own) });
    world.put_peer(peer, FRIEND);
    world.ruleset(EGRESS, &[OTHER], &[WEB, PORTS]);
    world.ruleset(INGRESS, &[], &[WEB, PORTS]);
    world.lets(FROM_POD, &ping(ip, own, peer));
    world.lets(TO_POD, &pong(ip, peer, own));
    world.denies(TO_POD, &ping(ip, peer, own));
    world.denies(FROM_POD, &pong(ip, own, peer));
    world.denies(FROM_POD, &ping(ip, own, ip.outside(7, 0).ip()));
    world.denies(TO_POD, &pong(ip, ip.outside(7, 0).ip(), own));
    // A question that is long past has no answers any more; they are judged as they are.
    world.age_other_flows(31_000_000_000);
    world.lets(TO_POD, &pong(ip, peer, own));
    // A change ends what is going on.
    world.ruleset(EGRESS, &[], &[]);
    world.police(2);
    world.denies(TO_POD, &pong(ip, peer, own));
    world.denies(FROM_POD, &ping(ip, own, peer));
    world.expect(
        "from_pod: 1 passed, from_pod: 4 judged, from_pod: 2 dropped (policy denied egress), \
         from_pod: 1 dropped (policy denied ingress), to_pod: 2 passed, to_pod: 5 judged, \
         to_pod: 2 dropped (policy denied egress), to_pod: 1 dropped (policy denied ingress)",
    );
}

/// P4.
pub fn echo_of_the_own_node_is_let_in(world: &mut dyn World, ip: Ip) {
    let (own, node) = (ip.client(0).ip(), ip.node(0).ip());
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(own) });
    world.ruleset(EGRESS, &[], &[]);
    world.ruleset(INGRESS, &[], &[]);
    world.denies(FROM_POD, &pong(ip, own, node));
    world.lets_from(Origin::Host, TO_POD, &ping(ip, node, own));
    world.lets(FROM_POD, &pong(ip, own, node));
    world.police(2);
    world.lets(FROM_POD, &pong(ip, own, node));
    world.denies(FROM_POD, &ping(ip, own, node));
}

/// P9.
pub fn other_protocols_follow_portless_rules(world: &mut dyn World, ip: Ip) {
    let (own, peer) = (ip.client(0), ip.remote_pod(0));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(own.ip()) });
    world.put_peer(peer.ip(), FRIEND);
    world.ruleset(EGRESS, &[OTHER], &[WEB, PORTS]);
    world.ruleset(INGRESS, &[], &[]);
    let (out, back) = (frame(own, peer, GRE), frame(peer, own, GRE));
    world.denies(TO_POD, &back);
    world.lets(FROM_POD, &out);
    world.lets(TO_POD, &back);
    world.lets(FROM_POD, &out);
    world.denies(FROM_POD, &frame(own, ip.outside(7, 0), GRE));
    world.age_other_flows(601_000_000_000);
    world.denies(TO_POD, &back);
}

/// P9: an error about an allowed connection passes, also to a pod that may receive nothing else.
pub fn errors_about_allowed_connections_pass(world: &mut dyn World, ip: Ip) {
    let (own, peer) = (ip.client(40000), ip.remote_pod(80));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(own.ip()) });
    world.put_peer(peer.ip(), FRIEND);
    world.ruleset(EGRESS, &[WEB], &[]);
    world.ruleset(INGRESS, &[], &[]);
    for proto in [proto::TCP, proto::UDP, proto::SCTP] {
        let packet = first(proto, own, peer);
        world.denies(TO_POD, &error(ip, &packet));
        world.lets(FROM_POD, &packet);
        world.lets(TO_POD, &error(ip, &packet));
        // The pod itself may say that it has no such port any more.
        let answer = data(proto, peer, own);
        let kind = if ip.is_v6() { (1, 4) } else { (3, 3) };
        let body = answer.quote(28 + 20);
        world.lets(FROM_POD, &icmp(own.ip(), peer.ip(), kind, 0, &body));
    }
    assert_eq!(world.dropped(TO_POD, DropReason::DeniedIngress), 3);
}

/// Without neighbours there is no link: discovery is no matter of policy, not even its first source,
/// which is none.
pub fn neighbour_discovery_always_passes(world: &mut dyn World, ip: Ip) {
    let own = ip.client(0).ip();
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(own) });
    world.ruleset(EGRESS, &[], &[]);
    world.ruleset(INGRESS, &[], &[]);
    if !ip.is_v6() {
        return;
    }
    let link_local = IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 9]);
    let unspecified = IpAddr::from([0_u16; 8]);
    for kind in 133..=137 {
        for src in [own, link_local, unspecified] {
            world.lets(FROM_POD, &icmp(src, ip.router(), (kind, 0), 0, &[0; 16]));
        }
        world.lets(TO_POD, &icmp(ip.router(), own, (kind, 0), 0, &[0; 16]));
        world.denies(FROM_POD, &icmp(ip.remote_pod(0).ip(), ip.router(), (kind, 0), 0, &[0; 16]));
    }
    // Nothing else has such a source.
    world.denies(FROM_POD, &ping(ip, link_local, ip.router()));
    world.denies(FROM_POD, &udp(SocketAddr::new(link_local, 1), ip.node(1)));
    assert_eq!(world.dropped(FROM_POD, DropReason::Spoofed), 7);
}

/// Our pod may ask a friend at its port 80, and nobody may ask it.
fn may_ask_a_friend(world: &mut dyn World, ip: Ip) -> (SocketAddr, SocketAddr) {
    let (own, peer) = (ip.client(40000), ip.remote_pod(80));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(own.ip()) });
    world.put_peer(peer.ip(), FRIEND);
    world.ruleset(EGRESS, &[WEB], &[]);
    world.ruleset(INGRESS, &[], &[]);
    (own, peer)
}

/// Fragments have the verdict of their first; one that comes before it is dropped.
pub fn fragments_share_the_verdict_of_their_first(world: &mut dyn World, ip: Ip) {
    let (own, peer) = may_ask_a_friend(world, ip);
    let allowed = udp(own, peer).payload([1; 1000]).fragments(7, 400);
    world.denies(FROM_POD, &allowed[1]);
    allowed.iter().for_each(|piece| world.lets(FROM_POD, piece));
    let answer = udp(peer, own).payload([2; 1000]).fragments(8, 400);
    world.denies(TO_POD, &answer[2]);
    answer.iter().for_each(|piece| world.lets(TO_POD, piece));
    let denied = udp(own, ip.remote_pod(81)).payload([3; 1000]).fragments(9, 400);
    denied.iter().for_each(|piece| world.denies(FROM_POD, piece));
    assert_eq!(world.dropped(FROM_POD, DropReason::FragmentUnknown), 1);
    assert_eq!(world.dropped(FROM_POD, DropReason::DeniedEgress), 3);
    assert_eq!(world.dropped(TO_POD, DropReason::FragmentUnknown), 1);
}

/// Those of an echo, too.
pub fn fragments_of_an_echo_share_its_verdict(world: &mut dyn World, ip: Ip) {
    let (own, peer) = (ip.client(0).ip(), ip.remote_pod(0).ip());
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(own) });
    world.put_peer(peer, FRIEND);
    world.ruleset(EGRESS, &[OTHER], &[]);
    let long = |dst| {
        let kind = (if ip.is_v6() { 128 } else { 8 }, 0);
        icmp(own, dst, kind, 7, &[5; 1000]).fragments(7, 400)
    };
    long(peer).iter().for_each(|piece| world.lets(FROM_POD, piece));
    long(ip.outside(7, 0).ip()).iter().for_each(|piece| world.denies(FROM_POD, piece));
}

/// What claims more than it is has no ports to be judged by.
pub fn truncated_packets_are_dropped(world: &mut dyn World, ip: Ip) {
    let (own, peer) = (ip.client(40000), ip.remote_pod(80));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(own.ip()) });
    world.ruleset(EGRESS, &[], &[OTHER, WEB, PORTS]);
    world.ruleset(INGRESS, &[], &[OTHER, WEB, PORTS]);
    for (hook, packet) in [(FROM_POD, udp(own, peer)), (TO_POD, udp(peer, own))] {
        let bytes = packet.payload([1; 64]).bytes();
        let went = world.send_from(Origin::Elsewhere, hook, &bytes[..bytes.len() - 32]);
        assert_eq!(went.0, crate::world::Verdict::Drop);
        assert_eq!(world.dropped(hook, DropReason::Malformed), 1);
    }
}

/// IP options and extension headers are no way around.
pub fn unusual_headers_are_judged(world: &mut dyn World, ip: Ip) {
    let (own, peer) = may_ask_a_friend(world, ip);
    let unusual = |src, dst| {
        let frame = udp(src, dst);
        if ip.is_v6() {
            Frame { extensions: vec![(60, vec![0; 6])], ..frame }
        } else {
            frame.options([1, 1, 1, 0])
        }
    };
    world.lets(FROM_POD, &unusual(own, peer));
    world.lets(TO_POD, &unusual(peer, own));
    world.denies(FROM_POD, &unusual(own, ip.remote_pod(81)));
    world.denies(TO_POD, &unusual(ip.remote_pod(81), own));
}
