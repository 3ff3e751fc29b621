// SPDX-License-Identifier: Apache-2.0
//! The machine's clock is set, a day ahead and a day back, while an agent reads from an API server over
//! TLS and serves: nothing is lost, forgotten, or kept for too long.
//!
//! It runs in the guests only, whose clock is nobody else's.

mod clock;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;
use pintle::model::time::rfc3339_nanos;
use pintle_lab::{
    agent::{Agent, FastPath},
    client::http_get_from,
    manifest::{Endpoint, Port, Service, slice_yaml},
    server::Server,
    topology::{Cni, Family, Pod, World},
};
use pintle_tests::{
    api_server::{ApiServer, Credentials, Embedding, Mirror},
    certificate::Authority,
    load::{Kind, Load},
};
use tempfile::TempDir;

use clock::{Clock, DAY};

const HTTP: Port = Port { name: "http", protocol: "TCP", port: 80, target: 8080 };
const DNS: Port = Port { name: "dns", protocol: "UDP", port: 80, target: 5353 };
/// So many ports that they do not all lead to the same pods twice by chance.
const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const FIRST: u16 = 8001;
/// Longer than anything takes on an interpreted machine, the waits of a watch included.
const PATIENCE: Duration = Duration::from_secs(90);
/// The longest time for an answer there.
const ANSWER: Duration = Duration::from_secs(10);
/// An affinity that ends in a test, and how long it is waited for.
const BRIEF: Duration = Duration::from_secs(10);
const METRICS: u16 = 10249;
const LATENCY: &str = "kubeproxy_network_programming_duration_seconds";

/// A node with an agent that reads over TLS, three pods that serve, and a client.
struct Scene {
    // Fields drop in this order: the agent ends before its node does.
    agent: Agent,
    server: Arc<ApiServer>,
    directory: TempDir,
    web: Service,
    client: Pod,
    backends: Vec<Pod>,
    _servers: Vec<Server>,
    world: World,
}

impl Scene {
    fn new() -> Result<Self> {
        let mut world = World::new(1, Cni::Ptp)?;
        let node = &mut world.nodes[0];
        let client = node.add_pod("client")?;
        let backends = (1..=3).map(|n| node.add_pod(&format!("web-{n}")));
        let backends = backends.collect::<Result<Vec<_>>>()?;
        let mut servers = Vec::new();
        for pod in &backends {
            servers.push(Server::http(pod, HTTP.target)?);
            servers.push(Server::udp_echo(pod, DNS.target)?);
        }
        let mut agent = Agent::new(node, FastPath::Auto)?;
        agent.extra_args = vec![format!("--metrics-bind-address=127.0.0.1:{METRICS}")];
        let directory = tempfile::tempdir()?;
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 6443);
        let server = Arc::new(ApiServer::start_in(node, address)?);
        let authority = Authority::new()?;
        server.present(&authority.server(address.ip())?, &authority)?;
        let credentials =
            Credentials { authority: &authority, client: None, embedding: Embedding::Data };
        let kubeconfig = server.write_protected_kubeconfig(directory.path(), &credentials)?;
        agent.manifests.mirror(Mirror::new(server.clone()))?;
        agent.read_from(&kubeconfig);
        let web = Service::dual_stack("web", 20, &[HTTP, DNS]);
        let mut scene =
            Self { agent, server, directory, web, client, backends, _servers: servers, world };
        scene.agent.manifests.service(&scene.web)?;
        scene.show_endpoints(2, None)?;
        for service in [sticky("lasting", 21, 3 * 3600), sticky("brief", 22, BRIEF.as_secs())] {
            scene.agent.manifests.service(&service)?;
            scene.agent.manifests.endpoints(&service, &scene.endpoints(3))?;
        }
        scene.agent.start()?;
        Ok(scene)
    }

    fn endpoints(&self, count: usize) -> Vec<Endpoint> {
        self.backends[..count].iter().map(Endpoint::ready).collect()
    }

    /// So many endpoints of `web`, since a time that is told with them.
    fn show_endpoints(&self, count: usize, since: Option<&Clock>) -> Result<()> {
        let endpoints = self.endpoints(count);
        let slices = Family::BOTH.map(|family| slice_yaml(&self.web, &endpoints, family));
        let mut text = slices.join("---\n");
        if let Some(clock) = since {
            let trigger = format!(
                "metadata:\n  annotations:\n    endpoints.kubernetes.io/last-change-trigger-time: \
                 \"{}\"\n",
                rfc3339_nanos(Some(clock.truth()))
            );
            text = text.replace("metadata:\n", &trigger);
        }
        self.agent.manifests.write(&format!("{}-endpoints.yaml", self.web.name), &text)
    }

    fn pod(&self, ip: IpAddr, port: u16) -> String {
        let target = SocketAddr::new(ip, port);
        self.client.run(|| http_get_from(0, target, ANSWER)).expect("an answer").pod
    }

    /// The pods behind the ports of a service with affinity.
    fn kept(&self, service: u8) -> BTreeMap<(bool, u16), String> {
        let service = sticky("", service, 1);
        let ports = (FIRST..).take(NAMES.len());
        let all = ports.flat_map(|port| Family::BOTH.map(|family| (family, port)));
        all.map(|(of, port)| ((of == Family::V4, port), self.pod(service.ip(of), port))).collect()
    }

    /// Changes the endpoints of `web`, and waits until pods find these and no others.
    fn change(&self, count: usize, clock: &Clock) {
        self.show_endpoints(count, Some(clock)).expect("write the slices");
        let all: BTreeSet<String> =
            self.backends[..count].iter().map(|it| it.name.clone()).collect();
        let found = |family| -> BTreeSet<String> {
            let ip = self.web.ip(family);
            (0..20).map(|_| self.pod(ip, HTTP.port)).collect()
        };
        eventually("the endpoints that were written", || {
            Family::BOTH.into_iter().all(|family| found(family) == all)
        });
    }

    /// Watches that fail, as `pintle status` tells it.
    fn failing_watches(&self) -> usize {
        let out = self.agent.cli(&["status", "-o", "json"]).expect("run it");
        let status: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let rejected = status["rejected"].as_array().into_iter().flatten();
        let objects = rejected.filter_map(|one| one["object"].as_str());
        objects.filter(|object| object.starts_with("Watch ")).count()
    }

    /// A sample of the latency of one family.
    fn latency(&self, sample: &str) -> f64 {
        let answer = self.world.nodes[0].run(|| -> std::io::Result<String> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, METRICS))?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        let answer = answer.expect("metrics");
        let start = format!("{LATENCY}_{sample}{{ip_family=\"IPv4\"}} ");
        let value = answer.lines().find_map(|line| line.strip_prefix(&start));
        value.unwrap_or("0").parse().expect("a number")
    }

    /// Only this token is good from now on, and all watches end.
    fn replace_token(&self, token: &str) {
        let directory: &Path = self.directory.path();
        self.server.accept_only(token);
        self.server.write_token(directory, token).expect("write the token");
        self.server.end_watches();
    }
}

/// A service with affinity on many ports.
fn sticky(name: &str, number: u8, seconds: u64) -> Service {
    let port = |(name, port)| Port { name, protocol: "TCP", port, target: HTTP.target };
    let ports: Vec<Port> = NAMES.into_iter().zip(FIRST..).map(port).collect();
    let mut service = Service::dual_stack(name, number, &ports);
    service.extra_spec = format!(
        "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}\n"
    );
    service
}

#[track_caller]
fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_clock_that_is_set_by_a_day_either_way_changes_nothing() {
    // In one test, because an interpreter takes long to load programs.
    let clock = Clock::new();
    let scene = Scene::new().expect("a scene");
    let kinds = [
        (HTTP, Kind::LongLived { pause: Duration::from_millis(500) }),
        (HTTP, Kind::Short { per_second: 2 }),
        (DNS, Kind::UdpNewPort { per_second: 2 }),
    ];
    let ways = Family::BOTH
        .into_iter()
        .flat_map(|family| kinds.each_ref().map(|(port, kind)| (family, port.port, *kind)));
    let loads: Vec<Load> = ways
        .map(|(family, port, kind)| {
            let target = SocketAddr::new(scene.web.ip(family), port);
            Load::patient(&scene.client, target, 1, kind, ANSWER)
        })
        .collect();
    eventually("all loads flow", || loads.iter().all(|load| load.operations() > 3));
    let lasting = scene.kept(21);

    for (shift, token) in [(DAY, "a-day-ahead"), (-DAY, "a-day-back")] {
        clock.show(shift);
        sleep(Duration::from_secs(2));
        assert_eq!(scene.failing_watches(), 0, "nobody notices");
        scene.change(3, &clock);
        assert_eq!(scene.kept(21), lasting, "an affinity of hours lasts");
        let brief = scene.kept(22);
        sleep(BRIEF + Duration::from_secs(5));
        assert_ne!(scene.kept(22), brief, "one of seconds does not");

        scene.server.cut_watches();
        scene.change(2, &clock);
        scene.replace_token(token);
        scene.change(3, &clock);
        eventually("no watch fails", || scene.failing_watches() == 0);
        let asked = scene.server.requests();
        assert_eq!(asked.last().and_then(|it| it.token.as_deref()), Some(token));
        scene.change(2, &clock);
    }
    clock.show(0);
    scene.change(3, &clock);
    for load in loads {
        load.stop().expect_no_failure("traffic meanwhile");
    }
    let (count, sum) = (scene.latency("count"), scene.latency("sum"));
    assert!(count >= 9.0 && sum / count < PATIENCE.as_secs_f64(), "{count} changes in {sum} s");
    let uptime = scene.agent.json(&["status"]).expect("status")["agent"]["uptime_seconds"].as_u64();
    assert!(uptime.is_some_and(|seconds| seconds < 3600), "{uptime:?}");
    assert!(!scene.agent.log().contains("panicked"), "{}", scene.agent.log());
}
