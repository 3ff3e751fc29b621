// SPDX-License-Identifier: Apache-2.0
//! Which ports a rule means: numbers, ranges (P2), names at the destination, protocols alone.

use pintle_lab::client::http_get;
use pintle_lab::server::Server;
use pintle_lab::topology::Family;

use super::in_both_layouts;
use super::nine_pods::{Cell, NinePods, policy};
use super::probe::Protocol::{Tcp, Udp};

in_both_layouts!(
    ports_are_those_of_the_pod,
    named_ports_are_those_of_the_destination,
    ranges_end_where_they_say
);

/// The ports at which `x` may be dialled, by all.
fn at(nine: &mut NinePods, ports: &str, is_port: impl Fn(&Cell) -> bool) {
    let spec = format!("ingress: [{{ports: [{ports}]}}]");
    nine.check(ports, &[policy("x/p", &spec)], |cell| cell.dst_ns() != "x" || is_port(cell));
}

/// The ports that `x` may dial, of all.
fn towards(nine: &mut NinePods, rule: &str, is_port: impl Fn(&Cell) -> bool) {
    let spec = format!("policyTypes: [Egress], egress: [{{{rule}}}]");
    nine.check(rule, &[policy("x/p", &spec)], |cell| cell.src_ns() != "x" || is_port(cell));
}

fn ports_are_those_of_the_pod(nine: &mut NinePods) {
    at(nine, "{port: 80}", |cell| cell.is(Tcp, 80));
    at(nine, "{port: 81, protocol: UDP}", |cell| cell.is(Udp, 81));
    at(nine, "{port: 80}, {port: 81, protocol: UDP}", |cell| cell.is(Tcp, 80) || cell.is(Udp, 81));
    at(nine, "{}", |cell| cell.tcp());
    at(nine, "{protocol: UDP}", |cell| !cell.tcp());
    at(nine, "{protocol: TCP}, {port: 80, protocol: UDP}", |cell| cell.tcp() || cell.is(Udp, 80));
    // Who needs SCTP gets that, and is isolated all the same.
    at(nine, "{port: 80, protocol: SCTP}", |_| false);
    at(nine, "{protocol: SCTP}", |_| false);
    // The port of the service is nothing that a pod has.
    at(nine, "{port: 8080}, {port: 8080, protocol: UDP}", |_| false);
    towards(nine, "ports: [{port: 8080}]", |_| false);
    towards(nine, "ports: [{port: 80}]", |cell| cell.is(Tcp, 80));
    towards(nine, "ports: [{protocol: UDP}]", |cell| !cell.tcp());
    towards(nine, "to: [{podSelector: {}}], ports: [{port: 81}]", |cell| {
        cell.dst_ns() == "x" && cell.is(Tcp, 81)
    });

    at(nine, "{port: 80, endPort: 81}", |cell| cell.tcp());
    at(nine, "{port: 80, endPort: 80}", |cell| cell.is(Tcp, 80));
    at(nine, "{port: 1, endPort: 80, protocol: UDP}", |cell| cell.is(Udp, 80));
    at(nine, "{port: 81, endPort: 65535, protocol: UDP}", |cell| cell.is(Udp, 81));
    at(nine, "{port: 1, endPort: 79}, {port: 82, endPort: 65535}", |_| false);
    at(nine, "{port: 1, endPort: 65535}", |cell| cell.tcp());
    towards(nine, "ports: [{port: 79, endPort: 80}, {port: 81, endPort: 90, protocol: UDP}]", {
        |cell| cell.is(Tcp, 80) || cell.is(Udp, 81)
    });
}

/// What a pod of the model calls `web`.
fn is_web(pod: &str, cell: &Cell) -> bool {
    match pod {
        "a" => cell.is(Tcp, 80) || cell.is(Udp, 81),
        "b" => cell.is(Tcp, 81),
        _ => cell.is(Udp, 80),
    }
}

fn named_ports_are_those_of_the_destination(nine: &mut NinePods) {
    at(nine, "{port: serve-81-tcp}", |cell| cell.is(Tcp, 81));
    at(nine, "{port: serve-80-udp, protocol: UDP}", |cell| cell.is(Udp, 80));
    at(nine, "{port: serve-80-tcp, protocol: UDP}", |_| false);
    at(nine, "{port: nowhere}", |_| false);
    at(nine, "{port: web}", |cell| cell.tcp() && is_web(cell.dst_pod(), cell));
    at(nine, "{port: web}, {port: web, protocol: UDP}", |cell| is_web(cell.dst_pod(), cell));

    towards(nine, "ports: [{port: web}]", |cell| cell.tcp() && is_web(cell.dst_pod(), cell));
    towards(nine, "ports: [{port: web, protocol: UDP}]", |cell| {
        !cell.tcp() && is_web(cell.dst_pod(), cell)
    });
    towards(
        nine,
        "to: [{namespaceSelector: {matchLabels: {ns: y}}}], ports: [{port: web}, {port: 81}]",
        |cell| {
            cell.dst_ns() == "y" && cell.tcp() && (cell.port == 81 || is_web(cell.dst_pod(), cell))
        },
    );
    towards(nine, "to: [{ipBlock: {cidr: 10.244.0.0/16}}], ports: [{port: web}]", |cell| {
        cell.family == Family::V4 && cell.tcp() && is_web(cell.dst_pod(), cell)
    });

    // A pod that gives the name to another port is another destination.
    let object = nine.pods[4].object.as_mut().expect("y/b");
    assert_eq!(object.name, "b");
    object.ports.retain(|port| port.name != "web");
    let mut moved = object.ports[0];
    moved.name = "web";
    object.ports.push(moved);
    let object = object.clone();
    nine.world.objects().put_pod(&object).expect("write the pod");
    nine.settle();
    towards(nine, "ports: [{port: web}]", |cell| match cell.to {
        "y/b" => cell.is(Tcp, 80),
        _ => cell.tcp() && is_web(cell.dst_pod(), cell),
    });
}

/// The lowest and the highest ports that there are (P2).
fn ranges_end_where_they_say(nine: &mut NinePods) {
    const EDGES: [u16; 6] = [1, 2, 3, 65533, 65534, 65535];
    let servers = EDGES.map(|port| Server::http(nine.pod("x/b"), port).expect("a server"));
    let ranges: [(&str, &[u16]); 6] = [
        ("{port: 1, endPort: 65535}", &EDGES),
        ("{port: 1}, {port: 65535}", &[1, 65535]),
        ("{port: 2, endPort: 65534}", &[2, 3, 65533, 65534]),
        ("{port: 3, endPort: 65533}", &[3, 65533]),
        ("{port: 1, endPort: 2}, {port: 65534, endPort: 65535}", &[1, 2, 65534, 65535]),
        ("{port: 65535, endPort: 65535}", &[65535]),
    ];
    for (items, open) in ranges {
        nine.set_policies(&[policy("x/p", &format!("ingress: [{{ports: [{items}]}}]"))]);
        for family in Family::BOTH {
            let (client, server) = (nine.pod("y/a"), nine.pod("x/b"));
            let ask = &|port| client.run(|| http_get(server.addr(family, port)));
            let answers = std::thread::scope(|scope| {
                let asked = EDGES.map(|port| scope.spawn(move || ask(port)));
                asked.map(|one| one.join().expect("a client"))
            });
            for (port, answer) in EDGES.iter().zip(answers) {
                assert_eq!(answer.is_ok(), open.contains(port), "{items} {port}: {answer:?}");
            }
        }
    }
    drop(servers);
}
