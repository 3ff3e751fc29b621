// SPDX-License-Identifier: Apache-2.0
//! Flows that are over leave the maps.

use std::time::{Duration, Instant};

use pintle_lab::agent::FastPath;
use pintle_lab::client::http_get;
use pintle_lab::topology::{Cni, Family};

use crate::company::beside_others;
use crate::scene::{HTTP, Scene};

/// Closed flows are kept for 5 s, and the maps are swept every second.
const DEADLINE: Duration = Duration::from_secs(12);

#[test]
fn closed_connections_leave_the_maps() {
    let _company = beside_others();
    let scene = Scene::new(Cni::Ptp, FastPath::Auto);
    for family in Family::BOTH {
        let target = scene.vip(family, &HTTP);
        scene.client.run(|| http_get(target)).expect("an answer");
    }
    let entries = || -> u64 {
        let maps = scene.agent.json(&["get", "maps"]).expect("the maps");
        let rows = maps.as_array().expect("rows").iter();
        let flows =
            rows.filter(|row| row["name"].as_str().is_some_and(|m| m.contains("TCP_FLOWS")));
        flows.filter_map(|row| row["entries"].as_u64()).sum()
    };
    assert_eq!(entries(), 4, "two entries for each connection");
    let end = Instant::now() + DEADLINE;
    while entries() > 0 {
        assert!(Instant::now() < end, "{} entries are still there", entries());
        std::thread::sleep(Duration::from_millis(200));
    }
}
