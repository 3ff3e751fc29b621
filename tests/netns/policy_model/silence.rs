// SPDX-License-Identifier: Apache-2.0
//! What has no ports, and what pods may not say at all: echo follows the rules that name no port,
//! and a pod has no address but its own (P6).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use pintle_lab::agent::FastPath;
use pintle_lab::netns::NetNs;
use pintle_lab::topology::{Cni, Family, Pod};
use socket2::{Domain, Protocol, Socket, Type};

use super::in_both_layouts;
use super::nine_pods::{NAMES, NinePods, policy};
use super::probe::{reaches, reaches_both};
use super::server::PORTS;
use crate::company::beside_others;
use crate::scene::eventually;

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
                // Who knows where its packets go does not have to ask, and so to lie about, with ARP.
                reaches(nine.pod("x/a"), target.ip(), &PORTS);
                let before = nine.server(server).asked();
                for (forged, port) in [(foreign, 4242), (foreign, 4343), (nobody, 4444)] {
                    pretend(nine.pod("x/a"), forged, port, target);
                }
                std::thread::sleep(PATIENCE / 3);
                assert_eq!(nine.server(server).asked(), before, "{server} {family:?}");
            }
        }
    }
    nine.set_policies(&[]);
    let own = reaches_both(nine.pod("x/a"), |family| nine.pod("y/b").ip(family), &PORTS);
    assert!(own, "at its own address it is heard");
}

/// On a bridge a pod can make its node believe that another's address is behind its own interface.
#[test]
fn an_address_that_a_pod_claims_by_arp_is_not_its_own() {
    let _company = beside_others();
    let mut nine = NinePods::new(1, Cni::Bridge, FastPath::Auto);
    let allowed = "ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}}]}]";
    nine.set_policies(&[policy("y/p", allowed)]);
    let (victim, thief) = (nine.pod("x/c"), nine.pod("z/a"));
    let target = nine.pod("y/a").addr(Family::V4, 80);
    assert!(reaches(victim, target.ip(), &PORTS), "who is meant");
    assert!(!reaches(thief, target.ip(), &PORTS), "who is not");
    let gateway: SocketAddr = "10.244.1.1:9".parse().expect("the bridge");
    thief.ns().ip(&["neigh flush dev eth0".into()]).expect("forget");
    // A neighbour that has just answered is not doubted for a second.
    std::thread::sleep(Duration::from_millis(1100));
    pretend(thief, victim.v4.into(), 4242, gateway);
    let lie = format!("{} dev cni0 lladdr {}", victim.v4, mac(thief));
    let known = || {
        let out = nine.world.nodes[0].command("ip").args(["neigh", "show"]).output().expect("ip");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    eventually("the node believes it", || known().contains(&lie));
    std::thread::sleep(Duration::from_millis(300));
    let before = nine.server("y/a").asked();
    for port in 4300..4310 {
        pretend(thief, victim.v4.into(), port, target);
    }
    std::thread::sleep(PATIENCE / 3);
    assert_eq!(nine.server("y/a").asked(), before, "the node believes it, policies do not");
}

/// The link-layer address that the pod's end of its veth was given.
fn mac(pod: &Pod) -> String {
    let [.., node, host] = pod.v4.octets();
    format!("02:00:00:aa:{node:02x}:{host:02x}")
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
