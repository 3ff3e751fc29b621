// SPDX-License-Identifier: Apache-2.0
//! The API server is away, floods, or forgets: traffic goes on all the time, and what holds in the end
//! is what the server has.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use pintle_lab::{
    agent::{Agent, FastPath},
    client::{DEADLINE, http_get, http_get_from, udp_ask, udp_pod},
    topology::{Cni, Family},
};
use pintle_tests::{
    api_server::Kind as ObjectKind,
    load::{Kind, Load},
};

use crate::{
    company::{alone, beside_others},
    exposed::{Exposed, From},
    policy_agent::reaches,
    scene::{Backend, DNS, HTTP, endpoints},
};

/// The longest time between two attempts of the agent, and some more.
pub const WAITS: Duration = Duration::from_secs(60);

/// How long the server is away. Longer than anything waits for it: an agent for an answer, or a
/// connection for a sign of life.
const OUTAGE: Duration = Duration::from_secs(150);

/// Half a minute may be between two attempts; the rest is for a busy machine.
const LONGEST_WAIT: Duration = Duration::from_secs(40);

/// Waits until `fact` holds, or panics after that time.
#[track_caller]
pub fn within(time: Duration, what: &str, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while !fact() {
        assert!(Instant::now() < end, "not within {time:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Kinds of connections and how many workers have such; and how long one may take.
type Kinds = ([(Kind, u32); 4], Duration);

const HEAVY: Kinds = (
    [
        (Kind::LongLived { pause: Duration::from_millis(50) }, 4),
        (Kind::Short { per_second: 60 }, 1),
        (Kind::UdpNewPort { per_second: 30 }, 1),
        (Kind::UdpSamePort { pause: Duration::from_millis(20) }, 1),
    ],
    DEADLINE,
);
/// What other tests can be beside.
const LIGHT: Kinds = (
    [
        (Kind::LongLived { pause: Duration::from_millis(500) }, 1),
        (Kind::Short { per_second: 5 }, 1),
        (Kind::UdpNewPort { per_second: 5 }, 1),
        (Kind::UdpSamePort { pause: Duration::from_millis(250) }, 1),
    ],
    PATIENCE,
);
/// How long an answer may take beside other tests.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections of every kind, from everywhere.
fn loads(scene: &Exposed, (kinds, patience): Kinds) -> Vec<(String, Load)> {
    let ways = From::ALL.into_iter().flat_map(|from| Family::BOTH.map(|family| (from, family)));
    let loads: Vec<_> = ways
        .flat_map(|way| kinds.map(|kind| (way, kind)))
        .map(|((from, family), (kind, workers))| {
            let name = format!("{from:?} {family:?} {kind:?}");
            (name, scene.patient_load((from, family), workers, kind, patience))
        })
        .collect();
    within(WAITS, "all loads flow", || loads.iter().all(|(_, load)| load.operations() > 10));
    loads
}

fn none_has_failed(loads: Vec<(String, Load)>) {
    let reports = loads.into_iter().map(|(name, load)| (name, load.stop()));
    let failed = reports.filter(|(_, report)| report.ok == 0 || report.failures() > 0);
    let failed: Vec<String> = failed.map(|(name, report)| format!("{name}: {report}")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Waits until the backend of this name, and nobody else, answers a pod at the ClusterIP of either family.
fn only_answers(scene: &Exposed, name: &str) {
    let all = |family| {
        let (ns, http) = scene.way(From::Pod, family, &HTTP);
        let (_, dns) = scene.way(From::Pod, family, &DNS);
        let asked =
            || (http_get(http).expect("an answer"), udp_ask(dns, b"who").expect("one, too"));
        (0..20).all(|_| {
            let (by_tcp, by_udp) = ns.run(asked);
            by_tcp.pod == name && udp_pod(&by_udp) == name
        })
    };
    within(WAITS, name, || Family::BOTH.into_iter().all(all));
}

/// Tells the server, past the agent's being told of it.
fn set_ready_unseen(scene: &Exposed, backends: &[usize]) {
    let chosen = endpoints(backends.iter().map(|index| &scene.backends[*index]));
    scene.agent.manifests.endpoints(&scene.web, &chosen).expect("write the slices");
}

/// Watches that fail, as `pintle status` tells it, whatever else it has to complain of.
pub fn failing_watches(agent: &Agent) -> usize {
    let out = agent.cli(&["status", "-o", "json"]).expect("run it");
    let status: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let rejected = status["rejected"].as_array().into_iter().flatten();
    let objects = rejected.filter_map(|one| one["object"].as_str());
    objects.filter(|object| object.starts_with("Watch ")).count()
}

/// Two pods that answer, and the policy that lets nobody into one of them.
fn vaults(scene: &mut Exposed) -> [Backend; 2] {
    let node = &mut scene.world.nodes[0];
    let vaults = ["vault-1", "vault-2"].map(|name| {
        let pod = node.add_pod(name).expect("a pod");
        let mut object = pod.object.clone().expect("an object");
        object.labels.insert("app".into(), name.into());
        node.objects().put_pod(&object).expect("write the pod");
        Backend::of(pod).expect("servers")
    });
    close(scene, "vault-2");
    scene.agent.settle().expect("settle");
    vaults
}

/// Nobody is let into this one, and everybody into the other.
fn close(scene: &Exposed, vault: &str) {
    let policy = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: close, namespace: \
         shop}}\nspec: {{podSelector: {{matchLabels: {{app: {vault}}}}}, policyTypes: [Ingress]}}\n"
    );
    scene.agent.manifests.write("close.yaml", &policy).expect("write the policy");
}

/// The pods behind the service, as a pod finds them.
fn pods(scene: &Exposed, family: Family) -> BTreeSet<String> {
    let (ns, http) = scene.way(From::Pod, family, &HTTP);
    let ask = || http_get_from(0, http, PATIENCE).expect("an answer").pod;
    ns.run(|| (0..40).map(|_| ask()).collect())
}

#[test]
fn traffic_goes_on_while_the_agent_dies_and_the_api_server_is_away_for_minutes() {
    let _company = beside_others();
    let (mut scene, server) = Exposed::at_an_api_server(Cni::Ptp, FastPath::Auto, "off");
    scene.set_ready(&[0, 2]);
    let vaults = vaults(&mut scene);
    let open = |scene: &Exposed| vaults.each_ref().map(|it| reaches(&scene.client, &it.pod));
    let loads = loads(&scene, LIGHT);
    let begin = Instant::now();
    server.go_away().expect("it goes away");
    let all = ObjectKind::ALL.len();
    within(WAITS, "the agent notices", || failing_watches(&scene.agent) == all);
    set_ready_unseen(&scene, &[0, 1, 2]);
    close(&scene, "vault-1");
    let as_before = |scene: &Exposed| {
        assert_eq!(open(scene), [true, false]);
        for family in Family::BOTH {
            assert_eq!(pods(scene, family), ["web-1", "web-3"].map(str::to_owned).into());
        }
    };
    while begin.elapsed() < OUTAGE / 2 {
        as_before(&scene);
        std::thread::sleep(Duration::from_secs(5));
    }
    scene.agent.kill().expect("kill the agent");
    std::thread::sleep(Duration::from_secs(5));
    as_before(&scene);
    // It starts, and leaves alone what it finds, for as long as nobody tells it anything.
    scene.agent.launch().expect("start the agent");
    within(WAITS, "the agent asks again", || failing_watches(&scene.agent) == all);
    while begin.elapsed() < OUTAGE {
        as_before(&scene);
        std::thread::sleep(Duration::from_secs(5));
    }
    server.compact();
    server.come_back().expect("it comes back");
    let back = Instant::now();
    scene.agent.wait_ready().expect("ready");
    within(LONGEST_WAIT, "no watch fails", || failing_watches(&scene.agent) == 0);
    assert!(back.elapsed() < LONGEST_WAIT, "{:?}", back.elapsed());
    assert_eq!(open(&scene), [false, true]);
    for family in Family::BOTH {
        assert_eq!(pods(&scene, family), ["web-1", "web-2", "web-3"].map(str::to_owned).into());
    }
    none_has_failed(loads);
}

#[test]
fn a_flood_of_changes_and_lost_watches_costs_no_connection_and_ends_right() {
    const ROUNDS: usize = 10;
    let _company = alone();
    let (mut scene, server) = Exposed::at_an_api_server(Cni::Ptp, FastPath::Auto, "off");
    let loads = loads(&scene, HEAVY);
    for round in 0..ROUNDS {
        server.put_yaml(&crowd(round)).expect("put 5,000 endpoints");
        match round % 3 {
            0 => server.cut_watches(),
            1 => server.end_watches(),
            _ => {
                server.compact();
                server.cut_watches();
            }
        }
        server.send_line(ObjectKind::EndpointSlice, "{ this is not JSON");
    }
    none_has_failed(loads);
    set_ready_unseen(&scene, &[2]);
    within(WAITS, "the last state", || {
        failing_watches(&scene.agent) == 0 && holds_crowd(&scene, ROUNDS - 1)
    });
    scene.agent.settle().expect("settle");
    only_answers(&scene, "web-3");
    assert_eq!(failing_watches(&scene.agent), 0);
}

#[test]
fn who_looks_at_a_service_that_is_left_out_finds_an_event() {
    let _company = beside_others();
    let (_scene, server) = Exposed::at_an_api_server(Cni::Ptp, FastPath::Auto, "off");
    let odd = "apiVersion: v1\nkind: Service\nmetadata: {name: odd, namespace: shop}\n\
         spec: {clusterIP: 10.96.0.77, ports: [{name: a, port: 80, protocol: PIGEON}]}\n";
    server.put_yaml(odd).expect("put it");
    within(WAITS, "an Event", || !server.events().is_empty());
    let events = server.events();
    let [event] = &events[..] else { panic!("{events:#?}") };
    assert_eq!(event["involvedObject"]["name"], "odd");
    assert_eq!(event["message"], "port 'a': protocol PIGEON is not supported");
    assert_eq!(event["reason"], "Rejected");
}

/// A service with 5,000 endpoints, other ones in each round.
fn crowd(round: usize) -> String {
    let mut text = "apiVersion: v1\nkind: Service\nmetadata: {name: crowd, namespace: shop}\n\
         spec: {clusterIP: 10.96.0.200, ports: [{name: http, port: 80}]}\n"
        .to_owned();
    for slice in 0..50 {
        let _ = write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: crowd-{slice}, \
             namespace: shop, labels: {{kubernetes.io/service-name: crowd}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints:\n"
        );
        for endpoint in 0..100 {
            let _ = writeln!(text, "- addresses: [10.{}.{slice}.{endpoint}]", 100 + round);
        }
    }
    text
}

/// Whether the maps hold all endpoints of a round, and of no other.
fn holds_crowd(scene: &Exposed, round: usize) -> bool {
    let names = scene.agent.text(&["get", "backends", "-o", "name"]).expect("backends");
    let of_crowd = |name: &&str| name.starts_with("10.1") && !name.starts_with("10.244.");
    let crowd: Vec<&str> = names.lines().filter(of_crowd).collect();
    let of_round = format!("10.{}.", 100 + round);
    crowd.len() == 5_000 && crowd.iter().all(|name| name.starts_with(&of_round))
}
