// SPDX-License-Identifier: Apache-2.0
//! The agent as the DaemonSet starts it: no kubeconfig, in its container with a service account, over
//! TLS to the server that every pod is told of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pintle_lab::agent::FastPath;
use pintle_lab::client::http_get;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::api_server::{ApiServer, Kind as ObjectKind, Mirror, Record};
use pintle_tests::certificate::Authority;
use pintle_tests::container::Container;
use pintle_tests::load::{Kind, Load};
use pintle_tests::service_account::ServiceAccount;

use crate::api_server_away::{WAITS, failing_watches, within};
use crate::company::beside_others;
use crate::container::daemon_set;
use crate::scene::{HTTP, Scene, endpoints};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const PORT: u16 = 6443;
const FIRST: &str = "the-first-token";

/// A scene whose agent is ready to start in a container with a service account.
struct InCluster {
    scene: Scene,
    server: Arc<ApiServer>,
    authority: Authority,
    account: ServiceAccount,
}

impl InCluster {
    /// The server listens at this address and has the right certificate.
    fn at(address: IpAddr) -> Self {
        let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
        let authority = Authority::new().expect("an authority");
        let account = ServiceAccount::new(&authority, FIRST).expect("a service account");
        let place = SocketAddr::new(address, PORT);
        let server = Arc::new(ApiServer::start_in(&scene.world.nodes[0], place).expect("a server"));
        server.accept_only(FIRST);
        scene.agent.manifests.mirror(Mirror::new(server.clone())).expect("a mirror");
        scene.agent.read_as_pod(server.address());
        let folders = scene.agent.folders();
        let folders: Vec<&Path> = folders.iter().map(AsRef::as_ref).collect();
        let container = Container::of(&daemon_set("base"), &folders).expect("a container");
        let container = container.with_service_account(&account).expect("a mount");
        scene.agent.put_into(container);
        let cluster = Self { scene, server, authority, account };
        cluster.present(&cluster.authority);
        cluster
    }

    /// The server shows a certificate by this authority from its next connection on.
    fn present(&self, authority: &Authority) {
        let identity = authority.server(self.server.address().ip()).expect("a certificate");
        self.server.present(&identity, authority).expect("present it");
    }

    /// The one backend that is left answers.
    fn follows(&mut self, backend: usize) {
        let chosen = endpoints([&self.scene.backends[backend]]);
        let (agent, web) = (&self.scene.agent, &self.scene.web);
        agent.manifests.endpoints(web, &chosen).expect("write the slices");
        let name = format!("web-{}", backend + 1);
        let vips = Family::BOTH.map(|family| self.scene.vip(family, &HTTP));
        let answers = |vip: SocketAddr| {
            let pods = self.scene.client.run(|| (0..20).map(|_| http_get(vip)).collect::<Vec<_>>());
            pods.into_iter().all(|answer| answer.is_ok_and(|answer| answer.pod == name))
        };
        within(WAITS, &name, || vips.into_iter().all(answers));
    }

    /// Watches that are open now, and were asked for with this token.
    fn open_watches(&self, token: &str) -> usize {
        let is_one = |request: &&Record| request.is_open && request.token.as_deref() == Some(token);
        self.server.requests().iter().filter(is_one).count()
    }
}

fn follows_the_server_at(address: IpAddr) {
    let _company = beside_others();
    let mut cluster = InCluster::at(address);
    cluster.scene.agent.start().expect("start");
    assert!(cluster.server.url().starts_with("https://"));
    cluster.follows(1);
    cluster.follows(2);
    let status = cluster.scene.agent.json(&["status"]).expect("status");
    assert_eq!(status["rejected"], serde_json::json!([]));
    for request in cluster.server.requests() {
        assert_eq!(request.token.as_deref(), Some(FIRST), "{request:?}");
    }
}

#[test]
fn a_service_account_is_enough() {
    follows_the_server_at(V4);
}

#[test]
fn a_service_account_is_enough_where_the_server_has_an_ipv6_address() {
    follows_the_server_at(V6);
}

/// The first token is good for what it has opened, and for nothing more, while nothing changes. The
/// agent has read it at most a minute ago and would not look at the file by itself.
#[test]
fn a_token_that_is_replaced_and_expires_while_nothing_changes_costs_nothing() {
    const SECOND: &str = "the-second-token";
    let _company = beside_others();
    let mut cluster = InCluster::at(V4);
    cluster.scene.agent.start().expect("start");
    let kinds = ObjectKind::ALL.len();
    within(WAITS, "all watches are open", || cluster.open_watches(FIRST) == kinds);
    let vips = Family::BOTH.map(|family| cluster.scene.vip(family, &HTTP));
    let (kind, patience) = (Kind::Short { per_second: 5 }, Duration::from_secs(5));
    let loads = vips.map(|vip| Load::patient(&cluster.scene.client, vip, 1, kind, patience));

    cluster.account.replace(&cluster.authority, SECOND).expect("another token");
    cluster.server.accept_only(SECOND);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(cluster.open_watches(FIRST), kinds, "they go on until they end");
    cluster.server.end_watches();
    within(WAITS, "all watches are open again", || cluster.open_watches(SECOND) == kinds);
    within(WAITS, "none is said to fail", || failing_watches(&cluster.scene.agent) == 0);
    for load in loads {
        load.stop().expect_no_failure("connections meanwhile");
    }
    cluster.follows(2);
}

/// In the process itself, where the cryptography has to be chosen that tests might bring along.
#[test]
fn a_server_whose_certificate_another_authority_has_signed_is_refused_told_and_asked_again() {
    let _company = beside_others();
    let mut cluster = InCluster::at(V4);
    cluster.present(&Authority::new().expect("another authority"));
    cluster.scene.agent.launch().expect("start");
    let all = ObjectKind::ALL.len();
    within(WAITS, "the watches fail", || failing_watches(&cluster.scene.agent) == all);
    let status = cluster.scene.agent.cli(&["status"]).expect("status").stdout;
    let (status, log) = (String::from_utf8_lossy(&status), cluster.scene.agent.log());
    for text in [&*status, &*log] {
        assert!(text.contains("invalid peer certificate"), "{text}");
    }
    assert!(cluster.server.requests().is_empty(), "the token is told to nobody");
    cluster.present(&cluster.authority);
    let begin = Instant::now();
    cluster.scene.agent.wait_ready().expect("ready");
    assert!(begin.elapsed() < WAITS, "{:?}", begin.elapsed());
    cluster.follows(0);
}

/// The file is read once a minute; until then the server is as good as away.
#[test]
fn an_authority_that_is_replaced_is_believed() {
    const MINUTE: Duration = Duration::from_secs(60);
    let _company = beside_others();
    let mut cluster = InCluster::at(V4);
    cluster.scene.agent.start().expect("start");
    cluster.authority = Authority::new().expect("another authority");
    cluster.account.replace(&cluster.authority, FIRST).expect("another authority's certificate");
    cluster.present(&cluster.authority);
    cluster.server.cut_watches();
    let kinds = ObjectKind::ALL.len();
    within(MINUTE + WAITS, "all watches are open again", || cluster.open_watches(FIRST) == kinds);
    within(WAITS, "none is said to fail", || failing_watches(&cluster.scene.agent) == 0);
    cluster.follows(1);
}

#[test]
fn without_a_service_account_it_does_not_start_and_says_what_is_missing() {
    let _company = beside_others();
    let mut cluster = InCluster::at(V4);
    let folders = cluster.scene.agent.folders();
    let folders: Vec<&Path> = folders.iter().map(AsRef::as_ref).collect();
    let container = Container::of(&daemon_set("base"), &folders).expect("a container");
    cluster.scene.agent.put_into(container);
    let output = cluster.scene.agent.fail_to_start().expect("run");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    let words = "there is neither a kubeconfig (--kubeconfig) nor a pod's service account: ";
    assert!(said.contains(words), "{said}");
}
