// SPDX-License-Identifier: Apache-2.0
//! XDP on uplinks: it comes and goes without a loss, steps back for others, and says why it is not there.
//! What it does for clients is what tc does: with `PINTLE_XDP=always` every other test runs with it, and
//! `cargo xtask test netns` does so with those of clients outside.

use std::time::Duration;

use pintle_lab::{
    agent::{Agent, FastPath},
    device::Device,
    topology::{Cni, Family, World},
    xdp::Passing,
};
use pintle_tests::load::Kind;

use crate::{
    company::{alone, beside_others},
    exposed::{Exposed, From},
    restart::die_and_return,
    scene::eventually,
};

fn scene(cni: Cni) -> Exposed {
    let world = World::with_xdp(2, cni).expect("two nodes");
    Exposed::in_world(world, FastPath::Auto, "off")
}

/// Why the uplink has no XDP; `None` if it has.
fn reason(agent: &Agent) -> Option<String> {
    let status = agent.json(&["status"]).expect("status");
    let uplinks = status["programs"]["uplinks"].as_array().expect("a list");
    assert_eq!(uplinks.len(), 1, "{status}");
    uplinks[0]["without_xdp"].as_str().map(str::to_owned)
}

/// The agent begins anew with this mode.
fn change(agent: &mut Agent, mode: &str) {
    agent.stop().expect("stop");
    agent.extra_args = vec![format!("--xdp={mode}")];
    agent.start().expect("start");
}

fn short(scene: &Exposed, family: Family) {
    let load = scene.load(From::Outside, family, 2, Kind::Short { per_second: 200 });
    eventually("the load flows", || load.operations() > 100);
    load.stop().expect_no_failure(&format!("{family:?}"));
}

#[test]
fn connections_to_other_nodes_do_not_meet_tc() {
    let _company = beside_others();
    for cni in [Cni::Ptp, Cni::Bridge] {
        let mut scene = scene(cni);
        assert_eq!(reason(&scene.agent), None);
        scene.set_ready(&[2]);
        const EVENTS: [&str; 3] = ["to a service", "from a service", "new flows"];
        let counts = || {
            let count = |place, what| scene.agent.counter_at(place, what).expect("counters");
            EVENTS.map(|what| ["xdp", "from_net"].map(|place| count(place, what)))
        };
        // While a neighbour is not known tc does the work, and to the end of that eighth of a second.
        Family::BOTH.iter().for_each(|family| short(&scene, *family));
        let before = counts();
        Family::BOTH.iter().for_each(|family| short(&scene, *family));
        for ((what, before), after) in EVENTS.iter().zip(before).zip(counts()) {
            let [early, late] = [0, 1].map(|place| after[place] - before[place]);
            assert!(early > 100 && early > 10 * late, "{what}: {early} at xdp, {late} at from_net");
        }
    }
}

#[test]
fn connections_to_this_node_are_left_to_tc() {
    let _company = beside_others();
    let mut scene = scene(Cni::Ptp);
    scene.set_ready(&[0, 1]);
    short(&scene, Family::V4);
    let count = |place, what| scene.agent.counter_at(place, what).expect("counters");
    assert_eq!((count("xdp", "to a service"), count("xdp", "new flows")), (0, 0));
    assert!(count("xdp", "passed") > 100);
    assert!(count("from_net", "new flows") >= 100);
}

#[test]
fn nothing_from_outside_fails_while_xdp_comes_and_goes() {
    let _company = alone();
    let mut scene = scene(Cni::Ptp);
    scene.set_ready(&[1, 2]);
    let kinds = [
        (Kind::LongLived { pause: Duration::from_millis(20) }, 20),
        (Kind::Short { per_second: 100 }, 2),
        (Kind::UdpSamePort { pause: Duration::from_millis(20) }, 2),
    ];
    let mut loads = Vec::new();
    for family in Family::BOTH {
        for (kind, workers) in kinds {
            let load = scene.load(From::Outside, family, workers, kind);
            loads.push((format!("{family:?} {kind:?}"), load));
        }
    }
    eventually("all loads flow", || loads.iter().all(|(_, load)| load.operations() > 50));
    for mode in ["off", "always", "auto", "always"] {
        change(&mut scene.agent, mode);
        assert_eq!(reason(&scene.agent).is_none(), mode == "always", "{mode}");
        std::thread::sleep(Duration::from_millis(300));
    }
    die_and_return(&mut scene.agent);
    assert_eq!(reason(&scene.agent), None);
    for (name, load) in loads {
        load.stop().expect_no_failure(&name);
    }
}

#[test]
fn program_of_somebody_else_stays() {
    let _company = beside_others();
    let mut scene = scene(Cni::Ptp);
    scene.agent.stop().expect("stop");
    scene.agent.cleanup().expect("cleanup");
    let uplink = Device::new(&scene.world.nodes[0], "eth0");
    let foreign = Passing::attach(&uplink).expect("a program of somebody else");
    scene.agent.start().expect("start");
    assert_eq!(reason(&scene.agent).as_deref(), Some("another program is there"));
    short(&scene, Family::V4);
    scene.agent.stop().expect("stop");
    drop(foreign);
    scene.agent.start().expect("start");
    assert_eq!(reason(&scene.agent), None);
    short(&scene, Family::V6);
}

#[test]
fn uplink_without_xdp_is_served_by_tc_and_status_says_why() {
    let _company = beside_others();
    let mut scene = scene(Cni::Ptp);
    for (mode, expected) in [("off", "switched off"), ("auto", "it is a veth")] {
        change(&mut scene.agent, mode);
        assert_eq!(reason(&scene.agent).as_deref(), Some(expected));
        let text = scene.agent.text(&["status"]).expect("status");
        assert!(text.contains(&format!("0 of 1 uplinks   eth0 {expected}")), "{text}");
    }
    scene.agent.stop().expect("stop");
    // A bridge has no XDP; with a name of its own it is an uplink.
    scene.world.nodes[0]
        .ip(&["link add br0 type bridge".into(), "link set br0 up".into()])
        .expect("a bridge");
    scene.agent.extra_args = vec!["--xdp=always".into(), "--uplinks=eth0,br0".into()];
    scene.agent.start().expect("start");
    let text = scene.agent.text(&["status"]).expect("status");
    assert!(text.contains("1 of 2 uplinks   br0 its driver has none"), "{text}");
    short(&scene, Family::V4);
}

#[test]
fn senders_who_leave_their_checksums_to_a_device_are_served_by_tc() {
    let _company = beside_others();
    let world = World::without_xdp(2, Cni::Ptp).expect("two nodes");
    let mut scene = Exposed::in_world(world, FastPath::Auto, "off");
    // Their packets never saw a wire: nobody has completed a checksum.
    change(&mut scene.agent, "always");
    scene.set_ready(&[2]);
    for family in Family::BOTH {
        short(&scene, family);
    }
    let count = |place, what| scene.agent.counter_at(place, what).expect("counters");
    let (early, late) = (count("xdp", "to a service"), count("from_net", "to a service"));
    assert!(late > 100 && late > 10 * early, "{early} at xdp, {late} at from_net");
}
