// SPDX-License-Identifier: Apache-2.0
//! Blocks of addresses, which are those of packets as pods see them, whosever they are (P3).

use pintle_lab::topology::Family;

use super::in_both_layouts;
use super::nine_pods::{Cell, NinePods, from, policy, to};
use super::probe::Protocol::{Tcp, Udp};

in_both_layouts!(blocks_match_pods_by_their_addresses, holes_are_of_their_own_block_only);

fn is_v4(cell: &Cell) -> bool {
    cell.family == Family::V4
}

/// All pods of node 1.
const NODE_1_V4: &str = "10.244.1.0/24";
const NODE_1_V6: &str = "\"fd00:10:244:1::/64\"";

fn blocks_match_pods_by_their_addresses(nine: &mut NinePods) {
    let single = |nine: &NinePods, name: &str| {
        let pod = nine.pod(name);
        [
            format!("{{ipBlock: {{cidr: {}/32}}}}", pod.v4),
            format!("{{ipBlock: {{cidr: \"{}/128\"}}}}", pod.v6),
        ]
    };
    let [v4, v6] = single(nine, "y/a");
    from(nine, &v4, |cell| cell.from == "y/a" && is_v4(cell));
    from(nine, &v6, |cell| cell.from == "y/a" && !is_v4(cell));
    from(nine, &[v4.clone(), v6.clone()].join(", "), |cell| cell.from == "y/a");
    from(nine, "{ipBlock: {cidr: 0.0.0.0/0}}", is_v4);
    from(nine, "{ipBlock: {cidr: \"::/0\"}}", |cell| !is_v4(cell));
    from(nine, &format!("{{ipBlock: {{cidr: {NODE_1_V4}}}}}"), |cell| {
        is_v4(cell) && cell.src_pod() != "b"
    });
    from(nine, &format!("{{ipBlock: {{cidr: {NODE_1_V6}}}}}"), |cell| {
        !is_v4(cell) && cell.src_pod() != "b"
    });
    from(nine, "{ipBlock: {cidr: 10.244.1.77/24}}", |cell| is_v4(cell) && cell.src_pod() != "b");
    from(nine, "{ipBlock: {cidr: 192.0.2.0/24}}", |_| false);
    from(nine, &format!("{v4}, {{podSelector: {{matchLabels: {{pod: c}}}}}}"), |cell| {
        cell.from == "y/a" && is_v4(cell) || cell.from == "x/c"
    });

    to(nine, &[v4, v6].join(", "), |cell| cell.to == "y/a");
    to(nine, "{ipBlock: {cidr: 0.0.0.0/0}}", is_v4);
    to(nine, &format!("{{ipBlock: {{cidr: {NODE_1_V4}}}}}"), |cell| {
        is_v4(cell) && cell.dst_pod() != "b"
    });
    // A service's address is nobody's: what is judged is where its packets go.
    to(nine, "{ipBlock: {cidr: 10.96.0.0/16}}, {ipBlock: {cidr: \"fd00:10:96::/64\"}}", |_| false);
}

fn holes_are_of_their_own_block_only(nine: &mut NinePods) {
    let (own, other) = (nine.pod("y/a").v4, nine.pod("y/c").v4);
    let hole = format!("{{ipBlock: {{cidr: 10.244.0.0/16, except: [{own}/32]}}}}");
    from(nine, &hole, |cell| is_v4(cell) && cell.from != "y/a");
    to(nine, &hole, |cell| is_v4(cell) && cell.to != "y/a");
    let holes = format!("{{ipBlock: {{cidr: 10.244.0.0/16, except: [{own}/32, 10.244.2.0/24]}}}}");
    from(nine, &holes, |cell| is_v4(cell) && cell.from != "y/a" && cell.src_pod() != "b");
    // What another item allows is allowed.
    from(nine, &format!("{hole}, {{ipBlock: {{cidr: {own}/32}}}}"), is_v4);
    from(nine, &format!("{hole}, {{ipBlock: {{cidr: 0.0.0.0/0, except: [{other}/32]}}}}"), is_v4);
    from(nine, &format!("{hole}, {{namespaceSelector: {{matchLabels: {{ns: y}}}}}}"), |cell| {
        is_v4(cell) || cell.src_ns() == "y"
    });
    let nested = format!(
        "ingress: [{{from: [{{ipBlock: {{cidr: 10.0.0.0/8}}}}], ports: [{{port: 80}}]}}, \
         {{from: [{{ipBlock: {{cidr: {NODE_1_V4}}}}}], ports: [{{port: 81}}]}}, \
         {{from: [{{ipBlock: {{cidr: {own}/32}}}}], ports: [{{protocol: UDP}}]}}]"
    );
    nine.check("every block around an address counts", &[policy("x/p", &nested)], |cell| {
        let allowed = cell.is(Tcp, 80)
            || cell.src_pod() != "b" && cell.is(Tcp, 81)
            || cell.from == "y/a" && (cell.is(Udp, 80) || cell.is(Udp, 81));
        cell.dst_ns() != "x" || is_v4(cell) && allowed
    });
    let apart = [
        policy("x/wide", &format!("ingress: [{{from: [{hole}], ports: [{{port: 80}}]}}]")),
        policy("x/narrow", &format!("ingress: [{{from: [{{ipBlock: {{cidr: {own}/32}}}}]}}]")),
    ];
    nine.check("a hole denies nothing that another policy allows", &apart, |cell| {
        cell.dst_ns() != "x" || is_v4(cell) && (cell.from == "y/a" || cell.is(Tcp, 80))
    });
}
