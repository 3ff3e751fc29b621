// SPDX-License-Identifier: Apache-2.0
//! The host's own datagrams are none of ours, at whatever address of the node, also in fragments.

use std::net::{SocketAddr, UdpSocket};

use pintle_lab::{
    agent::FastPath,
    client::udp_ask,
    topology::{Cni, Family},
};

use crate::company::beside_others;
use crate::scene::Scene;

/// Answers whatever is sent with the same, until it is one byte.
fn serve(socket: UdpSocket) {
    std::thread::spawn(move || {
        let mut datagram = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut datagram) {
            if length == 1 {
                return;
            }
            let _ = socket.send_to(&datagram[..length], from);
        }
    });
}

#[test]
fn a_fragmented_datagram_for_the_host_arrives_beside_services_at_its_address() {
    let _company = beside_others();
    let mut scene = Scene::new(Cni::Ptp, FastPath::Auto);
    let client = scene.world.add_outsider().expect("a client outside");
    let targets: Vec<SocketAddr> = Family::BOTH
        .into_iter()
        .zip(["0.0.0.0:7777", "[::]:7778"])
        .map(|(family, any)| {
            let socket = scene.world.nodes[0].run(|| UdpSocket::bind(any)).expect("bind");
            let port = socket.local_addr().expect("its port").port();
            serve(socket);
            SocketAddr::new(scene.world.nodes[0].ip_of(family), port)
        })
        .collect();
    let node_port = scene.web.yaml().replace("type: ClusterIP", "type: NodePort");
    let node_port =
        node_port.replace("targetPort: 8080\n", "targetPort: 8080\n      nodePort: 30080\n");
    let [v4, v6] = [targets[0].ip(), targets[1].ip()];
    let external = format!("{}  externalIPs: [\"{v4}\", \"{v6}\"]\n", scene.web.yaml());
    let file = format!("{}-service.yaml", scene.web.name);
    for service in [node_port, external] {
        scene.agent.manifests.write(&file, &service).expect("write the service");
        scene.agent.settle().expect("settle");
        for target in &targets {
            for size in [100, 8000] {
                let payload: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
                let answer = client.run(|| udp_ask(*target, &payload));
                let is_whole = answer.is_ok_and(|answer| answer == payload);
                assert!(is_whole, "{size} bytes to {target} beside\n{service}");
            }
        }
    }
    for target in &targets {
        client.run(|| end(*target)).expect("tell the server");
    }
}

/// One byte ends the server.
fn end(target: SocketAddr) -> std::io::Result<usize> {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any)?.send_to(b"x", target)
}
