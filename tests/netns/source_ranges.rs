// SPDX-License-Identifier: Apache-2.0
//! Who may use a load balancer's address, while connections through it are open: those stay, whatever
//! becomes of the ranges; new ones meet the ranges of now.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use pintle_lab::{
    agent::FastPath,
    client::{HttpConnection, http_get, udp_ask_on, udp_socket},
    manifest::Service,
    netns::NetNs,
    topology::{Cni, Family},
};

use crate::{
    company::beside_others,
    exposed::{Exposed, From},
    scene::{DNS, HTTP},
};

/// How long a packet that is dropped is waited for.
const SILENCE: Duration = Duration::from_millis(250);
const OUTSIDE: &str = "198.51.100.0/24, 'fd00:51::/64'";
const PODS: &str = "10.244.0.0/16, 'fd00:10:244::/48'";
const ELSEWHERE: &str = "192.0.2.0/24, 'fd00:99::/64'";

fn balancer(family: Family, port: u16) -> SocketAddr {
    let ip: IpAddr = match family {
        Family::V4 => "203.0.113.10".parse().expect("an address"),
        Family::V6 => "fd00:203::10".parse().expect("an address"),
    };
    SocketAddr::new(ip, port)
}

/// The service as a load balancer's, for clients in these ranges; for everybody if there are none.
fn balanced(scene: &Exposed, ranges: Option<&str>) -> Service {
    let ranges = ranges.map_or(String::new(), |r| format!("  loadBalancerSourceRanges: [{r}]\n"));
    let [v4, v6] = Family::BOTH.map(|family| balancer(family, 0).ip());
    let status = format!("status:\n  loadBalancer:\n    ingress: [{{ip: {v4}}}, {{ip: '{v6}'}}]\n");
    Service { kind: "LoadBalancer", extra_spec: ranges + &status, ..scene.web.clone() }
}

/// What clients of one place have open through the balancer.
struct Open {
    connections: Vec<HttpConnection>,
    /// Some of them lead to each pod, here and on the other node.
    sockets: Vec<UdpSocket>,
    family: Family,
}

impl Open {
    fn new(ns: &NetNs, family: Family) -> Open {
        let connect = |_| HttpConnection::open(balancer(family, HTTP.port)).expect("connect");
        let socket = |_| udp_socket(balancer(family, DNS.port)).expect("a socket");
        ns.run(|| Open {
            connections: (0..8).map(connect).collect(),
            sockets: (0..8).map(socket).collect(),
            family,
        })
    }

    #[track_caller]
    fn expect_alive(&mut self) {
        for open in &mut self.connections {
            open.get().expect("an open connection goes on");
        }
        for socket in &self.sockets {
            udp_ask_on(socket, balancer(self.family, DNS.port), b"hello").expect("so does UDP");
        }
    }
}

/// Whether a new client is answered, over TCP and UDP; if not, there is silence.
#[track_caller]
fn is_let_in(ns: &NetNs, family: Family) -> bool {
    ns.run(|| {
        let tcp = TcpStream::connect_timeout(&balancer(family, HTTP.port), SILENCE);
        let socket = udp_socket(balancer(family, DNS.port)).expect("a socket");
        socket.set_read_timeout(Some(SILENCE)).expect("a timeout");
        let udp = udp_ask_on(&socket, balancer(family, DNS.port), b"hello");
        for error in [tcp.as_ref().err(), udp.as_ref().err()].into_iter().flatten() {
            let silent = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock);
            assert!(silent, "{family:?}: {error}");
        }
        assert_eq!(tcp.is_ok(), udp.is_ok(), "{family:?}: {tcp:?}, {udp:?}");
        tcp.is_ok()
    })
}

#[test]
fn ranges_decide_over_new_connections_and_open_ones_stay() {
    let _company = beside_others();
    let mut scene = Exposed::new(Cni::Ptp, FastPath::Auto, "off");
    let service = balanced(&scene, Some(OUTSIDE));
    let entries = |scene: &Exposed| -> Vec<u64> {
        let maps = scene.agent.json(&["get", "maps"]).expect("the maps");
        let rows = maps.as_array().expect("rows").iter();
        let rows =
            rows.filter(|row| row["name"].as_str().is_some_and(|name| name.starts_with("SOURCE")));
        rows.filter_map(|row| row["entries"].as_u64()).collect()
    };
    scene.set_service(service);
    let outsider = (*scene.outsider).clone();
    let mut open = Family::BOTH.map(|family| Open::new(&outsider, family));
    let both = format!("{OUTSIDE}, {ELSEWHERE}, {PODS}");
    // Each with whether clients outside and pods are let in.
    for (ranges, outside, pods) in [
        (Some(OUTSIDE), true, false),
        (Some(PODS), false, true),
        (Some(&*both), true, true),
        (Some(ELSEWHERE), false, false),
        (None, true, true),
        (Some(OUTSIDE), true, false),
    ] {
        let service = balanced(&scene, ranges);
        scene.set_service(service);
        for (family, open) in Family::BOTH.into_iter().zip(&mut open) {
            open.expect_alive();
            assert_eq!(is_let_in(&outsider, family), outside, "outside {family:?} {ranges:?}");
            assert_eq!(is_let_in(&scene.client, family), pods, "pod {family:?} {ranges:?}");
            let (_, node_port) = scene.way(From::Outside, family, &HTTP);
            outsider.run(|| http_get(node_port)).expect("node ports are not restricted");
        }
        // One for each service port and range, of each family.
        let ranges = ranges.map_or(0, |ranges| ranges.split(',').count() as u64 / 2);
        let expected = scene.web.ports.len() as u64 * ranges;
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(entries(&scene), [expected; 2], "no range is left behind");
    }
    assert!(scene.agent.counter("source not allowed").expect("counters") > 0);
    scene.agent.stop().expect("stop");
    scene.agent.start().expect("start");
    for (family, open) in Family::BOTH.into_iter().zip(&mut open) {
        open.expect_alive();
        assert!(is_let_in(&outsider, family) && !is_let_in(&scene.client, family));
    }
}
