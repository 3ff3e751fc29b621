// SPDX-License-Identifier: Apache-2.0
//! Ordinary life: what is asked for, what is told of changes, and how much at once.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use pintle::model::name::Kind as ModelKind;
use pintle::source::kube::RESOURCES;
use pintle_tests::api_server::{Kind, Verb};

use super::{PATIENCE, QUIET, Scene, service};

/// Services as kube-proxy selects them (services.md 1.1): a label or a change of type is like a deletion.
#[test]
fn only_services_and_slices_that_kube_proxy_sees_are_told() {
    let slice = |label: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, \
             namespace: shop, labels: {{kubernetes.io/service-name: web{label}}}}}\n\
             addressType: IPv4\nports: [{{port: 80}}]\nendpoints: [{{addresses: [10.244.1.5]}}]\n"
        )
    };
    let labelled = |name: &str, ip: &str| {
        let label = "labels: {service.kubernetes.io/service-proxy-name: other}";
        service(name, ip).replace("metadata: {", &format!("metadata: {{{label}, "))
    };
    let scene = Scene::new();
    let headless = service("headless", "None");
    scene.put(&[service("web", "10.96.0.1"), labelled("other", "10.96.0.2"), headless].concat());
    scene.put(&slice(""));
    let mut listener = scene.synced();
    assert_eq!(listener.known.names(&ModelKind::Service), ["shop/web"]);
    scene.put(&labelled("web", "10.96.0.1"));
    listener.until(|known| known.names(&ModelKind::Service).is_empty());
    scene.put(&service("other", "10.96.0.2"));
    listener.until(|known| known.names(&ModelKind::Service) == ["shop/other"]);
    scene.put(&slice(", service.kubernetes.io/headless: ''"));
    listener.until(|known| known.names(&ModelKind::EndpointSlice).is_empty());
    scene.put(&slice(""));
    listener.until(|known| known.names(&ModelKind::EndpointSlice) == ["shop/web-1"]);
}

#[test]
fn without_policies_nobody_asks_for_pods_or_other_nodes() {
    let scene = Scene::new();
    let node =
        |name: &str| format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n");
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: web-1, namespace: shop}\n";
    scene.put(&[node("node-1"), node("node-2"), pod.into()].concat());
    let (mut listener, _) = scene.listen_for(false);
    listener.until(|known| known.is_synced);
    let known: Vec<String> = listener.known.objects.keys().map(ToString::to_string).collect();
    assert_eq!(known, ["Node node-1"]);
    let asked: BTreeSet<String> = scene
        .server
        .requests()
        .into_iter()
        .filter_map(|request| Some(request.attributes?.resource))
        .collect();
    let expected = ["endpointslices", "nodes", "servicecidrs", "services"];
    assert_eq!(asked.iter().collect::<Vec<_>>(), expected);
}

/// What the ClusterRole has to grant is what is asked for: nothing more, nothing less.
#[test]
fn the_resources_that_are_asked_for_are_those_of_the_list() {
    let scene = Scene::new();
    let _listener = scene.synced();
    let asked: BTreeSet<(String, String)> = scene
        .server
        .requests()
        .into_iter()
        .filter_map(|request| {
            let about = request.attributes?;
            assert!(matches!(about.verb, Verb::List | Verb::Watch), "{about:?}");
            Some((about.group, about.resource))
        })
        .collect();
    let listed =
        RESOURCES.iter().map(|resource| (resource.group.to_owned(), resource.plural.to_owned()));
    assert_eq!(asked, listed.collect());
}

#[test]
fn a_flood_of_endpoints_is_told_in_few_batches_and_ends_right() {
    const SLICES: usize = 50;
    const ROUNDS: usize = 20;
    let slice = |number: usize, round: usize| {
        let mut text = format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-{number}, \
             namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: {}}}]\nendpoints:\n",
            8000 + round
        );
        for endpoint in 0..100 {
            let _ = writeln!(text, "- addresses: [10.{}.{number}.{endpoint}]", 100 + round);
        }
        text
    };
    let scene = Scene::new();
    let mut listener = scene.synced();
    scene.server.wait_for_watch(Kind::EndpointSlice, PATIENCE).expect("a watch");
    for round in 0..ROUNDS {
        let all: String = (0..SLICES).map(|number| slice(number, round)).collect();
        scene.put(&all);
    }
    // Nobody has listened yet.
    let before = listener.deliveries;
    let late = Scene::new();
    late.put(&(0..SLICES).map(|number| slice(number, ROUNDS - 1)).collect::<String>());
    let expected = late.synced();
    listener.until(|known| *known == expected.known);
    let told = listener.deliveries - before;
    assert!(told < SLICES * ROUNDS / 2, "{told} batches for {} changes", SLICES * ROUNDS);
}

#[test]
fn a_kind_that_is_defined_later_is_picked_up() {
    const POLICY: &str = "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n\
        metadata: {name: deny}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}}\n";
    let scene = Scene::new();
    scene.server.withdraw(Kind::ClusterNetworkPolicy);
    scene.server.withdraw(Kind::ServiceCidr);
    let mut listener = scene.synced();
    assert_eq!(listener.known.failing_watches(), [""; 0]);
    scene.server.offer(Kind::ClusterNetworkPolicy);
    scene.put(POLICY);
    listener.until(|known| known.names(&ModelKind::ClusterNetworkPolicy) == ["deny"]);
    // Its objects are deleted with the definition, and it may come again.
    scene.server.withdraw(Kind::ClusterNetworkPolicy);
    listener.until(|known| known.names(&ModelKind::ClusterNetworkPolicy).is_empty());
    scene.server.offer(Kind::ClusterNetworkPolicy);
    scene.put(POLICY);
    listener.until(|known| known.names(&ModelKind::ClusterNetworkPolicy) == ["deny"]);
    assert_eq!(listener.known.failing_watches(), [""; 0]);
}

#[test]
fn a_source_that_nobody_listens_to_asks_for_nothing_more() {
    let scene = Scene::new();
    drop(scene.synced());
    std::thread::sleep(QUIET);
    let before = scene.server.requests().len();
    scene.put(&service("web", "10.96.0.1"));
    scene.server.cut_watches();
    std::thread::sleep(QUIET * 3);
    assert_eq!(scene.server.requests().len(), before);
}
