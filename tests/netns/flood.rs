// SPDX-License-Identifier: Apache-2.0
//! A flood that fills the flow tables takes no established connection with it (C4).

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pintle_lab::agent::FastPath;
use pintle_lab::client::DEADLINE;
use pintle_lab::manifest::Endpoint;
use pintle_lab::server::Server;
use pintle_lab::topology::{Cni, Family, Pod};
use pintle_tests::flood;
use pintle_tests::load::{Kind, Load, repeat, short_http, short_udp};

use crate::company::alone;
use crate::scene::{DNS, ECHO, HTTP, Scene, eventually, web};

const ENTRIES: u32 = 1024;
const PAUSE: Duration = Duration::from_millis(50);

#[test]
fn established_connections_survive_a_syn_flood_past_the_stack() {
    let _company = alone();
    survive_a_syn_flood(Cni::Ptp, FastPath::Auto);
}

#[test]
fn established_connections_survive_a_syn_flood_through_the_stack() {
    let _company = alone();
    survive_a_syn_flood(Cni::Bridge, FastPath::Off);
}

fn survive_a_syn_flood(cni: Cni, fast_path: FastPath) {
    let mut scene = with_small_tables(cni, fast_path, "TCP");
    let attacker = scene.world.nodes[0].add_pod("attacker").expect("a pod");
    let pusher = scene.world.nodes[0].add_pod("pusher").expect("a pod");
    let _server = Server::ticker(&pusher, ECHO.target).expect("a server");
    let pushes = web(40);
    scene.add_service(&pushes, &[Endpoint::ready(&pusher)]);

    let http = scene.vip(Family::V4, &HTTP);
    let load = Load::start(&scene.client, http, 50, Kind::LongLived { pause: PAUSE });
    let stop = Arc::new(AtomicBool::new(false));
    let target = SocketAddr::new(pushes.ip(Family::V4), ECHO.port);
    let readers: Vec<_> = (0..20).map(|_| read_ticks(&scene.client, target, &stop)).collect();
    eventually("load flows", || load.operations() > 200);

    let SocketAddr::V4(victim) = http else { panic!("IPv4") };
    attacker.run(|| flood::syns(attacker.v4, victim, 20 * ENTRIES)).expect("a flood");
    std::thread::sleep(DEADLINE);
    assert!(scene.agent.counter("overflow flows").expect("counters") > 0, "no table was full");

    load.stop().expect_no_failure("connections from before the flood");
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        let ticks = reader.join().expect("a reader").expect("the server's data arrives");
        assert!(ticks > 20, "{ticks} lines only");
    }
    let after = scene.client.run(|| repeat(300, || short_http(http)));
    after.expect_no_failure("new connections after the flood");
    after.expect_even(3);
}

#[test]
fn more_udp_flows_than_entries_all_work() {
    let _company = alone();
    let scene = with_small_tables(Cni::Ptp, FastPath::Auto, "UDP");
    let dns = scene.vip(Family::V4, &DNS);
    let load = Load::start(&scene.client, dns, 10, Kind::UdpSamePort { pause: PAUSE });
    eventually("load flows", || load.operations() > 20);
    let many = scene.client.run(|| repeat(u64::from(5 * ENTRIES), || short_udp(dns)));
    many.expect_no_failure("a new port each time");
    many.expect_even(3);
    assert!(scene.agent.counter("overflow flows").expect("counters") > 0, "no table was full");
    load.stop().expect_no_failure("flows from before");
}

fn with_small_tables(cni: Cni, fast_path: FastPath, protocol: &str) -> Scene {
    let mut scene = Scene::without_agent(cni, fast_path).expect("a scene");
    for table in ["FLOWS", "OVERFLOW"] {
        scene.agent.extra_args.push(format!("--map-size={protocol}_{table}_V4={ENTRIES}"));
    }
    scene.agent.start().expect("start");
    scene
}

/// Reads lines until it is stopped and counts them; each must arrive in time.
fn read_ticks(
    client: &Pod,
    target: SocketAddr,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<std::io::Result<u64>> {
    let stop = Arc::clone(stop);
    client.spawn(move || {
        let stream = TcpStream::connect_timeout(&target, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut lines = BufReader::new(stream).lines();
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)??;
            count += 1;
        }
        Ok(count)
    })
}
