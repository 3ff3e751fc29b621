// SPDX-License-Identifier: Apache-2.0
//! The agent in the container of its DaemonSet: with its capabilities, its mounts and nothing else it
//! does all its work, and each capability is needed.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;

use anyhow::Context as _;
use pintle_lab::agent::FastPath;
use pintle_lab::cgroup::Cgroup;
use pintle_lab::kube_proxy::{self, Iptables, ServiceRules};
use pintle_lab::topology::{Cni, Family};
use pintle_tests::container::{Container, texts};
use pintle_tests::foreign::ForeignProgram;
use pintle_tests::kustomize::manifests;
use pintle_tests::load::{repeat, short_http};
use serde_json::Value;

use crate::company::beside_others;
use crate::scene::{DNS, HTTP, Scene, endpoints, eventually};
use crate::stale_sockets::{connected, is_closed, pod_of};

/// The cgroup hierarchy is mounted below this.
const HOST: &str = "/host";
const LOOPBACK: [&str; 2] =
    ["/proc/sys/net/ipv4/conf/lo/accept_local", "/proc/sys/net/ipv4/conf/lo/route_localnet"];

const CLOSE_WAIT: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";
const CONFIGURATION: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\
    kind: KubeProxyConfiguration\nconntrack: {maxPerCore: 0, tcpCloseWaitTimeout: 47m}\n";

/// The DaemonSet in a folder of manifests.
pub fn daemon_set(folder: &str) -> Value {
    let path = manifests().join(folder).join("daemon-set.yaml");
    let text = fs::read_to_string(path).expect("the DaemonSet");
    serde_yaml_ng::from_str(&text).expect("YAML")
}

/// A scene whose agent is ready to start in the container.
struct Contained {
    scene: Scene,
    cgroup: Cgroup,
}

impl Contained {
    fn new() -> Self {
        let cgroup = Cgroup::new().expect("a cgroup");
        let scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
        let mut contained = Self { scene, cgroup };
        let inside = Path::new(HOST).join(contained.cgroup.path().strip_prefix("/").expect("/"));
        contained.scene.agent.translate_sockets("host", &inside);
        let container = contained.container("base");
        contained.scene.agent.put_into(container);
        contained
    }

    /// The container of the DaemonSet in a folder of manifests.
    fn container(&self, folder: &str) -> Container {
        let folders = self.scene.agent.folders();
        let folders: Vec<&Path> = folders.iter().map(AsRef::as_ref).collect();
        Container::of(&daemon_set(folder), &folders).expect("a container")
    }

    fn without(mut self, capability: &str) -> Self {
        let container = self.container("base").without(capability);
        self.scene.agent.put_into(container);
        self
    }

    /// What it says when it cannot start.
    fn refusal(self) -> String {
        let output = self.scene.agent.fail_to_start().expect("run");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn leave_legacy_rules(&self) {
        let node = &self.scene.world.nodes[0];
        let rules = kube_proxy::iptables_mode(&ServiceRules::many(Family::V4, 3));
        Iptables::Legacy.restore(node, Family::V4, &rules).expect("kube-proxy's rules");
    }

    fn legacy_rules(&self) -> String {
        Iptables::Legacy.save(&self.scene.world.nodes[0], Family::V4).expect("save")
    }

    /// Connections of a pod and of the node's own sockets.
    fn serves(&self) {
        for family in Family::BOTH {
            let http = self.scene.vip(family, &HTTP);
            let work = || repeat(20, || short_http(http));
            self.scene.client.run(work).expect_no_failure("connections of a pod");
            self.on_node(work).expect_no_failure("connections of the node");
        }
    }

    fn on_node<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.cgroup.run(|| self.scene.world.nodes[0].run(work))
    }

    fn slow(&self) -> Option<String> {
        let status = self.scene.agent.json(&["status"]).expect("status");
        let interfaces = status["programs"]["interfaces"].as_array().expect("interfaces");
        let name = self.scene.client.host_device.as_str();
        let own = interfaces.iter().find(|found| found["name"] == name);
        own.expect("the client's device")["slow"].as_str().map(str::to_owned)
    }
}

#[test]
fn the_agent_needs_no_more_than_its_container_has() {
    let _company = beside_others();
    let mut contained = Contained::new();
    contained.scene.agent.start().expect("start");
    contained.serves();
    assert!(contained.scene.agent.counter("redirected").expect("counters") > 0);
    assert!(contained.scene.agent.counter_at("connect", "new flows").expect("counters") > 0);
    let read = |path: &str| contained.scene.world.nodes[0].run(|| fs::read_to_string(path));
    for setting in LOOPBACK {
        assert_eq!(read(setting).expect("a setting").trim(), "1", "{setting}");
    }
    for what in [&["services"][..], &["flows"], &["maps"], &["pods"], &["drops"]] {
        contained.scene.agent.text(&[&["get"], what].concat()).expect("the command line");
    }

    // An agent of a later pod puts its programs in the place of these.
    contained.scene.agent.kill().expect("kill");
    contained.serves();
    contained.scene.agent.start().expect("start again");
    contained.serves();
    eventually("its own programs are no strangers", || contained.slow().is_none());

    contained.scene.agent.stop().expect("stop");
    let cleanup = contained.container("cleanup");
    contained.scene.agent.put_into(cleanup);
    contained.scene.agent.cleanup().expect("cleanup");
    let read = |path: &str| contained.scene.world.nodes[0].run(|| fs::read_to_string(path));
    for setting in LOOPBACK {
        assert_eq!(read(setting).expect("a setting").trim(), "0", "{setting}");
    }
}

#[test]
fn programs_of_others_are_noticed_in_the_container() {
    let _company = beside_others();
    let mut contained = Contained::new();
    contained.scene.agent.start().expect("start");
    eventually("nobody else is there", || contained.slow().is_none());
    let node = &contained.scene.world.nodes[0];
    let device = &contained.scene.client.host_device;
    let stranger = ForeignProgram::attach(node, device, true).expect("attach");
    let is_noticed = || contained.slow().is_some_and(|reason| reason.ends_with("on egress"));
    eventually("it is noticed", is_noticed);
    drop(stranger);
    eventually("it is gone", || contained.slow().is_none());
}

#[test]
fn sockets_are_closed_in_the_container_whenever_a_backend_goes() {
    let _company = beside_others();
    let mut contained = Contained::new();
    contained.scene.agent.start().expect("start");
    let dns = contained.scene.vip(Family::V4, &DNS);
    // More than once: the thread that does it must not end after the first time.
    for _ in 0..2 {
        let sockets: Vec<UdpSocket> =
            contained.on_node(|| (0..20).map(|_| connected(dns)).collect());
        let pods: Vec<String> = sockets.iter().map(pod_of).collect();
        assert!(pods.iter().any(|pod| pod == "web-1"), "{pods:?}");
        let left = endpoints(&contained.scene.backends[1..]);
        contained.scene.set_endpoints(&left);
        for (socket, _) in sockets.iter().zip(&pods).filter(|(_, pod)| *pod == "web-1") {
            eventually("the socket is closed", || is_closed(socket));
        }
        let all = endpoints(&contained.scene.backends);
        contained.scene.set_endpoints(&all);
    }
}

#[test]
fn settings_of_a_kube_proxy_configuration_are_made_in_the_container() {
    let _company = beside_others();
    let mut contained = Contained::new();
    let folder = contained.scene.agent.run_dir();
    let file = folder.parent().expect("a folder").join("config.conf");
    fs::write(&file, CONFIGURATION).expect("write the configuration");
    contained.scene.agent.extra_args.push(format!("--config={}", file.display()));
    contained.scene.agent.start().expect("start");
    let setting = contained.scene.world.nodes[0].run(|| fs::read_to_string(CLOSE_WAIT));
    assert_eq!(setting.expect("a setting").trim(), "2820");
}

#[test]
fn what_kube_proxy_left_goes_in_the_container() {
    let _company = beside_others();
    let mut contained = Contained::new();
    contained.leave_legacy_rules();
    contained.scene.agent.start().expect("start");
    eventually("the rules are gone", || !contained.legacy_rules().contains("KUBE-SVC"));
    contained.serves();
}

#[test]
fn without_a_capability_it_fails_at_what_that_is_for() {
    let _company = beside_others();
    let listed = texts(
        &daemon_set("base")["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]
            ["add"],
    );
    assert_eq!(listed, ["BPF", "PERFMON", "NET_ADMIN", "NET_RAW"], "each is tried below");
    let refused = |capability: &str, words: &str| {
        let said = Contained::new().without(capability).refusal();
        assert!(said.contains(words), "without {capability}: {said}");
    };
    refused("BPF", "failed to create map");
    refused("PERFMON", "pointer arithmetic with it prohibited");
    refused("NET_ADMIN", "load the program");

    let mut contained = Contained::new().without("NET_RAW");
    contained.leave_legacy_rules();
    contained.scene.agent.start().context("start without NET_RAW").expect("start");
    contained.serves();
    let log = contained.scene.agent.log();
    assert!(log.contains("look for what kube-proxy has left"), "{log}");
    assert!(contained.legacy_rules().contains("KUBE-SVC"), "they stay");
}
