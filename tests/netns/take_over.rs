// SPDX-License-Identifier: Apache-2.0
//! Pintle takes kube-proxy's place: its rules go, those of others stay, no connection breaks.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pintle::datapath::{pins::Pins, view::View};
use pintle::node::netfilter::policy_engine;
use pintle::takeover::{
    self, conntrack, keeper,
    netlink::{Message, Netfilter},
};
use pintle_tests::agent::FastPath;
use pintle_tests::client::{
    HttpConnection, connect_from, http_get, udp_ask_on, udp_pod, udp_socket,
};
use pintle_tests::kube_proxy::{self, Iptables, ServiceRules};
use pintle_tests::load::{Kind, Load};
use pintle_tests::manifest::Port;
use pintle_tests::netns::NetNs;
use pintle_tests::topology::{Cni, Family};

use socket2::SockRef;

use crate::company::{alone, beside_others};
use crate::scene::{DNS, HTTP, Scene, endpoints, eventually};

/// Rules of the kubelet, of a plugin for host ports and of the node's owner, with counters.
const FOREIGN: &str = "\
*mangle
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:MINE - [0:0]
[7:420] -A INPUT -j KUBE-FIREWALL
[5:300] -A FORWARD -p tcp -m comment --comment \"before\" -m tcp --dport 9 -j MINE
[3:180] -A FORWARD -m comment --comment \"counts only\"
[0:0] -A KUBE-FIREWALL -m conntrack --ctstate INVALID -j DROP
[4:240] -A MINE -p udp -m udp --dport 53 -m limit --limit 5/sec -j ACCEPT
[2:120] -A MINE -j RETURN
COMMIT
*nat
:KUBE-MARK-DROP - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-DN-abc - [0:0]
[9:540] -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
[8:480] -A POSTROUTING -p tcp -m tcp --dport 99 -j MASQUERADE
[6:360] -A CNI-HOSTPORT-DNAT -p tcp -m tcp --dport 8888 -j CNI-DN-abc
[1:60] -A CNI-DN-abc -p tcp -m tcp --dport 8888 -j REDIRECT --to-ports 80
[0:0] -A KUBE-MARK-DROP -j MARK --or-mark 0x8000
COMMIT
";

/// Counters of the built-in chains: legacy iptables loses them whenever it adds a rule.
const POLICIES: &str = "\
*filter
:INPUT ACCEPT [11:1100]
:FORWARD ACCEPT [12:1200]
COMMIT
*nat
:PREROUTING ACCEPT [1:60]
COMMIT
";

#[test]
fn a_thousand_services_go_from_legacy_iptables_and_nothing_else_does() {
    remove_from_iptables(Iptables::Legacy);
}

#[test]
fn a_thousand_services_go_from_iptables_nft_and_nothing_else_does() {
    remove_from_iptables(Iptables::Nft);
}

fn remove_from_iptables(iptables: Iptables) {
    let _company = alone();
    let ns = NetNs::new().expect("a namespace");
    let save = || Family::BOTH.map(|family| iptables.save(&ns, family).expect("save"));
    for family in Family::BOTH {
        iptables.restore(&ns, family, FOREIGN).expect("foreign rules");
        iptables.restore(&ns, family, POLICIES).expect("policies");
    }
    let before = save();
    for family in Family::BOTH {
        let services = ServiceRules::many(family, 1000);
        let rules = kube_proxy::iptables_mode(&services);
        iptables.restore(&ns, family, &rules).expect("kube-proxy's rules");
        iptables.restore(&ns, family, POLICIES).expect("policies");
    }
    assert_ne!(before, save());
    remove(&ns, |left| {
        // Per family: 1,000 services with five endpoints, 250 of them with a node port; 5 fixed
        // chains in `nat`, 6 in `filter`, 1 in `mangle`.
        assert_eq!((left.chains, left.hooks), (2 * (6250 + 12), 2 * 12));
    });
    for (before, after) in before.iter().zip(save()) {
        similar(before, &after);
    }
}

#[test]
fn the_tables_of_nftables_mode_go_and_nothing_else_does() {
    let _company = beside_others();
    let ns = NetNs::new().expect("a namespace");
    let mine = "table inet mine {\n chain c {\n type filter hook forward priority 0; policy \
                accept;\n counter\n }\n }\n";
    kube_proxy::nft(&ns, mine).expect("a foreign table");
    let before = kube_proxy::ruleset(&ns).expect("list");
    for family in Family::BOTH {
        let services = ServiceRules::many(family, 1000);
        kube_proxy::nft(&ns, &kube_proxy::nftables_mode(family, &services)).expect("rules");
    }
    remove(&ns, |left| assert_eq!((left.tables, left.chains), (2, 0)));
    similar(&before, &kube_proxy::ruleset(&ns).expect("list"));
}

#[test]
fn what_a_foreign_chain_leads_to_is_only_emptied() {
    let _company = beside_others();
    for iptables in [Iptables::Legacy, Iptables::Nft] {
        let ns = NetNs::new().expect("a namespace");
        let rules = kube_proxy::iptables_mode(&ServiceRules::many(Family::V4, 2));
        iptables.restore(&ns, Family::V4, &rules).expect("kube-proxy's rules");
        let foreign = "*nat\n:MINE - [0:0]\n-A MINE -j KUBE-SERVICES\n-A MINE -j KUBE-MARK-MASQ\n\
                       COMMIT\n";
        iptables.restore(&ns, Family::V4, foreign).expect("foreign rules");
        remove(&ns, |left| assert!(left.are_live()));
        let left = iptables.save(&ns, Family::V4).expect("save");
        let nat = left.split("*nat").nth(1).expect("the table");
        let rules: Vec<&str> = nat.lines().filter(|line| line.contains(" -A ")).collect();
        assert_eq!(
            rules,
            [
                "[0:0] -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j \
                 KUBE-POSTROUTING",
                "[0:0] -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
                "[0:0] -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
                "[0:0] -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
                "[0:0] -A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic \
                 requiring SNAT\" -j MASQUERADE --random-fully",
                "[0:0] -A MINE -j KUBE-SERVICES",
                "[0:0] -A MINE -j KUBE-MARK-MASQ",
            ]
        );
    }
}

#[test]
fn the_interface_of_ipvs_mode_goes() {
    let _company = beside_others();
    let ns = NetNs::new().expect("a namespace");
    // Any kind will do: not every kernel has dummy interfaces.
    ns.ip(&["link add kube-ipvs0 type bridge".into()]).expect("an interface");
    let found = || ns.run(|| takeover::leftovers().expect("look").interfaces);
    assert_eq!(found(), 1);
    assert!(ns.run(|| takeover::ipvs::remove().expect("remove")));
    assert_eq!(found(), 0);
    assert!(!ns.run(|| takeover::ipvs::remove().expect("nothing to remove")));
}

#[test]
fn the_sets_of_ipvs_mode_go_once_no_rule_matches_them() {
    let _company = beside_others();
    for iptables in [Iptables::Legacy, Iptables::Nft] {
        let ns = NetNs::new().expect("a namespace");
        ns.run(|| ["KUBE-CLUSTER-IP", "MINE"].map(create_set));
        let rules = "*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A \
                     KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst -j ACCEPT\nCOMMIT\n";
        iptables.restore(&ns, Family::V4, rules).expect("kube-proxy's rules");
        remove(&ns, |left| assert_eq!((left.sets, left.chains, left.hooks), (1, 1, 1)));
    }
}

/// Makes a set of addresses, as `ipset create NAME hash:ip` does.
fn create_set(name: &str) {
    let mut netfilter = Netfilter::open().expect("open").expect("netfilter");
    let message = Message::new(6, 2, libc::NLM_F_CREATE, 0)
        .bytes(1, &[6])
        .text(2, name)
        .text(3, "hash:ip")
        .bytes(4, &[0])
        .bytes(5, &[libc::AF_INET as u8])
        .nested(7, |data| data);
    netfilter.command(message).expect("create a set");
}

#[test]
fn looking_for_leftovers_makes_no_tables() {
    let _company = beside_others();
    let ns = NetNs::new().expect("a namespace");
    let names = || ns.run(|| std::fs::read_to_string("/proc/thread-self/net/ip_tables_names"));
    remove(&ns, |left| assert!(left.is_empty()));
    assert_eq!(ns.run(|| policy_engine().expect("look")), None);
    assert_eq!(names().unwrap_or_default(), "");
    assert_eq!(kube_proxy::ruleset(&ns).expect("list"), "");
}

/// Removes what there is, in a second or two, and checks what that was.
fn remove(ns: &NetNs, check: impl Fn(takeover::Leftovers)) {
    let (found, removed, took) = ns.run(|| {
        let found = takeover::leftovers().expect("look");
        let start = Instant::now();
        (found, takeover::remove().expect("remove"), start.elapsed())
    });
    println!("removed {removed} in {took:?}");
    check(found);
    assert_eq!(found, removed);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let left = ns.run(|| takeover::leftovers().expect("look again"));
    assert!(left.is_empty(), "{left} is left");
}

/// Compares texts of many lines; shows only where they differ.
#[track_caller]
fn similar(before: &str, after: &str) {
    let differs = before.lines().zip(after.lines()).find(|(before, after)| before != after);
    assert_eq!(differs, None);
    assert_eq!(before.lines().count(), after.lines().count());
}

/// kube-proxy's rules of one kind, for the service `web` of a scene and many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Legacy,
    IptablesNft,
    Nftables,
}

/// Writes the rules of a kube-proxy into the node of the scene.
fn proxy(scene: &Scene, mode: Mode, others: u16) {
    let node = &scene.world.nodes[0];
    for family in Family::BOTH {
        let rules = |port: &Port| ServiceRules {
            name: format!("shop/web:{}", port.name),
            protocol: if port.protocol == "UDP" { "udp" } else { "tcp" },
            frontend: scene.vip(family, port),
            endpoints: (scene.backends.iter())
                .map(|backend| backend.pod.addr(family, port.target))
                .collect(),
            node_port: None,
        };
        let mut services = ServiceRules::many(family, others);
        services.extend([HTTP, DNS].iter().map(rules));
        let done = match mode {
            Mode::Legacy => {
                let rules = kube_proxy::iptables_mode(&services);
                Iptables::Legacy.restore(node, family, &rules)
            }
            Mode::IptablesNft => {
                let rules = kube_proxy::iptables_mode(&services);
                Iptables::Nft.restore(node, family, &rules)
            }
            Mode::Nftables => kube_proxy::nft(node, &kube_proxy::nftables_mode(family, &services)),
        };
        done.expect("kube-proxy's rules");
    }
}

#[test]
fn connections_outlive_the_last_rule_that_tracked_them() {
    let _company = beside_others();
    for mode in [Mode::Legacy, Mode::IptablesNft, Mode::Nftables] {
        let scene = Scene::without_agent(Cni::Ptp, FastPath::Off).expect("build the scene");
        proxy(&scene, mode, 3);
        let pause = Duration::from_millis(20);
        let load = |family| {
            let target = scene.vip(family, &HTTP);
            Load::start(&scene.client, target, 5, Kind::LongLived { pause })
        };
        let loads = Family::BOTH.map(load);
        eventually("all loads flow", || loads.iter().all(|load| load.operations() > 20));
        let connections = scene.world.nodes[0].run(|| {
            let mut netfilter = Netfilter::open().expect("open").expect("netfilter");
            let found = conntrack::translated(&mut netfilter).expect("read");
            for family in [libc::AF_INET, libc::AF_INET6] {
                keeper::hold(&mut netfilter, family as u8).expect("hold");
            }
            takeover::remove().expect("remove");
            found
        });
        assert_eq!(connections.len(), 10, "{mode:?} {connections:?}");
        let before: Vec<u64> = loads.iter().map(Load::operations).collect();
        eventually("all loads go on", || {
            loads.iter().zip(&before).all(|(load, before)| load.operations() > before + 20)
        });
        loads.into_iter().for_each(|load| load.stop().expect_no_failure(&format!("{mode:?}")));
        scene.world.nodes[0].run(|| {
            let mut netfilter = Netfilter::open().expect("open").expect("netfilter");
            keeper::release(&mut netfilter).expect("release");
            assert!(keeper::held(&mut netfilter).expect("held").is_empty());
        });
    }
}

/// Packets that a table of nf_tables keeps connections alive by.
fn is_held(node: &NetNs) -> bool {
    kube_proxy::ruleset(node).expect("list").contains("pintle-take-over")
}

/// The programs let packets of unknown connections pass.
fn is_under_way(scene: &Scene) -> bool {
    let pins = Pins::new(scene.agent.bpf_root());
    View::open(pins).expect("open").settings().expect("read").take_over != 0
}

fn take_over_breaks_none_of_200_connections(cni: Cni, mode: Mode) {
    let _company = alone();
    let mut scene = Scene::without_agent(cni, FastPath::Auto).expect("build the scene");
    let node = (*scene.world.nodes[0]).clone();
    proxy(&scene, mode, 1000);
    let pause = Duration::from_millis(50);
    let (http, dns) = (|family| scene.vip(family, &HTTP), |family| scene.vip(family, &DNS));
    let outsider = scene.world.add_outsider().expect("a client outside");
    let clients: [(&str, &NetNs, u32); 3] =
        [("a pod", &scene.client, 60), ("the host", &node, 20), ("outside", &outsider, 20)];
    let mut loads = Vec::new();
    for (who, ns, connections) in clients {
        for family in Family::BOTH {
            let mut start = |what, target, workers, kind| {
                let what = format!("{what} {family:?} from {who}");
                loads.push((what, Load::start(ns, target, workers, kind)));
            };
            start("long-lived", http(family), connections, Kind::LongLived { pause });
            start("UDP", dns(family), 5, Kind::UdpSamePort { pause });
            start("short", http(family), 2, Kind::Short { per_second: 80 });
        }
    }
    eventually("all loads flow", || loads.iter().all(|(_, load)| load.operations() > 100));
    // Nobody's kube-proxy runs, so its rules are leftovers.
    scene.agent.start().expect("start");
    let left = node.run(|| takeover::leftovers().expect("look"));
    assert!(left.is_empty(), "{left} is left");
    assert!(is_held(&node));
    assert!(!is_under_way(&scene));
    let before: Vec<u64> = loads.iter().map(|(_, load)| load.operations()).collect();
    eventually("all loads go on", || {
        let mut pairs = loads.iter().zip(&before);
        pairs.all(|((_, load), before)| load.operations() > before + 100)
    });
    for (what, load) in loads {
        load.stop().expect_no_failure(&what);
    }
    // New connections are ours.
    let flows = scene.agent.counter("new flows").expect("the counter");
    for family in Family::BOTH {
        let target = scene.vip(family, &HTTP);
        scene.client.run(|| http_get(target)).expect("an answer");
    }
    assert_eq!(scene.agent.counter("new flows").expect("the counter"), flows + 2);
    scene.agent.stop().expect("stop");
    scene.agent.cleanup().expect("cleanup");
    assert!(!is_held(&node), "cleanup leaves nothing behind");
}

#[test]
fn no_connection_breaks_when_legacy_iptables_is_taken_over() {
    take_over_breaks_none_of_200_connections(Cni::Ptp, Mode::Legacy);
}

#[test]
fn no_connection_breaks_when_iptables_nft_is_taken_over() {
    take_over_breaks_none_of_200_connections(Cni::Bridge, Mode::IptablesNft);
}

#[test]
fn no_connection_breaks_when_nftables_mode_is_taken_over() {
    take_over_breaks_none_of_200_connections(Cni::Ptp, Mode::Nftables);
}

#[test]
fn a_port_that_a_kept_connection_had_may_dial_again() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    proxy(&scene, Mode::Nftables, 1);
    let target = scene.vip(Family::V4, &HTTP);
    let dial = || {
        let stream = connect_from(20_000, target).expect("connect");
        // It ends with a reset and leaves the port at once.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger");
        HttpConnection::over(stream).expect("prepare")
    };
    let mut kept = scene.client.run(dial);
    kept.get().expect("an answer through kube-proxy's rules");
    scene.agent.start().expect("start");
    kept.get().expect("an answer of the same connection");
    assert_eq!(scene.agent.counter("new flows").expect("the counter"), 0);
    drop(kept);
    for round in 1..=3 {
        scene.client.run(dial).get().expect("an answer to a new connection");
        assert_eq!(scene.agent.counter("new flows").expect("the counter"), round);
    }
}

#[test]
fn a_kept_udp_socket_leaves_a_backend_that_goes() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    proxy(&scene, Mode::Nftables, 1);
    let target = scene.vip(Family::V4, &DNS);
    let socket = scene.client.run(|| udp_socket(target)).expect("a socket");
    let ask = || udp_pod(&udp_ask_on(&socket, target, b"hello").expect("an answer"));
    let pod = ask();
    scene.agent.start().expect("start");
    assert_eq!(ask(), pod, "the kernel's translation goes on");
    let others = scene.backends.iter().filter(|backend| backend.pod.name != pod);
    let others = endpoints(others);
    scene.set_endpoints(&others);
    let moved = ask();
    assert_ne!(moved, pod);
    assert_eq!(ask(), moved);
}

#[test]
fn an_agent_that_dies_on_the_way_is_followed_by_one_that_goes_on() {
    let _company = alone();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    let node = (*scene.world.nodes[0]).clone();
    proxy(&scene, Mode::IptablesNft, 10);
    // kube-proxy's chains cannot go while this leads there.
    let rule = "add table ip nat\nadd chain ip nat MINE\n\
                add rule ip nat MINE ip daddr vmap { 192.0.2.1 : jump KUBE-POSTROUTING }\n";
    kube_proxy::nft(&node, rule).expect("a rule in the way");
    let target = scene.vip(Family::V4, &HTTP);
    let pause = Duration::from_millis(20);
    let load = Load::start(&scene.client, target, 20, Kind::LongLived { pause });
    eventually("the load flows", || load.operations() > 100);
    scene.agent.launch().expect("start");
    eventually("it cannot end", || scene.agent.log().contains("taking over from kube-proxy: "));
    let status = scene.agent.cli(&["status"]).expect("status");
    let text = String::from_utf8_lossy(&status.stdout);
    assert!(text.contains("PROBLEM    taking over from kube-proxy"), "{text}");
    assert!(is_under_way(&scene));
    scene.agent.kill().expect("kill -9");
    assert!(is_under_way(&scene));
    kube_proxy::nft(&node, "delete chain ip nat MINE\n").expect("out of the way");
    scene.agent.start().expect("start again");
    let left = node.run(|| takeover::leftovers().expect("look"));
    assert!(left.is_empty(), "{left} is left");
    let before = load.operations();
    eventually("the load goes on", || load.operations() > before + 100);
    load.stop().expect_no_failure("long-lived");
}

/// Answers every request in the node's network namespace, as a kube-proxy would.
fn answer_as_kube_proxy(node: &NetNs) {
    let listener = node.run(|| TcpListener::bind("127.0.0.1:10249")).expect("listen");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\niptables");
        }
    });
}

#[test]
fn beside_a_kube_proxy_that_answers_the_agent_does_not_start() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    let node = (*scene.world.nodes[0]).clone();
    proxy(&scene, Mode::Nftables, 1);
    answer_as_kube_proxy(&node);
    expect_refusal(&scene, "mode iptables at 127.0.0.1:10249");
    scene.agent.extra_args = vec!["--take-over=off".into()];
    expect_refusal(&scene, "mode iptables at 127.0.0.1:10249");
    scene.agent.extra_args = vec!["--take-over=force".into()];
    scene.agent.start().expect("start");
    let left = node.run(|| takeover::leftovers().expect("look"));
    assert!(left.are_live(), "rules in use are left alone");
}

#[test]
fn beside_a_kube_proxys_process_the_agent_does_not_start_and_others_do_not_count() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("kube-proxy");
    std::fs::copy("/bin/sleep", &program).expect("a program of that name");
    let run = |ns: &NetNs| {
        let mut command = ns.command(&program);
        command.arg("60").stdin(Stdio::null()).spawn().expect("run it")
    };
    let node = (*scene.world.nodes[0]).clone();
    let mut process = run(&node);
    expect_refusal(&scene, &format!("process {}", process.id()));
    process.kill().expect("kill");
    process.wait().expect("wait");
    let mut elsewhere = run(&NetNs::new().expect("another namespace"));
    let started = scene.agent.start();
    elsewhere.kill().expect("kill");
    elsewhere.wait().expect("wait");
    started.expect("start");
}

#[track_caller]
fn expect_refusal(scene: &Scene, sign: &str) {
    let output = scene.agent.fail_to_start().expect("run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    assert!(
        error.contains("kube-proxy is running on this node") && error.contains(sign),
        "{error}"
    );
    assert!(error.contains("hint:") && error.contains("--disable-kube-proxy"), "{error}");
    assert!(!scene.agent.bpf_root().exists(), "nothing was loaded");
}

#[test]
fn nothing_is_taken_over_for_a_source_without_services() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    let node = (*scene.world.nodes[0]).clone();
    proxy(&scene, Mode::Nftables, 1);
    let target = scene.vip(Family::V4, &HTTP);
    let manifests = scene.agent.manifests.path().to_owned();
    let aside = manifests.with_extension("aside");
    std::fs::create_dir(&aside).expect("another directory");
    // Pods stay: the source is one that has no services yet.
    for file in std::fs::read_dir(&manifests).expect("read") {
        let file = file.expect("a file");
        let name = file.file_name().to_string_lossy().into_owned();
        if name.ends_with("-service.yaml") || name.ends_with("-endpoints.yaml") {
            std::fs::rename(file.path(), aside.join(name)).expect("move it away");
        }
    }
    scene.agent.start().expect("start");
    assert!(node.run(|| takeover::leftovers().expect("look")).are_live());
    scene.client.run(|| http_get(target)).expect("an answer through kube-proxy's rules");
    for file in std::fs::read_dir(&aside).expect("read") {
        let file = file.expect("a file");
        std::fs::rename(file.path(), manifests.join(file.file_name())).expect("move it back");
    }
    eventually("it is taken over", || node.run(|| takeover::leftovers().expect("look")).is_empty());
    scene.agent.wait_ready().expect("ready");
    scene.client.run(|| http_get(target)).expect("an answer");
}

#[test]
fn leftovers_stay_where_the_operator_wants_it_so() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("build the scene");
    let node = (*scene.world.nodes[0]).clone();
    proxy(&scene, Mode::Nftables, 1);
    scene.agent.extra_args = vec!["--take-over=off".into()];
    scene.agent.start().expect("start");
    assert!(node.run(|| takeover::leftovers().expect("look")).are_live());
    scene.agent.stop().expect("stop");
    scene.agent.extra_args.clear();
    scene.agent.start().expect("start again");
    assert!(node.run(|| takeover::leftovers().expect("look")).is_empty());
}
