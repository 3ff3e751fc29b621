// SPDX-License-Identifier: Apache-2.0
//! A service that becomes a load balancer's, has its clients restricted, and becomes a plain one
//! again: real clients outside meet each step, and the maps end as empty as they began.

use std::net::{IpAddr, SocketAddr};

use pintle_lab::{
    agent::{Agent, FastPath},
    client::http_get,
    topology::{Cni, Family, Outsider},
};

use crate::company::beside_others;
use crate::scene::{HTTP, Scene};

const NODE_PORT: u16 = 30080;
const CLUSTER: &str = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\n\
     metadata:\n  name: kubernetes\nspec:\n  cidrs: [\"10.96.0.0/16\", \"fd00:10:96::/64\"]\n";

fn balancer(family: Family) -> IpAddr {
    match family {
        Family::V4 => "203.0.113.10".parse().unwrap(),
        Family::V6 => "fd00:203::10".parse().unwrap(),
    }
}

/// The service of the scene as a load balancer's, for clients in these ranges.
fn balanced(scene: &Scene, ranges: &str) -> String {
    let [v4, v6] = Family::BOTH.map(balancer);
    let service = scene.web.yaml();
    let service = service.replace("type: ClusterIP", "type: LoadBalancer");
    let service =
        service.replace("targetPort: 8080\n", "targetPort: 8080\n      nodePort: 30080\n");
    format!(
        "{service}  externalTrafficPolicy: Local\n  healthCheckNodePort: 31000\n  \
         loadBalancerSourceRanges: [{ranges}]\n\
         status:\n  loadBalancer:\n    ingress: [{{ip: \"{v4}\"}}, {{ip: \"{v6}\"}}]\n"
    )
}

fn answers(client: &Outsider, ip: IpAddr, port: u16) -> bool {
    let answer = client.run(|| http_get(SocketAddr::new(ip, port)));
    let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
    // The policy keeps the client's address.
    answer.is_ok_and(|answer| answer.peer.ip() == client.ip(family))
}

/// Entries of the maps that hold services, by name; maps without any are left out.
fn entries(agent: &Agent) -> Vec<String> {
    let maps = agent.json(&["get", "maps"]).expect("get maps");
    let of_services = |name: &str| name.starts_with("FRONTENDS") || name.starts_with("SOURCE");
    let found = maps.as_array().expect("a list").iter().filter_map(|map| {
        let (name, count) = (map["name"].as_str()?, map["entries"].as_u64()?);
        (of_services(name) && count > 0).then(|| format!("{name} {count}"))
    });
    found.collect()
}

#[test]
fn a_service_of_every_type_works_and_leaves_nothing_behind() {
    let _company = beside_others();
    let mut scene = Scene::new(Cni::Ptp, FastPath::Auto);
    let client = scene.world.add_outsider().expect("a client outside");
    let plain = entries(&scene.agent);
    let write = |scene: &mut Scene, text: &str| {
        let file = format!("{}-service.yaml", scene.web.name);
        scene.agent.manifests.write(&file, text).expect("write the service");
        scene.agent.settle().expect("settle");
    };

    scene.agent.manifests.write("cidr.yaml", CLUSTER).expect("write the ServiceCIDR");
    let nodes = Family::BOTH.map(|family| scene.world.nodes[0].ip_of(family));
    let open = balanced(&scene, "198.51.100.0/24, 'fd00:51::/64'");
    let closed = balanced(&scene, "192.0.2.0/24");
    write(&mut scene, &open);
    for family in Family::BOTH {
        assert!(answers(&client, balancer(family), HTTP.port), "{family:?} balancer");
        assert!(answers(&client, nodes[family as usize], NODE_PORT), "{family:?} node port");
        assert!(!answers(&client, nodes[family as usize], HTTP.port), "only its own port");
    }
    let full = entries(&scene.agent);
    scene.agent.stop().expect("stop");
    scene.agent.start().expect("start");
    assert_eq!(entries(&scene.agent), full, "a restart changes nothing");

    let counter = |scene: &Scene| scene.agent.counter("source not allowed").expect("counters");
    assert_eq!(counter(&scene), 0);
    write(&mut scene, &closed);
    assert!(!answers(&client, balancer(Family::V4), HTTP.port), "not in the range");
    assert!(counter(&scene) > 0);
    assert!(answers(&client, balancer(Family::V6), HTTP.port), "the ranges are of IPv4 only");
    assert!(answers(&client, nodes[0], NODE_PORT), "node ports are not restricted");

    let unallocated = |scene: &Scene| scene.agent.counter("unallocated address");
    let before = unallocated(&scene).expect("counters");
    assert!(!answers(&client, "10.96.7.7".parse().unwrap(), HTTP.port));
    assert!(unallocated(&scene).expect("counters") > before, "nobody has that address");

    let cluster_ip = scene.web.yaml();
    write(&mut scene, &cluster_ip);
    assert!(!answers(&client, nodes[0], NODE_PORT), "the node port is gone");
    assert_eq!(entries(&scene.agent), plain);
    write(&mut scene, &closed);
    scene.agent.manifests.delete(&scene.web).expect("delete the service");
    scene.agent.settle().expect("settle");
    assert_eq!(entries(&scene.agent), [""; 0]);
}
