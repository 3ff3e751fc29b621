// SPDX-License-Identifier: Apache-2.0
//! What a connection's segments and silence do to its flow.

use pintle_abi::{
    addr::proto::{TCP, UDP},
    counter::Hook,
    flow::TcpState,
};

use super::{Ip, data, first};
use crate::{
    frame::{flag, tcp},
    world::{Forget, Table, Verdict, World},
};

const SECOND: u64 = 1_000_000_000;

/// A connection to one backend, then another backend for new ones.
fn connected_then_changed(world: &mut dyn World, ip: Ip, proto: u8) {
    world.service(ip.service(80), proto, 1, &[ip.backend(5, 80)]);
    from_client(world, ip, proto, 5);
    world.service(ip.service(80), proto, 2, &[ip.backend(6, 80)]);
}

/// The client's first packet goes to that backend.
#[track_caller]
fn from_client(world: &mut dyn World, ip: Ip, proto: u8, backend: u8) {
    let expected = first(proto, ip.client(40000), ip.backend(backend, 80)).ttl(63);
    let frame = first(proto, ip.client(40000), ip.service(80));
    world.from_pod(&frame, Verdict::Deliver, &expected);
}

/// A segment of the connection to backend 5, from either side.
fn segment(world: &mut dyn World, ip: Ip, hook: Hook, flags: u8) {
    let client = ip.client(40000);
    world.send(
        hook,
        &match hook {
            Hook::FromPod | Hook::FromNet | Hook::Xdp => tcp(client, ip.service(80), flags),
            Hook::ToPod | Hook::ToNet => tcp(ip.backend(5, 80), client, flags),
        },
    );
}

/// S4.
pub fn tuple_is_reused_after_both_fins(world: &mut dyn World, ip: Ip) {
    connected_then_changed(world, ip, TCP);
    segment(world, ip, Hook::ToPod, flag::SYN | flag::ACK);
    segment(world, ip, Hook::FromPod, flag::FIN | flag::ACK);
    from_client(world, ip, TCP, 5);
    segment(world, ip, Hook::ToPod, flag::FIN | flag::ACK);
    segment(world, ip, Hook::FromPod, flag::ACK);
    from_client(world, ip, TCP, 6);
    world.expect(
        "from_pod: 5 to a service, from_pod: 5 redirected, from_pod: 2 new flows, \
         to_pod: 2 from a service, 3 tcp flows",
    );
}

/// S4.
pub fn tuple_is_reused_after_a_reset(world: &mut dyn World, ip: Ip) {
    connected_then_changed(world, ip, TCP);
    segment(world, ip, Hook::ToPod, flag::RST | flag::ACK);
    from_client(world, ip, TCP, 6);
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, \
         to_pod: 1 from a service, 3 tcp flows",
    );
}

/// S4.
pub fn tuple_is_reused_after_a_timeout(world: &mut dyn World, ip: Ip) {
    connected_then_changed(world, ip, TCP);
    segment(world, ip, Hook::ToPod, flag::SYN | flag::ACK);
    segment(world, ip, Hook::FromPod, flag::ACK);
    world.age_flows(23 * 3600 * SECOND);
    from_client(world, ip, TCP, 5);
    world.age_flows(25 * 3600 * SECOND);
    from_client(world, ip, TCP, 6);
    world.expect(
        "from_pod: 4 to a service, from_pod: 4 redirected, from_pod: 2 new flows, \
         to_pod: 1 from a service, 3 tcp flows",
    );
}

/// A stray SYN does not move a connection that is alive.
pub fn live_tuple_is_not_reused_by_a_syn(world: &mut dyn World, ip: Ip) {
    connected_then_changed(world, ip, TCP);
    segment(world, ip, Hook::ToPod, flag::SYN | flag::ACK);
    segment(world, ip, Hook::FromPod, flag::ACK);
    from_client(world, ip, TCP, 5);
    world.expect(
        "from_pod: 3 to a service, from_pod: 3 redirected, from_pod: 1 new flows, \
         to_pod: 1 from a service, 2 tcp flows",
    );
}

/// S4.
pub fn idle_udp_tuple_is_reused(world: &mut dyn World, ip: Ip) {
    connected_then_changed(world, ip, UDP);
    world.age_flows(29 * SECOND);
    from_client(world, ip, UDP, 5);
    world.age_flows(31 * SECOND);
    from_client(world, ip, UDP, 6);
    // Once answered, it is kept for longer.
    world.to_pod(
        &data(UDP, ip.backend(6, 80), ip.client(40000)),
        &data(UDP, ip.service(80), ip.client(40000)),
    );
    world.service(ip.service(80), UDP, 3, &[ip.backend(7, 80)]);
    world.age_flows(119 * SECOND);
    from_client(world, ip, UDP, 6);
    world.age_flows(121 * SECOND);
    from_client(world, ip, UDP, 7);
    world.expect(
        "from_pod: 5 to a service, from_pod: 5 redirected, from_pod: 3 new flows, \
         to_pod: 1 from a service, 4 udp flows",
    );
}

/// C2.
pub fn spurious_reset_is_retracted(world: &mut dyn World, ip: Ip) {
    connected_then_changed(world, ip, TCP);
    segment(world, ip, Hook::ToPod, flag::SYN | flag::ACK);
    segment(world, ip, Hook::FromPod, flag::ACK);
    segment(world, ip, Hook::ToPod, flag::RST);
    segment(world, ip, Hook::ToPod, flag::ACK);
    from_client(world, ip, TCP, 5);
    world.expect(
        "from_pod: 3 to a service, from_pod: 3 redirected, from_pod: 1 new flows, \
         to_pod: 3 from a service, 2 tcp flows",
    );
}

/// C1.
pub fn states_follow_the_segments(world: &mut dyn World, ip: Ip) {
    world.service(ip.service(80), TCP, 1, &[ip.backend(5, 80)]);
    let steps = [
        (Hook::FromPod, flag::SYN, TcpState::SynSent),
        (Hook::ToPod, flag::SYN | flag::ACK, TcpState::SynReceived),
        (Hook::FromPod, flag::ACK, TcpState::Established),
        (Hook::ToPod, flag::ACK, TcpState::Established),
        (Hook::ToPod, flag::FIN | flag::ACK, TcpState::Closing),
        (Hook::FromPod, flag::ACK, TcpState::Closing),
        (Hook::FromPod, flag::FIN | flag::ACK, TcpState::TimeWait),
        (Hook::ToPod, flag::ACK, TcpState::TimeWait),
    ];
    for (packets, (hook, flags, state)) in (1..).zip(steps) {
        segment(world, ip, hook, flags);
        let flows = world.flows(ip.is_v6(), TCP, Table::Main);
        let main = flows.iter().max_by_key(|flow| flow.packets).copied();
        let main = main.unwrap_or_else(|| panic!("no flow"));
        assert_eq!(TcpState::of(main.forward, main.reply), state, "after packet {packets}");
        assert_eq!(main.packets, packets);
    }
    world.expect(
        "from_pod: 4 to a service, from_pod: 4 redirected, from_pod: 1 new flows, \
         to_pod: 4 from a service, 2 tcp flows",
    );
}

/// C3.
pub fn connection_is_picked_up_in_its_middle(world: &mut dyn World, ip: Ip) {
    let (client, service) = (ip.client(40000), ip.service(80));
    world.service(service, TCP, 1, &[ip.backend(5, 80), ip.backend(6, 80)]);
    let (_, sent) = world.send(Hook::FromPod, &first(TCP, client, service));
    let backend = sent.dst;
    world.forget_flows(Forget::Everything);
    let expected = data(TCP, client, backend).ttl(63);
    world.from_pod(&data(TCP, client, service), Verdict::Deliver, &expected);
    world.to_pod(&data(TCP, backend, client), &data(TCP, service, client));
    world.expect(
        "from_pod: 2 to a service, from_pod: 2 redirected, from_pod: 2 new flows, \
         to_pod: 1 from a service, 2 tcp flows",
    );
}

/// Half of a pair was lost; the other half knows enough to complete it.
pub fn lost_main_entry_is_restored(world: &mut dyn World, ip: Ip) {
    let (client, service, backend) = (ip.client(40000), ip.service(80), ip.backend(5, 80));
    world.service(service, TCP, 1, &[backend]);
    world.service(service, UDP, 1, &[backend]);
    for proto in [TCP, UDP] {
        from_client(world, ip, proto, 5);
        world.forget_flows(Forget::Mains);
        let expected = data(proto, client, backend).ttl(63);
        world.from_pod(&data(proto, client, service), Verdict::Deliver, &expected);
        world.to_pod(&data(proto, backend, client), &data(proto, service, client));
        world.forget_flows(Forget::Everything);
    }
    world.expect(
        "from_pod: 4 to a service, from_pod: 4 redirected, from_pod: 2 new flows, \
         from_pod: 2 restored flows, to_pod: 2 from a service",
    );
}

/// Its tuple on the backend's side belongs to another connection by then.
pub fn finished_connection_does_not_touch_its_successor(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.client(40000), ip.backend(5, 80));
    world.service(ip.service(80), TCP, 1, &[backend]);
    world.service(ip.other_service(80), TCP, 1, &[backend]);
    from_client(world, ip, TCP, 5);
    segment(world, ip, Hook::ToPod, flag::RST);
    let expected = first(TCP, client, backend).ttl(63);
    world.from_pod(&first(TCP, client, ip.other_service(80)), Verdict::Deliver, &expected);
    // A late segment of the first: not the second's, so it is translated apart from it.
    let (_, late) = world.send(Hook::FromPod, &tcp(client, ip.service(80), flag::RST));
    assert_ne!(late.src, client);
    world.to_pod(&data(TCP, backend, client), &data(TCP, ip.other_service(80), client));
    world.expect(
        "from_pod: 3 to a service, from_pod: 3 redirected, from_pod: 3 new flows, \
         from_pod: 1 moved source ports, to_pod: 2 from a service, 4 tcp flows",
    );
}

/// S4: a backend in TIME_WAIT would take another service's SYN for a late segment and answer with the
/// old sequence numbers, which costs the client a second. It gets another source port until the
/// backend has forgotten; what the client closed first leaves nothing behind.
pub fn tuple_of_a_backend_in_time_wait_is_left_alone(world: &mut dyn World, ip: Ip) {
    let (client, backend) = (ip.client(40000), ip.backend(5, 80));
    world.service(ip.service(80), TCP, 1, &[backend]);
    world.service(ip.other_service(80), TCP, 1, &[backend]);
    let source = |world: &mut dyn World| {
        let (verdict, sent) = world.send(Hook::FromPod, &first(TCP, client, ip.other_service(80)));
        assert_eq!(verdict, Verdict::Deliver);
        world.send(Hook::ToPod, &tcp(backend, sent.src, flag::RST));
        sent.src
    };
    from_client(world, ip, TCP, 5);
    segment(world, ip, Hook::ToPod, flag::FIN | flag::ACK);
    segment(world, ip, Hook::FromPod, flag::FIN | flag::ACK);
    world.age_flows(59 * SECOND);
    assert_ne!(source(world), client);
    world.age_flows(2 * SECOND);
    assert_eq!(source(world), client);

    from_client(world, ip, TCP, 5);
    segment(world, ip, Hook::FromPod, flag::FIN | flag::ACK);
    segment(world, ip, Hook::ToPod, flag::FIN | flag::ACK);
    assert_eq!(source(world), client);
    world.expect(
        "from_pod: 7 to a service, from_pod: 7 redirected, from_pod: 5 new flows, \
         from_pod: 1 moved source ports, to_pod: 5 from a service, 3 tcp flows",
    );
}
