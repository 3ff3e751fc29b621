// SPDX-License-Identifier: Apache-2.0
//! A service changes its type, ports, policies and the node its addresses, each in every order: what
//! the maps hold depends on what is, and not on what was, and in the end they hold nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use pintle_lab::{
    agent::{Agent, FastPath},
    client::{DEADLINE, http_get},
    manifest::Service,
    topology::{Cni, Family},
};

use crate::{
    company::beside_others,
    exposed::{Exposed, From},
    scene::{HTTP, eventually},
};

const HEALTH: u16 = 31_000;
const CLUSTER: &str = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\n\
     metadata:\n  name: kubernetes\nspec:\n  cidrs: [\"10.96.0.0/16\", \"fd00:10:96::/64\"]\n";
const BALANCERS: [&str; 2] = ["203.0.113.10", "fd00:203::10"];

/// What a service can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ClusterIp,
    Sticky,
    FewerPorts,
    NodePort,
    NodePortLocal,
    LoadBalancer,
    Restricted,
    ExternalName,
    Headless,
    Gone,
}

use Kind::{
    ClusterIp, ExternalName, FewerPorts, Gone, Headless, LoadBalancer, NodePort, NodePortLocal,
    Restricted, Sticky,
};

impl Kind {
    /// In this order each of the four types and each kind of nothing comes after each other.
    const WALK: [Kind; 27] = [
        ClusterIp,
        NodePort,
        ClusterIp,
        LoadBalancer,
        ClusterIp,
        ExternalName,
        ClusterIp,
        Headless,
        NodePort,
        Restricted,
        NodePortLocal,
        ExternalName,
        NodePortLocal,
        Headless,
        Restricted,
        ExternalName,
        LoadBalancer,
        Headless,
        ExternalName,
        Gone,
        Restricted,
        LoadBalancer,
        NodePort,
        NodePortLocal,
        Sticky,
        FewerPorts,
        Gone,
    ];

    fn has_node_ports(self) -> bool {
        matches!(self, NodePort | NodePortLocal | LoadBalancer | Restricted)
    }

    fn has_cluster_ip(self) -> bool {
        !matches!(self, ExternalName | Headless | Gone)
    }

    fn is_balanced(self) -> bool {
        matches!(self, LoadBalancer | Restricted)
    }

    /// The object; `None` if there is none.
    fn yaml(self, web: &Service) -> Option<String> {
        let mut service = web.clone();
        service.kind = match self {
            Gone => return None,
            ExternalName => "ExternalName",
            ClusterIp | Sticky | FewerPorts | Headless => "ClusterIP",
            NodePort | NodePortLocal => "NodePort",
            LoadBalancer | Restricted => "LoadBalancer",
        };
        if !self.has_node_ports() {
            service.node_ports.clear();
        }
        let mut spec = String::new();
        match self {
            FewerPorts => drop(service.ports.remove(1)),
            Sticky => spec += "  sessionAffinity: ClientIP\n",
            NodePortLocal => spec += "  externalTrafficPolicy: Local\n",
            Restricted => {
                spec += "  externalTrafficPolicy: Local\n  sessionAffinity: ClientIP\n  \
                         loadBalancerSourceRanges: [198.51.100.0/24, 'fd00:51::/64']\n";
                spec += &format!("  healthCheckNodePort: {HEALTH}\n");
            }
            ExternalName => spec += "  externalName: example.org\n",
            ClusterIp | NodePort | LoadBalancer | Headless | Gone => {}
        }
        if self.is_balanced() {
            let [v4, v6] = BALANCERS;
            spec +=
                &format!("status: {{loadBalancer: {{ingress: [{{ip: {v4}}}, {{ip: '{v6}'}}]}}}}\n");
        }
        service.extra_spec = spec;
        let yaml = service.yaml();
        let without = |yaml: String, ips: &str| {
            let lines = yaml.lines().filter(|line| !line.contains("clusterIP"));
            lines.collect::<Vec<_>>().join("\n").replace("\nspec:", &format!("\nspec:\n{ips}"))
                + "\n"
        };
        Some(match self {
            Headless => without(yaml, "  clusterIP: None\n  clusterIPs: [None]"),
            ExternalName => without(yaml, ""),
            _ => yaml,
        })
    }
}

/// What the maps of services hold, without numbers that may be others each time.
fn held(agent: &Agent) -> Vec<String> {
    let rows = |what: &str| agent.json(&["get", what]).expect("rows").as_array().cloned();
    let mut held = Vec::new();
    for row in rows("services").expect("services") {
        let names = ["frontend", "type", "affinity_seconds", "traffic", "clients", "empty"];
        let more = ["masquerade", "sources"];
        let words = names.iter().chain(&more).map(|name| row[*name].to_string());
        held.push(format!("{} {}", words.collect::<Vec<_>>().join(" "), row["backends"]["ready"]));
    }
    for row in rows("backends").expect("backends") {
        held.push(format!("{} {} {}", row["backend"], row["state"], row["frontends"]));
    }
    for row in rows("maps").expect("maps") {
        let name = row["name"].as_str().expect("a name");
        if ["FRONTENDS", "SOURCE"].iter().any(|prefix| name.starts_with(prefix)) {
            held.push(format!("{name} {}", row["entries"]));
        }
    }
    held.sort();
    held
}

/// Whether a connection is made; one that is not expected is not waited for long.
fn can_connect(scene: &Exposed, from: From, ip: IpAddr, port: u16, expected: bool) -> bool {
    let (ns, _) = scene.way(from, Family::V4, &HTTP);
    let at = SocketAddr::new(ip, port);
    let time = if expected { DEADLINE } else { Duration::from_millis(60) };
    ns.run(|| TcpStream::connect_timeout(&at, time).is_ok())
}

fn expect_reachable_as(scene: &Exposed, kind: Kind, family: Family) {
    let node = &scene.world.nodes[0];
    let balancer = BALANCERS[family as usize].parse().expect("an address");
    let node_port = Exposed::node_port(&HTTP);
    for (from, ip, port, expected) in [
        (From::Pod, scene.web.ip(family), HTTP.port, kind.has_cluster_ip()),
        (From::Outside, node.ip_of(family), node_port, kind.has_node_ports()),
        (From::Outside, balancer, HTTP.port, kind.is_balanced()),
    ] {
        let found = can_connect(scene, from, ip, port, expected);
        assert_eq!(found, expected, "{ip} port {port} of {kind:?}");
    }
    let health = SocketAddr::from(([127, 0, 0, 1], HEALTH));
    let health = node.run(|| TcpStream::connect(health).is_ok());
    assert_eq!(health, kind == Restricted, "health of {kind:?}");
}

fn set(scene: &mut Exposed, kind: Kind) {
    let file = format!("{}-service.yaml", scene.web.name);
    match kind.yaml(&scene.web) {
        Some(yaml) => scene.agent.manifests.write(&file, &yaml).expect("write the service"),
        None => scene.agent.manifests.remove(&file).expect("remove the service"),
    }
    scene.agent.settle().expect("settle");
}

#[test]
fn what_the_maps_hold_depends_on_what_is_and_not_on_what_was() {
    let _company = beside_others();
    let mut scene = Exposed::new(Cni::Ptp, FastPath::Auto, "off");
    scene.agent.manifests.write("cidr.yaml", CLUSTER).expect("write the ServiceCIDR");
    let mut known: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
    for (kind, family) in Kind::WALK.into_iter().zip(Family::BOTH.into_iter().cycle()) {
        set(&mut scene, kind);
        expect_reachable_as(&scene, kind, family);
        // What was given up is freed a moment later.
        std::thread::sleep(Duration::from_millis(120));
        let now = held(&scene.agent);
        let first = known.entry(kind).or_insert_with(|| now.clone());
        assert_eq!(&now, first, "{kind:?}");
    }
    let different: BTreeSet<_> = known.values().collect();
    assert_eq!(different.len(), known.len() - 2, "three kinds of nothing: {known:#?}");
    assert!(known[&Gone].iter().all(|line| line.ends_with(" 0")), "{:?}", known[&Gone]);

    scene.agent.manifests.remove("cidr.yaml").expect("remove the ServiceCIDR");
    scene.agent.settle().expect("settle");
    let (ns, at) = scene.way(From::Pod, Family::V4, &HTTP);
    let dropped = || scene.agent.counter("unallocated address").expect("counters");
    let before = dropped();
    assert!(before > 0, "addresses of the cluster that nobody had were dropped");
    assert!(ns.run(|| http_get(at)).is_err(), "nobody has it now either");
    assert_eq!(dropped(), before, "but it is none of the cluster's any more");
}

#[test]
fn node_ports_follow_the_node_s_addresses() {
    let _company = beside_others();
    let mut scene = Exposed::new(Cni::Ptp, FastPath::Auto, "off");
    let more: [(Family, IpAddr); 2] = [
        (Family::V4, "192.168.77.101".parse().expect("an address")),
        (Family::V6, "fd00:77::101".parse().expect("an address")),
    ];
    let before = held(&scene.agent);
    let change = |scene: &Exposed, verb: &str| {
        let line = |(family, ip): &(Family, IpAddr)| match family {
            Family::V4 => format!("addr {verb} {ip}/24 dev eth0"),
            Family::V6 => format!("addr {verb} {ip}/64 dev eth0"),
        };
        scene.world.nodes[0].ip(&more.iter().map(line).collect::<Vec<_>>()).expect("ip addr");
    };
    let port = Exposed::node_port(&HTTP);
    for round in 0..2 {
        change(&scene, "add");
        for (_, ip) in &more {
            let reach = || can_connect(&scene, From::Outside, *ip, port, true);
            eventually("the node port answers at the new address", reach);
        }
        assert_eq!(held(&scene.agent).len(), before.len(), "only the marks of addresses differ");
        if round == 1 {
            // The agent comes back to other addresses than it has left.
            scene.agent.kill().expect("kill -9");
            change(&scene, "del");
            scene.agent.start().expect("start");
        } else {
            change(&scene, "del");
        }
        eventually("the address is forgotten", || held(&scene.agent) == before);
    }
    set(&mut scene, Gone);
    change(&scene, "add");
    std::thread::sleep(Duration::from_millis(300));
    let left = held(&scene.agent);
    assert!(left.iter().all(|line| line.ends_with(" 0")), "{left:?}");
}
