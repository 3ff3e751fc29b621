// SPDX-License-Identifier: Apache-2.0
//! Fragmented datagrams reach a backend whole, and so do their fragmented replies (I7).

use pintle_lab::agent::FastPath;
use pintle_lab::client::udp_ask;
use pintle_lab::topology::{Cni, Family};

use crate::scene::{DNS, Scene, in_every_layout};

in_every_layout!(fragmented_datagrams_pass_both_ways);

fn fragmented_datagrams_pass_both_ways(cni: Cni, fast_path: FastPath) {
    let scene = Scene::new(cni, fast_path);
    for family in Family::BOTH {
        let target = scene.vip(family, &DNS);
        for size in [1473, 8000, 60_000] {
            let payload: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
            for _ in 0..20 {
                let answer = scene.client.run(|| udp_ask(target, &payload));
                let answer = answer.unwrap_or_else(|e| panic!("{family:?}, {size} bytes: {e}"));
                assert!(answer == payload, "{family:?}: {size} bytes came back changed");
            }
        }
    }
}
