// SPDX-License-Identifier: Apache-2.0
//! At which of the node's addresses node ports answer, while these come and go.

use std::net::SocketAddr;
use std::time::Duration;

use pintle_lab::agent::FastPath;
use pintle_lab::client::{http_get_from, udp_get_within};
use pintle_lab::topology::Cni;

use crate::company::beside_others;
use crate::scene::eventually;
use crate::three_nodes::{NODE_PORT, ThreeNodes};

const PATIENCE: Duration = Duration::from_millis(300);

/// Three nodes, of which the first has a flag; without one it is not configured at all.
fn scene(flag: Option<&str>) -> ThreeNodes {
    ThreeNodes::on(ThreeNodes::world(Cni::Ptp), FastPath::Auto, |agents| {
        if let Some(flag) = flag {
            // The limit is the machine's, and not the test's to set.
            let flags = [flag, "--conntrack-max-per-core=0"];
            agents[0].extra_args.extend(flags.map(str::to_owned));
        }
    })
}

/// How many of four questions get an answer there: of a client outside and of another node's pod, over
/// TCP and UDP.
fn answers(scene: &ThreeNodes, ip: &str) -> usize {
    let target = SocketAddr::new(ip.parse().expect("an address"), NODE_PORT);
    let asked = [&*scene.outside, scene.clients[1].ns()].map(|client| {
        client.run(|| {
            let tcp = http_get_from(0, target, PATIENCE);
            [tcp, udp_get_within(target, PATIENCE)].map(|answer| answer.is_ok())
        })
    });
    asked.as_flattened().iter().filter(|ok| **ok).count()
}

/// Adds an address to node 1, or takes it away.
fn change(scene: &ThreeNodes, verb: &str, address: &str) {
    let nodad = if address.contains(':') && verb == "add" { " nodad" } else { "" };
    let line = format!("addr {verb} {address} dev eth0{nodad}");
    scene.world.nodes[0].ip(&[line]).expect("change an address");
}

#[test]
fn node_ports_follow_the_node_s_addresses() {
    let _company = beside_others();
    let scene = scene(None);
    for (ip, address) in [
        ("192.168.77.101", "192.168.77.101/24"),
        ("192.168.77.102", "192.168.77.102/32"),
        ("fd00:77::101", "fd00:77::101/64"),
    ] {
        assert!(answers(&scene, ip) == 0, "{ip} is nobody's yet");
        change(&scene, "add", address);
        eventually("the new address answers", || answers(&scene, ip) == 4);
        assert!(answers(&scene, "192.168.77.1") == 4 && answers(&scene, "fd00:77::1") == 4);
        change(&scene, "del", address);
        eventually("the old address is silent", || answers(&scene, ip) == 0);
        let entries = scene.agents[0].text(&["get", "services"]).expect("services");
        assert!(!entries.contains(ip), "{entries}");
    }
}

#[test]
fn only_addresses_in_the_chosen_ranges_have_node_ports() {
    let _company = beside_others();
    let scene = scene(Some("--nodeport-addresses=192.168.77.64/26,fd00:77::100/120"));
    assert!(answers(&scene, "192.168.77.1") == 0);
    assert!(answers(&scene, "fd00:77::1") == 0);
    for (ip, address) in
        [("192.168.77.100", "192.168.77.100/24"), ("fd00:77::101", "fd00:77::101/64")]
    {
        change(&scene, "add", address);
        eventually("the new address answers", || answers(&scene, ip) == 4);
    }
    change(&scene, "add", "192.168.77.200/24");
    assert!(answers(&scene, "192.168.77.200") == 0, "in no range");
}

#[test]
fn only_the_node_s_primary_addresses_have_node_ports() {
    let _company = beside_others();
    let scene = scene(Some("--nodeport-addresses=primary"));
    assert!(answers(&scene, "192.168.77.1") == 4);
    assert!(answers(&scene, "fd00:77::1") == 4);
    change(&scene, "add", "192.168.77.100/24");
    change(&scene, "add", "fd00:77::101/64");
    std::thread::sleep(Duration::from_millis(200));
    assert!(answers(&scene, "192.168.77.100") == 0);
    assert!(answers(&scene, "fd00:77::101") == 0);
}
