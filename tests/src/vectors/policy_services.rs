// SPDX-License-Identifier: Apache-2.0
//! Network policies and services: policies see backends and clients, and nothing in between.

use std::net::SocketAddr;

use pintle_abi::{counter::Hook, drop_reason::DropReason, policy::Endpoint};

use super::{
    Ip, data, first,
    scene::{Kind, put_local, put_near, put_remote},
};
use crate::{
    frame::{Frame, icmp, proto, udp},
    policies::{EGRESS, FRIEND, HAIRPIN, INGRESS, WEB, pod},
    world::{Exit, Forget, IFINDEX, Origin, Verdict, World, hairpin_address},
};

const PROTOCOLS: [u8; 3] = [proto::TCP, proto::UDP, proto::SCTP];

const FROM_POD: Hook = Hook::FromPod;
const FROM_NET: Hook = Hook::FromNet;
const TO_POD: Hook = Hook::ToPod;

/// The interface of the backend's pod.
const BEHIND: u32 = IFINDEX + 70;

fn arrived(proto: u8, client: SocketAddr, backend: SocketAddr) -> Frame {
    first(proto, client, backend).ttl(63)
}

/// P3: the backend's address and port decide, not the service's.
pub fn egress_is_judged_behind_the_service(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.client(40000), ip.service(99));
    let (friend, stranger) = (ip.remote_pod(8080), ip.backend(5, 8080));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
    world.put_peer(friend.ip(), FRIEND);
    world.ruleset(EGRESS, &[WEB], &[]);
    for proto in PROTOCOLS {
        for (backend, allowed) in [(friend, true), (stranger, false)] {
            world.service_behind(0, (service, proto), 1, &[backend]);
            let request = first(proto, client, service);
            if allowed {
                world.takes(FROM_POD, &request, Exit::Next, &first(proto, client, backend));
                let reply = data(proto, service, client);
                world.to_pod(&data(proto, backend, client), &reply);
                let more = data(proto, client, backend);
                world.takes(FROM_POD, &data(proto, client, service), Exit::Next, &more);
            } else {
                world.denies(FROM_POD, &request);
                world.denies(FROM_POD, &request);
            }
            world.forget_flows(Forget::Everything);
        }
    }
    world.expect(
        "from_pod: 6 to a service, from_pod: 6 new flows, from_pod: 9 judged, \
         from_pod: 6 dropped (policy denied egress), to_pod: 3 from a service",
    );
}

/// Past the stack no other hook sees the packet: both ends are judged at once, also of replies.
pub fn fast_path_asks_both_ends(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.ruleset(EGRESS, &[], &[WEB]);
    world.ruleset(INGRESS, &[WEB], &[]);
    for (epoch, proto) in [1, 4, 7].into_iter().zip(PROTOCOLS) {
        world.police(epoch);
        world.put_peer(client.ip(), 0);
        world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
        world.put_endpoint(BEHIND, Some(&Endpoint { ingress: INGRESS, ..pod(backend.ip()) }));
        world.service_behind(BEHIND, (service, proto), 1, &[backend]);
        let request = first(proto, client, service);
        world.denies(FROM_POD, &request);
        world.put_peer(client.ip(), FRIEND);
        world.takes(FROM_POD, &request, Exit::Pod, &arrived(proto, client, backend));
        // The reply leaves the backend's pod, which is now the one at the interface.
        let reply = data(proto, backend, client);
        let back = data(proto, service, client).ttl(63);
        // It stands for the client's, too, to which the backend is itself.
        world.at_pod(Endpoint { hairpin_egress: EGRESS, ingress: INGRESS, ..pod(backend.ip()) });
        world.takes(FROM_POD, &reply, Exit::Pod, &back);
        // Either end may change its mind.
        world.police(epoch + 1);
        world.takes(FROM_POD, &reply, Exit::Pod, &back);
        world.police(epoch + 2);
        world.ruleset(EGRESS, &[], &[]);
        world.denies(FROM_POD, &reply);
        world.ruleset(EGRESS, &[], &[WEB]);
        world.row(EGRESS, FRIEND, &[WEB], &[WEB]);
        world.ruleset(INGRESS, &[], &[]);
        world.denies(FROM_POD, &reply);
        world.ruleset(INGRESS, &[WEB], &[]);
    }
    assert_eq!(world.dropped(FROM_POD, DropReason::DeniedIngress), 6);
    assert_eq!(world.dropped(FROM_POD, DropReason::DeniedEgress), 3);
}

/// Between pods that no policy selects there is nothing to ask, until one does.
pub fn unselected_pods_are_not_asked(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.ruleset(INGRESS, &[], &[]);
    for (epoch, proto) in [1, 3].into_iter().zip([proto::TCP, proto::UDP]) {
        world.police(epoch);
        world.at_pod(pod(client.ip()));
        world.put_endpoint(BEHIND, Some(&pod(backend.ip())));
        world.service_behind(BEHIND, (service, proto), 1, &[backend]);
        let request = first(proto, client, service);
        world.takes(FROM_POD, &request, Exit::Pod, &arrived(proto, client, backend));
        let more = data(proto, client, backend).ttl(63);
        world.takes(FROM_POD, &data(proto, client, service), Exit::Pod, &more);
        world.put_endpoint(BEHIND, Some(&Endpoint { ingress: INGRESS, ..pod(backend.ip()) }));
        world.police(epoch + 1);
        world.denies(FROM_POD, &data(proto, client, service));
    }
    world.expect(
        "from_pod: 4 to a service, from_pod: 4 redirected, from_pod: 2 new flows, from_pod: 2 judged, \
         from_pod: 2 dropped (policy denied ingress), 2 tcp flows, 2 udp flows",
    );
}

/// A new connection is judged if one of its ends is selected, or unknown.
pub fn selected_and_unknown_pods_are_asked(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    let selected = Endpoint { ingress: INGRESS, ..pod(backend.ip()) };
    world.ruleset(INGRESS, &[], &[]);
    world.police(1);
    world.at_pod(pod(client.ip()));
    for proto in [proto::TCP, proto::UDP] {
        world.service_behind(BEHIND, (service, proto), 1, &[backend]);
        for endpoint in [Some(&selected), None] {
            world.put_endpoint(BEHIND, endpoint);
            world.denies(FROM_POD, &first(proto, client, service));
        }
    }
    world.expect(
        "from_pod: 2 new flows, from_pod: 4 judged, from_pod: 2 dropped (policy denied ingress), \
         from_pod: 2 dropped (policy not programmed), 2 tcp flows, 2 udp flows",
    );
}

/// A connection through a service counts once for each end that allows it, also if the other one does
/// not at first.
pub fn connections_to_services_are_counted_at_each_end(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.ruleset(EGRESS, &[], &[WEB]);
    world.ruleset(INGRESS, &[WEB], &[]);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
    world.put_endpoint(BEHIND, Some(&Endpoint { ingress: INGRESS, ..pod(backend.ip()) }));
    for (epoch, proto) in [1, 3, 5].into_iter().zip(PROTOCOLS) {
        world.police(epoch);
        world.service_behind(BEHIND, (service, proto), 1, &[backend]);
        let request = first(proto, client, service);
        world.put_peer(client.ip(), 0);
        world.denies(FROM_POD, &request);
        world.put_peer(client.ip(), FRIEND);
        world.takes(FROM_POD, &request, Exit::Pod, &arrived(proto, client, backend));
        world.police(epoch + 1);
        world.takes(FROM_POD, &request, Exit::Pod, &arrived(proto, client, backend));
    }
    let mut counted: Vec<_> = world
        .allowed()
        .into_iter()
        .map(|(key, value)| (key.ruleset, key.class, key.port_class, value.connections))
        .collect();
    counted.sort_unstable();
    assert_eq!(counted, [(EGRESS, 0, WEB, 3), (INGRESS, FRIEND, WEB, 3)]);
}

/// Through the stack each pod's hook judges its own.
pub fn ends_behind_the_stack_judge_for_themselves(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.police(1);
    world.put_peer(client.ip(), FRIEND);
    world.ruleset(EGRESS, &[], &[WEB]);
    world.ruleset(INGRESS, &[WEB], &[]);
    for proto in PROTOCOLS {
        world.service_behind(0, (service, proto), 1, &[backend]);
        world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
        let sent = first(proto, client, backend);
        world.takes(FROM_POD, &first(proto, client, service), Exit::Next, &sent);
        world.at_pod(Endpoint { ingress: INGRESS, ..pod(backend.ip()) });
        world.lets(TO_POD, &sent);
        world.lets(FROM_POD, &data(proto, backend, client));
        world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
        world.to_pod(&data(proto, backend, client), &data(proto, service, client));
    }
    world.expect(
        "from_pod: 3 passed, from_pod: 3 to a service, from_pod: 3 new flows, \
         from_pod: 3 judged, to_pod: 3 passed, to_pod: 3 from a service, to_pod: 3 judged, \
         2 tcp flows, 2 udp flows, 2 sctp flows",
    );
}

/// A client outside is judged by its own address, whether its packets skip the stack or not.
pub fn clients_outside_are_judged_by_their_addresses(world: &mut dyn World, ip: Ip) {
    let (friend, stranger) = (ip.outside(7, 40000), ip.outside(8, 40000));
    let backend = ip.backend(5, 8080);
    world.police(1);
    world.put_peer(friend.ip(), FRIEND);
    world.ruleset(INGRESS, &[WEB], &[]);
    let closed = Endpoint { ingress: INGRESS, ..pod(backend.ip()) };
    world.at_pod(closed);
    for (kind, proto) in Kind::ALL.into_iter().flat_map(|kind| PROTOCOLS.map(|proto| (kind, proto)))
    {
        kind.expose(world, ip, proto, (1, 1));
        let service = kind.address(ip);
        put_near(world, 1, backend);
        let request = first(proto, friend, service);
        world.takes(FROM_NET, &request, Exit::Pod, &arrived(proto, friend, backend));
        world.denies(FROM_NET, &first(proto, stranger, service));
        let reply = data(proto, service, friend).ttl(63);
        world.takes(FROM_POD, &data(proto, backend, friend), Exit::Routes, &reply);
        world.forget_flows(Forget::Everything);
        put_local(world, 1, backend);
        let sent = first(proto, friend, backend);
        world.takes(FROM_NET, &request, Exit::Next, &sent);
        world.lets(TO_POD, &sent);
        let sent = first(proto, stranger, backend);
        world.takes(FROM_NET, &first(proto, stranger, service), Exit::Next, &sent);
        world.denies(TO_POD, &sent);
        world.lets(FROM_POD, &data(proto, backend, friend));
        world.forget_flows(Forget::Everything);
    }
    assert_eq!(world.dropped(FROM_NET, DropReason::DeniedIngress), 12);
    assert_eq!(world.dropped(TO_POD, DropReason::DeniedIngress), 12);
}

/// A pod that is masqueraded is judged by its own address; its replies come back past `to_pod`.
pub fn masqueraded_pods_are_judged_by_their_addresses(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.client(40000), ip.external(80));
    let backend = ip.remote_pod(8080);
    world.ruleset(EGRESS, &[], &[WEB]);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
    for (epoch, proto) in [1, 3, 5].into_iter().zip(PROTOCOLS) {
        world.police(epoch);
        world.ruleset(EGRESS, &[], &[WEB]);
        put_remote(world, 1, backend);
        Kind::External.expose(world, ip, proto, (1, 1));
        let (verdict, sent) = world.send(FROM_POD, &first(proto, client, service));
        assert_eq!((verdict, sent.src.ip()), (Verdict::Deliver, ip.node(0).ip()));
        let reply = data(proto, backend, sent.src);
        let back = data(proto, service, client).ttl(63);
        world.takes(FROM_NET, &reply, Exit::Pod, &back);
        world.police(epoch + 1);
        world.takes(FROM_NET, &reply, Exit::Pod, &back);
        world.police(epoch + 2);
        world.ruleset(EGRESS, &[], &[]);
        world.denies(FROM_NET, &reply);
        world.denies(FROM_POD, &data(proto, client, service));
        world.forget_flows(Forget::Everything);
    }
    assert_eq!(world.dropped(FROM_NET, DropReason::DeniedEgress), 3);
}

/// P4: what the host itself dials through a service is let in, by where it was made.
pub fn hosts_connections_to_services_are_let_in(world: &mut dyn World, ip: Ip) {
    let (host, service, backend) = (ip.node(41000), ip.service(80), ip.backend(5, 8080));
    world.police(1);
    world.ruleset(EGRESS, &[], &[]);
    world.ruleset(INGRESS, &[], &[]);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(backend.ip()) });
    put_local(world, 1, backend);
    for proto in PROTOCOLS {
        Kind::ClusterIp.expose(world, ip, proto, (1, 1));
        let sent = first(proto, host, backend).ttl(63);
        world.takes(Hook::ToNet, &first(proto, host, service), Exit::Routes, &sent);
        world.lets_from(Origin::Host, TO_POD, &sent);
        let (reply, seen) = (data(proto, backend, host), data(proto, service, host));
        world.takes(FROM_POD, &reply, Exit::Host, &seen);
    }
    world.expect_counters(
        "from_pod: 3 from a service, from_pod: 3 redirected, to_pod: 3 passed, to_pod: 3 judged, \
         to_net: 3 to a service, to_net: 3 redirected, to_net: 3 new flows",
    );
}

/// P8: a pod that reaches itself through a service is judged by rulesets of its own, both of them.
pub fn pod_that_reaches_itself_has_rulesets_for_it(world: &mut dyn World, ip: Ip) {
    let (client, service, itself) = (ip.client(40000), ip.service(80), ip.client(8080));
    let disguised = SocketAddr::new(hairpin_address(ip.is_v6()), 40000);
    let (hairpin_egress, hairpin_ingress) = HAIRPIN;
    let isolated = Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(client.ip()) };
    world.ruleset(EGRESS, &[], &[]);
    world.ruleset(INGRESS, &[], &[]);
    world.ruleset(hairpin_egress, &[], &[WEB]);
    world.at_pod(isolated);
    for (epoch, proto) in [1, 3, 5].into_iter().zip(PROTOCOLS) {
        world.police(epoch);
        world.at_pod(isolated);
        world.service(service, proto, 1, &[itself]);
        let request = first(proto, client, service);
        let sent = first(proto, disguised, itself);
        world.takes(FROM_POD, &request, Exit::Pod, &sent.ttl(63));
        let reply = data(proto, service, client).ttl(63);
        // What it answers has the address of the pod, as it should.
        world.takes(FROM_POD, &data(proto, itself, disguised), Exit::Pod, &reply);
        world.police(epoch + 1);
        world.at_pod(Endpoint { hairpin_egress, hairpin_ingress, ..isolated });
        world.ruleset(hairpin_ingress, &[], &[]);
        world.denies(FROM_POD, &data(proto, client, service));
        world.denies(FROM_POD, &data(proto, itself, disguised));
        world.ruleset(hairpin_ingress, &[], &[WEB]);
        world.takes(FROM_POD, &data(proto, itself, disguised), Exit::Pod, &reply);
    }
    assert_eq!(world.dropped(FROM_POD, DropReason::DeniedIngress), 6);
}

/// A service that goes leaves no way around policies.
pub fn service_that_goes_leaves_no_way_around(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.external(80), ip.remote_pod(8080));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
    world.put_peer(backend.ip(), FRIEND);
    world.ruleset(EGRESS, &[WEB], &[]);
    put_remote(world, 1, backend);
    Kind::External.expose(world, ip, proto::UDP, (1, 1));
    let request = first(proto::UDP, client, service);
    assert_eq!(world.send(FROM_POD, &request).0, Verdict::Deliver);
    for frontend in [service, SocketAddr::new(service.ip(), 0)] {
        let proto = if frontend.port() == 0 { 0 } else { proto::UDP };
        world.remove_frontend(&crate::world::FrontendSpec::new(frontend, proto, (1, 1)));
    }
    world.age_flows(3_600_000_000_000);
    world.denies(FROM_POD, &request);
    assert_eq!(world.dropped(FROM_POD, DropReason::DeniedEgress), 1);
}

/// P9: errors about a service's connection pass at both ends, and name what each end knows.
pub fn errors_about_services_pass(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.remote_pod(8080));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(client.ip()) });
    world.ruleset(EGRESS, &[], &[WEB]);
    world.ruleset(INGRESS, &[], &[]);
    let kind = if ip.is_v6() { (1, 3) } else { (3, 1) };
    for proto in [proto::TCP, proto::UDP] {
        world.service_behind(0, (service, proto), 1, &[backend]);
        let sent = first(proto, client, backend);
        let error = |about: &Frame| {
            let quote = about.clone().ttl(63).quote(28 + 20);
            icmp(ip.router(), client.ip(), kind, 0, &quote)
        };
        world.denies(TO_POD, &error(&sent));
        world.takes(FROM_POD, &first(proto, client, service), Exit::Next, &sent);
        world.to_pod(&error(&sent), &error(&first(proto, client, service)));
    }
    assert_eq!(world.dropped(TO_POD, DropReason::DeniedIngress), 2);
}

/// Fragments to a service are judged like their first, past the stack, too.
pub fn fragments_to_services_are_judged(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 8080));
    world.police(1);
    world.at_pod(Endpoint { egress: EGRESS, ..pod(client.ip()) });
    world.put_endpoint(BEHIND, Some(&Endpoint { ingress: INGRESS, ..pod(backend.ip()) }));
    world.service_behind(BEHIND, (service, proto::UDP), 1, &[backend]);
    world.ruleset(EGRESS, &[], &[WEB]);
    world.ruleset(INGRESS, &[], &[]);
    let pieces = |id, dst| udp(client, dst).payload([1; 1000]).fragments(id, 400);
    for piece in pieces(7, service) {
        world.denies(FROM_POD, &piece);
    }
    world.ruleset(INGRESS, &[], &[WEB]);
    for piece in pieces(8, service) {
        let (verdict, _) = world.send_bytes(FROM_POD, &piece.bytes());
        assert_eq!(verdict, Verdict::Deliver);
    }
    assert_eq!(world.dropped(FROM_POD, DropReason::DeniedIngress), 3);
}
