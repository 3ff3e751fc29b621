// SPDX-License-Identifier: Apache-2.0
//! Fragments in any order of arrival: what waited for the first one comes in again at the hook, which
//! only a real device can show. Here it is the loopback of a namespace of its own.

use std::{
    thread,
    time::{Duration, Instant},
};

use aya::programs::{TcAttachType, tc};
use pintle::datapath::object;
use pintle_abi::{
    addr::proto::UDP,
    counter::{Counter, Hook},
};
use pintle_lab::patience::at_most;
use pintle_tests::{
    frame::udp,
    kernel_world::KernelWorld,
    vectors::Ip,
    world::{Verdict, World},
};

const LOOPBACK: &str = "lo";
const DEADLINE: Duration = Duration::from_secs(5);

/// Gives this thread a namespace of its own, with its loopback up.
fn enter_namespace() {
    // SAFETY: affects this thread only; the request and its name are valid for the call.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNET), 0, "a namespace needs root");
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (place, byte) in request.ifr_name.iter_mut().zip(LOOPBACK.bytes()) {
            *place = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        assert_eq!(libc::ioctl(socket, libc::SIOCSIFFLAGS, &request), 0, "bring loopback up");
        libc::close(socket);
    }
}

fn arrive_in_any_order(ip: Ip) {
    enter_namespace();
    let mut world = KernelWorld::small();
    // Kernels before 6.6 have no tcx, and programs hang on this qdisc there.
    let _ = tc::qdisc_add_clsact(LOOPBACK);
    object::classifier(world.ebpf(), Hook::FromPod.as_str())
        .unwrap_or_else(|error| panic!("{error}"))
        .attach(LOOPBACK, TcAttachType::Ingress)
        .unwrap_or_else(|error| panic!("attach: {error}"));
    let world: &mut dyn World = &mut world;
    world.service(ip.service(80), UDP, 1, &[ip.backend(5, 8080)]);
    let frame = udp(ip.client(40000), ip.service(80)).payload([0x5a; 1000]);
    let pieces = frame.fragments(7, 400);
    let mut verdict = |index: usize| world.send_bytes(Hook::FromPod, &pieces[index].bytes()).0;
    assert_eq!([2, 1, 0].map(&mut verdict), [Verdict::Drop, Verdict::Drop, Verdict::Deliver]);
    let started = Instant::now();
    while world.count(Hook::FromPod, Counter::Forward) < 3 && started.elapsed() < at_most(DEADLINE)
    {
        thread::sleep(Duration::from_millis(1));
    }
    world.expect(
        "from_pod: 3 to a service, from_pod: 3 redirected, from_pod: 1 new flows, \
         from_pod: 2 held fragments, from_pod: 2 released fragments, 2 udp flows",
    );
}

#[test]
fn fragments_arrive_in_any_order() {
    for ip in [Ip::V4, Ip::V6] {
        let result = thread::spawn(move || arrive_in_any_order(ip)).join();
        assert!(result.is_ok(), "{ip:?}");
    }
}
