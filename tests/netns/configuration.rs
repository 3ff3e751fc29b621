// SPDX-License-Identifier: Apache-2.0
//! An agent that is given kube-proxy's configuration: what it answers, what it sets, when it ends.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use pintle_lab::agent::FastPath;
use pintle_lab::topology::Cni;
use tempfile::TempDir;

use crate::company::beside_others;
use crate::scene::Scene;

const CLOSE_WAIT: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";
const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
const NFTABLES: &str = "mode: nftables\nclusterCIDR: 10.244.0.0/16\noomScoreAdj: 500\n\
                        conntrack: {maxPerCore: 0, tcpCloseWaitTimeout: 47m}\n";

struct Configured {
    scene: Scene,
    file: PathBuf,
    _folder: TempDir,
}

/// A scene whose agent is to read a configuration, and has not started.
fn configured(body: &str) -> Configured {
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.conf");
    fs::write(&file, format!("{HEAD}{body}")).expect("write the configuration");
    let flag = format!("--config={}", file.display());
    scene.agent.extra_args = vec![flag, "--metrics-bind-address=127.0.0.1:10249".into()];
    Configured { scene, file, _folder: folder }
}

impl Configured {
    /// Asks the agent over TCP, on its node.
    fn get(&self, port: u16, path: &str) -> String {
        self.scene.world.nodes[0].run(|| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("ask");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            answer
        })
    }

    #[track_caller]
    fn expect(&self, port: u16, path: &str, words: &[&str]) {
        let answer = self.get(port, path);
        for word in words {
            assert!(answer.contains(word), "no {word} in {answer}");
        }
    }

    /// A sysctl of the node.
    fn sysctl(&self, path: &str) -> String {
        let read = || fs::read_to_string(path).expect("read a sysctl").trim().to_owned();
        self.scene.world.nodes[0].run(read)
    }
}

#[test]
fn an_agent_with_kube_proxy_s_configuration_answers_as_kube_proxy() {
    let _company = beside_others();
    let mut configured = configured(NFTABLES);
    configured.scene.agent.start().expect("start");
    let json = "content-type: application/json";
    let healthy = "\"healthy\":true,\"status\":{\"IPv4\":{\"lastUpdated\":\"";
    configured.expect(10256, "/healthz", &["200 OK", json, "\"nodeEligible\":true", healthy]);
    configured.expect(10256, "/livez", &["200 OK", json, healthy]);
    configured.expect(10249, "/healthz", &["200 OK", "\r\n\r\nok"]);
    configured.expect(10249, "/proxyMode", &["200 OK", "\r\n\r\nnftables"]);
    configured.expect(
        10249,
        "/configz",
        &["kubeproxy.config.k8s.io", "\"mode\":\"nftables\"", "\"clusterCIDR\":\"10.244.0.0/16\""],
    );
    configured.expect(
        10249,
        "/metrics",
        &[
            "text/plain; version=0.0.4",
            "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
            "kubeproxy_sync_proxy_rules_service_changes_pending 0",
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{\
             ip_family=\"IPv4\",traffic_policy=\"internal\"} 0",
            "pintle_programming_seconds_count",
        ],
    );
    assert_eq!(configured.sysctl(CLOSE_WAIT), "2820");
    let pid = configured.scene.agent.pid().expect("it runs");
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a score");
    assert_eq!(score.trim(), "500");
}

#[test]
fn a_change_of_the_configuration_ends_the_agent_and_nothing_else() {
    let _company = beside_others();
    let mut configured = configured(NFTABLES);
    configured.scene.agent.start().expect("start");
    fs::write(&configured.file, format!("{HEAD}mode: ipvs\n")).expect("write");
    let status = configured.scene.agent.wait_for_end().expect("it ends");
    assert_eq!(status.code(), Some(1));
    let log = configured.scene.agent.log();
    assert!(log.contains("error: the configuration file has changed"), "{log}");
    let services = configured.scene.agent.text(&["get", "services"]).expect("services");
    assert!(services.contains("10.96.0.10:80"), "{services}");
}

#[test]
fn a_setting_that_cannot_be_made_ends_the_start() {
    let _company = beside_others();
    // Only the first network namespace may set the limit.
    let configured = configured("conntrack: {maxPerCore: 12345, min: 0}\n");
    let output = configured.scene.agent.fail_to_start().expect("run");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("nf_conntrack_max to "), "{text}");
    assert!(!configured.scene.agent.bpf_root().exists(), "nothing is attached");
}

#[test]
fn without_a_configuration_the_node_s_settings_stay() {
    let _company = beside_others();
    let mut configured = configured(NFTABLES);
    let before = configured.sysctl(CLOSE_WAIT);
    configured.scene.agent.extra_args.remove(0);
    configured.scene.agent.start().expect("start");
    assert_eq!(configured.sysctl(CLOSE_WAIT), before);
    configured.expect(10249, "/proxyMode", &["\r\n\r\npintle"]);
}
