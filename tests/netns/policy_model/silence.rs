// SPDX-License-Identifier: Apache-2.0
//! What has no ports, and what pods may not say at all: echo follows the rules that name no port,
//! and a pod has no address but its own (P6).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use pintle_tests::netns::NetNs;
use pintle_tests::topology::Family;
use socket2::{Domain, Protocol, Socket, Type};

use super::in_both_layouts;
use super::nine_pods::{NAMES, NinePods, policy};
use super::probe::reaches_both;
use super::server::PORTS;

in_both_layouts!(echo_follows_rules_without_ports, a_pod_has_no_address_but_its_own);

const PATIENCE: Duration = Duration::from_millis(300);
const ECHO_REPLY: [u8; 2] = [0, 129];

/// Whether an address answers to an echo request.
fn pings(from: &NetNs, target: IpAddr) -> bool {
    from.run(|| {
        let (domain, protocol, request) = match target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("a raw socket");
        socket.connect(&SocketAddr::new(target, 0).into()).expect("connect");
        // Type, code, checksum, identifier, sequence; the kernel fills in the checksum of ICMPv6.
        let mut packet = [request, 0, 0, 0, 0x12, 0x34, 0, 1];
        if target.is_ipv4() {
            let sum = u16::from(request) << 8;
            let sum = !(u32::from(sum) + 0x1234 + 1);
            packet[2..4].copy_from_slice(&(sum as u16).to_be_bytes());
        }
        socket.send(&packet).expect("send");
        let end = Instant::now() + PATIENCE;
        let udp: UdpSocket = socket.into();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            udp.set_read_timeout(Some(left)).expect("a timeout");
            let mut buffer = [0; 128];
            let Ok(length) = udp.recv(&mut buffer) else { return false };
            // Raw IPv4 sockets show the IP header.
            let header = if target.is_ipv4() { 20 } else { 0 };
            if length > header && ECHO_REPLY.contains(&buffer[header]) {
                return true;
            }
        }
    })
}

/// Who gets an answer to an echo request to `x/a`.
fn who_pings_x_a(nine: &NinePods) -> Vec<&'static str> {
    let all = NAMES.into_iter().filter(|name| *name != "x/a");
    all.filter(|name| {
        let [v4, v6] = Family::BOTH.map(|family| pings(nine.pod(name), nine.pod("x/a").ip(family)));
        assert_eq!(v4, v6, "the families differ: {name}");
        v4
    })
    .collect()
}

fn echo_follows_rules_without_ports(nine: &mut NinePods) {
    let others = ["x/b", "x/c", "y/a", "y/b", "y/c", "z/a", "z/b", "z/c"];
    let y = "from: [{namespaceSelector: {matchLabels: {ns: y}}}]";
    assert_eq!(who_pings_x_a(nine), others);
    nine.set_policies(&[policy("x/p", "policyTypes: [Ingress]")]);
    assert_eq!(who_pings_x_a(nine), [""; 0]);
    for family in Family::BOTH {
        assert!(pings(&nine.world.nodes[0], nine.pod("x/a").ip(family)), "the own node");
        assert!(pings(nine.pod("x/a"), nine.pod("y/b").ip(family)), "answers need no rule");
    }
    nine.set_policies(&[policy("x/p", "ingress: [{ports: [{port: 80}, {protocol: UDP}]}]")]);
    assert_eq!(who_pings_x_a(nine), [""; 0], "rules with ports");
    nine.set_policies(&[policy("x/p", &format!("ingress: [{{{y}}}]"))]);
    assert_eq!(who_pings_x_a(nine), ["y/a", "y/b", "y/c"]);
    nine.set_policies(&[policy("y/p", "policyTypes: [Egress], egress: [{ports: [{port: 80}]}]")]);
    assert_eq!(who_pings_x_a(nine), ["x/b", "x/c", "z/a", "z/b", "z/c"]);
}

fn a_pod_has_no_address_but_its_own(nine: &mut NinePods) {
    let allowed = "ingress: [{from: [{namespaceSelector: {matchLabels: {ns: z}}}]}]";
    for policies in [vec![], vec![policy("y/p", allowed)]] {
        nine.set_policies(&policies);
        for family in Family::BOTH {
            // One address that is a pod's of another interface, and one that is nobody's.
            let foreign = nine.pod("z/c").ip(family);
            let nobody: IpAddr = match family {
                Family::V4 => [10, 244, 1, 250].into(),
                Family::V6 => "fd00:10:244:1::fa".parse().expect("an address"),
            };
            for server in ["y/a", "y/b"] {
                let target = nine.pod(server).addr(family, 80);
                // The owner has a connection, whose ports the other pod knows.
                let owner = bound(nine.pod("z/c"), SocketAddr::new(foreign, 4242));
                owner.connect(target).expect("connect");
                owner.send(b"who").expect("send");
                owner.recv(&mut [0; 64]).expect("an answer to the owner");
                let before = nine.server(server).answers();
                for (forged, port) in [(foreign, 4242), (foreign, 4343), (nobody, 4444)] {
                    pretend(nine.pod("x/a"), forged, port, target);
                }
                std::thread::sleep(PATIENCE / 3);
                assert_eq!(nine.server(server).answers(), before, "{server} {family:?}");
            }
        }
    }
    nine.set_policies(&[]);
    let own = reaches_both(nine.pod("x/a"), |family| nine.pod("y/b").ip(family), &PORTS);
    assert!(own, "at its own address it is heard");
}

fn bound(ns: &NetNs, at: SocketAddr) -> UdpSocket {
    let socket = ns.run(|| UdpSocket::bind(at)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// Sends a datagram from an address that is not the pod's.
fn pretend(pod: &NetNs, forged: IpAddr, port: u16, target: SocketAddr) {
    let (bits, nodad) = if forged.is_ipv4() { (32, "") } else { (128, " nodad") };
    pod.ip(&[format!("addr add {forged}/{bits} dev eth0{nodad}")]).expect("an address");
    bound(pod, SocketAddr::new(forged, port)).send_to(b"who", target).expect("send");
    pod.ip(&[format!("addr del {forged}/{bits} dev eth0")]).expect("no address");
}
