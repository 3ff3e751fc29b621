// SPDX-License-Identifier: Apache-2.0
//! What operators see of policies: denied packets are named by tier, policy and rule, and what is
//! shown agrees with what happened to real packets.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::client::{http_get_from, udp_ask};
use pintle_lab::topology::{Cni, Family, Pod};
use serde_json::Value;

use crate::company::beside_others;
use crate::scene::{DNS, ECHO, HTTP, Scene, endpoints, eventually, in_two_layouts};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_millis(400);

const METRICS: &str = "127.0.0.1:10249";

/// A rule of the Admin tier against HTTP, and a NetworkPolicy that allows DNS alone.
const GUARD: &str = "\
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 10
  subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {role: web}}}}
  ingress:
  - {action: Pass, from: [{namespaces: {matchLabels: {team: none}}}]}
  - name: no-http
    action: Deny
    from: [{namespaces: {}}]
    protocols: [{tcp: {destinationPort: {number: 8080}}}]
";
const WEB: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {role: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {role: client}}}]
    ports: [{protocol: UDP, port: 5353}]
";
const AUDITED: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: draft, namespace: shop, annotations: {pintle.dev/audit: \"true\"}}
spec:
  podSelector: {matchLabels: {role: web}}
";

/// A scene whose service has one backend, with labels.
fn labelled(cni: Cni, fast_path: FastPath) -> Scene {
    let mut scene = Scene::new(cni, fast_path);
    prepare(&mut scene);
    scene
}

fn prepare(scene: &mut Scene) {
    scene.set_endpoints(&endpoints(&scene.backends[..1]));
    label(scene, &scene.client, "client");
    label(scene, &scene.backends[0].pod, "web");
}

fn label(scene: &Scene, pod: &Pod, role: &str) {
    let mut object = pod.object.clone().expect("a pod with an object");
    object.labels = BTreeMap::from([("role".to_owned(), role.to_owned())]);
    scene.world.nodes[0].objects().put_pod(&object).expect("write the pod");
}

fn apply(scene: &mut Scene, file: &str, text: &str) {
    scene.agent.manifests.write(file, text).expect("write the policy");
    scene.agent.settle().expect("settle");
}

fn connects(scene: &Scene, target: SocketAddr) -> bool {
    scene.client.run(|| http_get_from(0, target, PATIENCE)).is_ok()
}

fn rows(agent: &Agent, args: &[&str]) -> Vec<Value> {
    let rows = agent.json(args).expect("rows");
    rows.as_array().expect("a list").clone()
}

/// The one row that has these values.
#[track_caller]
fn only(rows: &[Value], wanted: &[(&str, &str)]) -> Value {
    let has = |row: &&Value| wanted.iter().all(|(key, value)| row[key] == *value);
    let found: Vec<_> = rows.iter().filter(has).collect();
    assert_eq!(found.len(), 1, "{wanted:?} in {rows:#?}");
    found[0].clone()
}

in_two_layouts!(a_denied_packet_is_named_by_tier_policy_and_rule);

fn a_denied_packet_is_named_by_tier_policy_and_rule(cni: Cni, fast_path: FastPath) {
    let mut scene = labelled(cni, fast_path);
    apply(&mut scene, "guard.yaml", GUARD);
    apply(&mut scene, "web.yaml", WEB);
    for family in Family::BOTH {
        assert!(!connects(&scene, scene.vip(family, &HTTP)), "{family:?}: the guard denies HTTP");
        assert!(!connects(&scene, scene.vip(family, &ECHO)), "{family:?}: nobody allows echo");
        let dns = scene.vip(family, &DNS);
        scene.client.run(|| udp_ask(dns, b"who")).expect("an answer that the policy allows");
        let backend = &scene.backends[0].pod;
        let found = rows(&scene.agent, &["get", "drops"]);
        let (client, server) = (scene.client.ip(family).to_string(), "shop/web-1");
        let guard = only(&found, &[("rule", "no-http")]);
        assert_eq!((&guard["tier"], &guard["policies"][0]), (&"Admin".into(), &"guard".into()));
        assert_eq!((&guard["pod"], &guard["direction"]), (&server.into(), &"ingress".into()));
        assert_eq!((&guard["last_proto"], &guard["last_port"]), (&"TCP".into(), &8080.into()));
        assert_eq!(guard["last_peer"]["name"], "shop/client");
        assert_eq!(guard["last_peer"]["ip"], *client, "{}", backend.name);
        assert_eq!(guard["verdict"], "denied");
        let silent = only(&found, &[("rule", "default-deny")]);
        assert_eq!(silent["policies"], serde_json::json!(["shop/web"]), "who isolates the pod");
        assert_eq!(
            (&silent["tier"], &silent["last_port"]),
            (&"NetworkPolicy".into(), &9000.into())
        );
    }
    agrees_with_the_counters(&scene.agent);
    policies_show_what_became_of_them(&scene.agent);
    flows_name_the_rule_that_allows_them(&scene);
    for words in ["policy=\"guard\"", "rule=\"no-http\"", "pod=\"shop/web-1\"", "shop/client"] {
        eventually("the log names the denial", || scene.agent.log().contains(words));
    }
}

/// Every packet that was dropped has a name, and no other one has.
fn agrees_with_the_counters(agent: &Agent) {
    // Retransmitted segments may come between the two.
    eventually("drops agree with the counters", || {
        let before = agent.counter("policy denied ingress").expect("a counter");
        let found = rows(agent, &["get", "drops"]);
        let named: u64 = found.iter().filter_map(|row| row["packets"].as_u64()).sum();
        let after = agent.counter("policy denied ingress").expect("a counter");
        before >= 4 && before == after && named == before
    });
}

fn policies_show_what_became_of_them(agent: &Agent) {
    let (policies, drops) = (rows(agent, &["get", "policies"]), rows(agent, &["get", "drops"]));
    let guard = only(&policies, &[("kind", "ClusterNetworkPolicy"), ("name", "guard")]);
    assert_eq!((&guard["tier"], &guard["priority"]), (&"Admin".into(), &10.into()));
    assert_eq!(
        (&guard["mode"], &guard["pod_names"][0]),
        (&"enforced".into(), &"shop/web-1".into())
    );
    assert!(guard["rows"].as_u64() > Some(0) && guard["rulesets"].as_u64() > Some(0), "{guard}");
    let denied = |rule: &str| only(&drops, &[("rule", rule)])["packets"].as_u64();
    assert!(guard["denied_packets"].as_u64() >= denied("no-http"), "{guard}");
    let web = only(&policies, &[("namespace", "shop"), ("name", "web")]);
    assert!(web["denied_packets"].as_u64() >= denied("default-deny"), "{web}");
    assert_eq!(web["would_deny_packets"], 0);
    // A question and its answer in each family.
    assert_eq!(
        (&web["allowed_connections"], &guard["allowed_connections"]),
        (&2.into(), &0.into())
    );
    let pods = rows(agent, &["get", "pods"]);
    let (server, client) =
        (only(&pods, &[("pod", "shop/web-1")]), only(&pods, &[("pod", "shop/client")]));
    assert_eq!((&server["state"], &server["policies"]), (&"programmed".into(), &2.into()));
    assert_eq!((&client["egress"], &client["ingress"]), (&"open".into(), &"open".into()));
    assert_ne!(server["ingress"], "open");
    assert!(server["interface"].as_str().is_some_and(|name| name.starts_with("veth")), "{server}");
}

fn flows_name_the_rule_that_allows_them(scene: &Scene) {
    let flows = rows(&scene.agent, &["get", "flows", "--proto", "udp"]);
    assert_eq!(flows.len(), 2, "one of each family: {flows:#?}");
    for flow in flows {
        assert_eq!(flow["ingress_rule"], "shop/web ingress[0]", "{flow}");
        assert_eq!(flow["egress_rule"], "no-policy", "{flow}");
    }
}

#[test]
fn an_audited_policy_says_what_it_would_deny_and_denies_nothing() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
    scene.agent.extra_args.push(format!("--metrics-bind-address={METRICS}"));
    scene.agent.start().expect("start");
    prepare(&mut scene);
    apply(&mut scene, "draft.yaml", AUDITED);
    for family in Family::BOTH {
        assert!(connects(&scene, scene.vip(family, &HTTP)), "{family:?}: it only says so");
        let server = scene.backends[0].pod.addr(family, HTTP.target);
        assert!(connects(&scene, server), "{family:?}: without service, too");
    }
    let row = only(&rows(&scene.agent, &["get", "drops"]), &[("verdict", "would-deny")]);
    assert_eq!((&row["rule"], &row["policies"][0]), (&"default-deny".into(), &"shop/draft".into()));
    assert_eq!((&row["pod"], &row["packets"]), (&"shop/web-1".into(), &4.into()));
    assert_eq!(scene.agent.counter("would drop").expect("a counter"), 4);
    let policy = only(&rows(&scene.agent, &["get", "policies"]), &[("name", "draft")]);
    assert_eq!((&policy["mode"], &policy["denied_packets"]), (&"audited".into(), &0.into()));
    assert_eq!(policy["would_deny_packets"], 4);
    eventually("the log names it", || scene.agent.log().contains("would-deny"));
    for line in [
        "pintle_policy_packets_total{direction=\"ingress\",verdict=\"would-deny\"} 4",
        "pintle_policy_packets_total{direction=\"ingress\",verdict=\"denied\"} 0",
        "pintle_policy_allowed_connections_total 4",
        "pintle_policies{kind=\"NetworkPolicy\"} 1",
        "pintle_policy_policed_pods 1",
        "pintle_policy_rulesets 1",
        "pintle_policy_capacity_exceeded 0",
        "pintle_policy_unwritten 0",
        "pintle_policy_programming_seconds_count ",
    ] {
        eventually(line, || metrics(&scene).lines().any(|found| found.starts_with(line)));
    }
}

fn metrics(scene: &Scene) -> String {
    scene.world.nodes[0].run(|| {
        let mut stream = TcpStream::connect(METRICS).expect("connect");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("ask");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    })
}

#[test]
fn a_node_that_audits_or_judges_nothing_says_so() {
    let _company = beside_others();
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
    scene.agent.extra_args = vec!["--policy-audit".into()];
    scene.agent.start().expect("start");
    prepare(&mut scene);
    apply(&mut scene, "guard.yaml", GUARD);
    assert!(connects(&scene, scene.vip(Family::V4, &HTTP)), "it only says so");
    let row = only(&rows(&scene.agent, &["get", "drops"]), &[("verdict", "would-deny")]);
    assert_eq!((&row["tier"], &row["rule"]), (&"Admin".into(), &"no-http".into()));
    let policy = only(&rows(&scene.agent, &["get", "policies"]), &[("name", "guard")]);
    assert_eq!(policy["mode"], "audited");
    let status = scene.agent.text(&["status"]).expect("status");
    assert!(status.contains("audited: none drops anything"), "{status}");

    scene.agent.kill().expect("kill");
    scene.agent.extra_args = vec!["--policy=off".into()];
    scene.agent.start().expect("start");
    assert!(connects(&scene, scene.vip(Family::V4, &HTTP)));
    let out = scene.agent.cli(&["get", "policies"]).expect("run");
    assert!(String::from_utf8_lossy(&out.stderr).contains("note: policies are off"), "{out:?}");
    let status = scene.agent.text(&["status"]).expect("status");
    assert!(status.contains("nothing is judged"), "{status}");
    let to = format!("shop/{}:http", scene.web.name);
    let trace = scene.agent.json(&["trace", "--from", "shop/client", "--to", &to]).expect("rows");
    assert_eq!(
        (&trace[0]["verdict"], &trace[0]["rule"]),
        (&"allowed".into(), &"policies-off".into())
    );
}

#[test]
fn a_trace_says_what_happens_to_packets() {
    let _company = beside_others();
    let mut scene = labelled(Cni::Ptp, FastPath::Auto);
    apply(&mut scene, "guard.yaml", GUARD);
    apply(&mut scene, "web.yaml", WEB);
    let agent = &scene.agent;
    let web = format!("shop/{}", scene.web.name);
    let trace = |to: &str, protocol: &str| {
        let args = ["trace", "--from", "shop/client", "--to", to, "--protocol", protocol];
        let found = rows(agent, &args);
        for row in found.iter().filter(|row| !row["direction"].is_null()) {
            assert_eq!(row["maps"], "agree", "{row}");
        }
        found
    };
    let denied = trace(&format!("{web}:http"), "tcp");
    assert_eq!(denied.len(), 4, "egress and ingress, in two families: {denied:#?}");
    for row in denied.iter().filter(|row| row["direction"] == "ingress") {
        assert_eq!((&row["verdict"], &row["rule"]), (&"denied".into(), &"no-http".into()));
        assert_eq!(row["server"]["pod"], "shop/web-1");
    }
    for row in trace(&format!("{web}:dns"), "udp") {
        assert_eq!(row["verdict"], "allowed", "{row}");
    }
    let ping = trace("shop/web-1", "icmp");
    let ping = only(&ping[..2], &[("direction", "ingress")]);
    assert_eq!((&ping["verdict"], &ping["rule"]), (&"denied".into(), &"default-deny".into()));
    let node = agent.json(&["trace", "--from", "node-1", "--to", "shop/web-1:8080"]).expect("rows");
    assert_eq!((&node[0]["verdict"], &node[0]["rule"]), (&"allowed".into(), &"own-node".into()));
    let code = |expect: &str| {
        let to = format!("{web}:http");
        let args = ["trace", "--from", "shop/client", "--to", &to, "--expect", expect];
        agent.cli(&args).expect("run").status.code()
    };
    assert_eq!((code("denied"), code("allowed")), (Some(0), Some(3)));
    let text = agent.text(&["status"]).expect("status");
    let line = text.lines().find(|line| line.starts_with("POLICIES")).expect("a line");
    assert!(line.contains("1 pods policed") && line.contains("epoch"), "{line}");
}

#[test]
fn names_hold_when_the_agent_starts_again_and_as_long_as_it_runs_when_policies_go() {
    let _company = beside_others();
    let mut scene = labelled(Cni::Ptp, FastPath::Auto);
    apply(&mut scene, "guard.yaml", GUARD);
    assert!(!connects(&scene, scene.vip(Family::V4, &HTTP)));
    let rule = |scene: &Scene| {
        let found = rows(&scene.agent, &["get", "drops"]);
        only(&found, &[("pod", "shop/web-1")])["rule"].clone()
    };
    assert_eq!(rule(&scene), "no-http");
    scene.agent.kill().expect("kill");
    scene.agent.start().expect("start");
    assert_eq!(rule(&scene), "no-http", "the numbers are made of content");
    scene.agent.manifests.remove("guard.yaml").expect("remove");
    scene.agent.settle().expect("settle");
    assert!(connects(&scene, scene.vip(Family::V4, &HTTP)), "nothing is policed any more");
    assert_eq!(rule(&scene), "no-http", "it was that when it was denied");
    scene.agent.kill().expect("kill");
    scene.agent.start().expect("start");
    assert_eq!(rule(&scene), "changed-since", "nobody knows any more");
}

#[test]
fn what_a_policy_allowed_stays_its_own_when_another_one_changes() {
    let _company = beside_others();
    let mut scene = labelled(Cni::Ptp, FastPath::Auto);
    apply(&mut scene, "guard.yaml", GUARD);
    apply(&mut scene, "web.yaml", WEB);
    let allowed = |scene: &Scene| {
        let found = rows(&scene.agent, &["get", "policies"]);
        only(&found, &[("name", "web")])["allowed_connections"].clone()
    };
    let ask = |scene: &Scene| {
        let dns = scene.vip(Family::V4, &DNS);
        scene.client.run(|| udp_ask(dns, b"who")).expect("an answer");
    };
    ask(&scene);
    assert_eq!(allowed(&scene), 1);
    // The pod has another ruleset from now on.
    scene.agent.manifests.remove("guard.yaml").expect("remove");
    scene.agent.settle().expect("settle");
    assert_eq!(allowed(&scene), 1);
    ask(&scene);
    assert_eq!(allowed(&scene), 2);
}

#[test]
fn a_pod_whose_policies_the_compiler_cannot_place_is_closed_and_says_why() {
    let _company = beside_others();
    for rows_there in [1, 2] {
        closed_for_want_of_room(rows_there);
    }
}

fn closed_for_want_of_room(rows_there: usize) {
    let mut scene = Scene::without_agent(Cni::Ptp, FastPath::Auto).expect("a scene");
    scene.agent.extra_args = vec![format!("--map-size=POLICY_ROWS={rows_there}")];
    scene.agent.extra_args.push(format!("--metrics-bind-address={METRICS}"));
    scene.agent.start().expect("start");
    prepare(&mut scene);
    assert!(connects(&scene, scene.vip(Family::V4, &HTTP)), "no policy yet");
    scene.agent.manifests.write("web.yaml", WEB).expect("write");
    let room = format!("room for {rows_there}");
    eventually("status tells", || {
        let out = scene.agent.cli(&["status"]).expect("run");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let mut problems = text.lines().filter(|line| line.starts_with("PROBLEM"));
        let names =
            |line: &str| ["Pod shop/web-1", "closed", &room].iter().all(|w| line.contains(w));
        out.status.code() == Some(3) && problems.any(names)
    });
    assert!(!connects(&scene, scene.vip(Family::V4, &HTTP)), "closed, and not open");
    let row = only(&rows(&scene.agent, &["get", "drops"]), &[("verdict", "closed")]);
    assert_eq!((&row["pod"], &row["rule"]), (&"shop/web-1".into(), &"closed".into()));
    let pod = only(&rows(&scene.agent, &["get", "pods"]), &[("pod", "shop/web-1")]);
    assert_eq!((&pod["state"], &pod["ingress"]), (&"closed".into(), &"closed".into()));
    assert!(pod["problem"].as_str().is_some_and(|text| text.contains(&room)), "{pod}");
    let to = scene.backends[0].pod.addr(Family::V4, HTTP.target).to_string();
    let trace = rows(&scene.agent, &["trace", "--from", "shop/client", "--to", &to]);
    let ingress = only(&trace, &[("direction", "ingress")]);
    assert_eq!((&ingress["verdict"], &ingress["rule"]), (&"denied".into(), &"closed".into()));
    assert_eq!(ingress["maps"], "agree");
    let line = "pintle_policy_capacity_exceeded 1";
    assert!(metrics(&scene).lines().any(|found| found == line), "{}", metrics(&scene));
}
