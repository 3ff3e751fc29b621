// SPDX-License-Identifier: Apache-2.0
//! Neither a killed agent nor a restart nor an upgrade costs a connection (C10).

use std::time::Duration;

use pintle_tests::agent::FastPath;
use pintle_tests::load::{Kind, Load};
use pintle_tests::topology::{Cni, Family};

use crate::scene::{DNS, HTTP, Scene, eventually, in_every_layout};

in_every_layout!(no_operation_fails_while_the_agent_dies_and_returns, alone);

fn no_operation_fails_while_the_agent_dies_and_returns(cni: Cni, fast_path: FastPath) {
    let mut scene = Scene::new(cni, fast_path);
    let (v4, v6) = (scene.vip(Family::V4, &HTTP), scene.vip(Family::V6, &HTTP));
    let client = &scene.client;
    let pause = Duration::from_millis(100);
    let loads = [
        ("100 long-lived, IPv4", Load::start(client, v4, 100, Kind::LongLived { pause })),
        ("100 long-lived, IPv6", Load::start(client, v6, 100, Kind::LongLived { pause })),
        ("short, IPv4", Load::start(client, v4, 4, Kind::Short { per_second: 300 })),
        ("short, IPv6", Load::start(client, v6, 4, Kind::Short { per_second: 200 })),
        (
            "UDP",
            Load::start(
                client,
                scene.vip(Family::V4, &DNS),
                2,
                Kind::UdpNewPort { per_second: 100 },
            ),
        ),
    ];
    eventually("all loads flow", || loads.iter().all(|(_, load)| load.operations() > 50));

    scene.agent.kill().expect("kill -9");
    std::thread::sleep(Duration::from_millis(500));
    scene.agent.start().expect("start again after kill -9");
    std::thread::sleep(Duration::from_millis(200));
    scene.agent.stop().expect("SIGTERM");
    scene.agent.start().expect("restart");
    let binary = scene.agent.binary();
    scene.agent.upgrade(&binary).expect("upgrade to the same binary");
    std::thread::sleep(Duration::from_millis(200));

    for (what, load) in loads {
        load.stop().expect_no_failure(what);
    }
}
