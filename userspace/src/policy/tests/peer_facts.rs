// SPDX-License-Identifier: Apache-2.0
//! Whose an address is: nodes, pods in a node's network, pods that ended, addresses used again,
//! pods that talk to themselves.

use super::scene::Scene;
use crate::{
    model::name::{Kind, ObjectName},
    source::convert::DocumentKind,
};

const FROM_PODS: &str = "ingress: [{from: [{namespaceSelector: {}}]}]";

fn scene(policies: &[(&str, &str)]) -> Scene {
    let mut scene = Scene::new();
    for (name, spec) in policies {
        scene.network(name, spec);
    }
    scene
}

#[test]
fn a_pod_in_a_node_s_network_counts_as_the_node() {
    let mut scene = scene(&[("x/p", FROM_PODS)]);
    scene.pod("far/host", "app: a", "172.18.0.3", "", "hostNetwork: true");
    scene.expect("172.18.0.3 > x/a !tcp/80");
    scene.network("x/q", "ingress: [{from: [{ipBlock: {cidr: 172.18.0.3/32}}]}]");
    scene.expect("172.18.0.3 > x/a tcp/80\n 172.18.0.2 > x/a !tcp/80");
}

#[test]
fn a_pod_in_a_node_s_network_is_no_subject() {
    let mut scene = scene(&[("x/p", "podSelector: {}")]);
    scene.pod("x/host", "app: a", "172.18.0.2", "", "hostNetwork: true");
    let name = ObjectName::namespaced("x", "host");
    assert!(!scene.tables.endpoints.contains_key(&name));
}

#[test]
fn a_node_is_a_peer_by_address_alone() {
    let scene = scene(&[("x/p", "ingress: [{from: [{ipBlock: {cidr: 172.18.0.0/30}}]}]")]);
    scene.expect("172.18.0.2 > x/a tcp/80\n 172.18.0.3 > x/a tcp/80\n 172.18.0.4 > x/a !tcp/80");
}

#[test]
fn egress_to_the_own_node_is_judged() {
    let scene = scene(&[("x/p", "policyTypes: [Egress]")]);
    scene.expect("x/a > 172.18.0.2 !tcp/10250");
}

#[test]
fn a_pod_that_ended_is_no_peer_and_no_subject_at_once() {
    for phase in ["Succeeded", "Failed"] {
        let mut scene = scene(&[("x/p", FROM_PODS)]);
        scene.expect("y/a > x/a tcp/80");
        assert!(scene.pod("y/a", "app: a", "10.0.1.3 fd00:1::3", "", phase).narrows, "{phase}");
        scene.expect("10.0.1.3 > x/a !tcp/80\n fd00:1::3 > x/a@6 !tcp/80");
        let name = ObjectName::namespaced("y", "a");
        assert!(!scene.tables.endpoints.contains_key(&name));
    }
}

#[test]
fn a_pod_that_terminates_stays_a_peer_until_it_is_gone() {
    let mut scene = scene(&[("x/p", FROM_PODS)]);
    scene.put(
        DocumentKind::Pod,
        "metadata: {name: a, namespace: y, deletionTimestamp: '2026-01-01T00:00:00Z'}\n\
         spec: {nodeName: here, containers: []}\n\
         status: {phase: Running, podIPs: [{ip: 10.0.1.3}]}",
    );
    scene.expect("y/a > x/a tcp/80");
    scene.delete(Kind::Pod, "y/a");
    scene.expect("10.0.1.3 > x/a !tcp/80");
}

fn created(scene: &mut Scene, name: &str, labels: &str, created: u32, rest: &str) {
    let (namespace, short) = name.split_once('/').unwrap();
    scene.put(
        DocumentKind::Pod,
        &format!(
            "metadata: {{name: {short}, namespace: {namespace}, labels: {{{labels}}}, \
             creationTimestamp: '2026-01-01T00:00:0{created}Z', {rest}}}\n\
             spec: {{nodeName: here, containers: []}}\n\
             status: {{phase: Running, podIPs: [{{ip: 10.0.1.50}}]}}"
        ),
    );
}

#[test]
fn the_newest_pod_has_an_address_that_several_claim() {
    let policy = "ingress: [{from: [{podSelector: {matchLabels: {app: new}}}]}]";
    for order in [[0, 1], [1, 0]] {
        let mut scene = scene(&[("x/p", policy)]);
        let pods = [("x/old", "app: old", 1), ("x/new", "app: new", 2)];
        for (name, labels, at) in order.map(|index| pods[index]) {
            created(&mut scene, name, labels, at, "");
        }
        scene.expect("10.0.1.50 > x/a tcp/80");
        let old = ObjectName::namespaced("x", "old");
        assert!(!scene.tables.endpoints.contains_key(&old), "it has no address of its own");
        // The news of the old pod's end comes late and changes nothing.
        scene.delete(Kind::Pod, "x/old");
        scene.expect("10.0.1.50 > x/a tcp/80");
    }
}

#[test]
fn a_pod_that_terminates_gives_way_to_an_older_one() {
    let mut scene =
        scene(&[("x/p", "ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]")]);
    created(&mut scene, "x/d", "app: b", 1, "");
    created(&mut scene, "x/c", "app: c", 2, "deletionTimestamp: '2026-01-01T00:00:09Z'");
    scene.expect("10.0.1.50 > x/a tcp/80");
}

#[test]
fn an_address_of_a_node_is_not_a_pod_s() {
    let mut scene = scene(&[("x/p", FROM_PODS)]);
    scene.pod("far/odd", "app: a", "172.18.0.3", "", "");
    scene.expect("172.18.0.3 > x/a !tcp/80");
}

#[test]
fn an_unknown_address_for_pods_matches_no_selector_but_blocks() {
    let mut scene = scene(&[("x/p", FROM_PODS)]);
    scene.expect("10.0.1.99 > x/a !tcp/80");
    scene.network("x/p", "ingress: [{from: [{ipBlock: {cidr: 10.0.1.64/26}}]}]");
    scene.expect("10.0.1.99 > x/a tcp/80\n 10.0.1.98 > x/a tcp/80\n 10.0.1.1 > x/b !tcp/80");
}

#[test]
fn a_pod_that_comes_and_goes_takes_its_verdicts_along() {
    let mut scene = scene(&[("x/p", FROM_PODS)]);
    assert!(!scene.pod("far/b", "app: b", "10.0.2.7", "", "").narrows, "it was nobody's before");
    scene.expect("far/b > x/a tcp/80");
    assert!(scene.delete(Kind::Pod, "far/b").narrows);
    scene.expect("10.0.2.7 > x/a !tcp/80");
}

#[test]
fn network_policies_do_not_keep_a_pod_from_itself() {
    let scene = scene(&[("x/p", "policyTypes: [Ingress, Egress]")]);
    scene.expect("x/a > x/a tcp/80 icmp\n x/a@6 > x/a@6 udp/1\n x/a > x/b !tcp/80");
}

#[test]
fn both_families_of_a_pod_have_the_same_verdicts_by_selectors() {
    let policy = "ingress: [{from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 80}]}]";
    let scene = scene(&[("x/p", policy)]);
    scene.expect("x/b > x/a tcp/80 !tcp/81\n x/b@6 > x/a@6 tcp/80 !tcp/81\n y/a@6 > x/a@6 !tcp/80");
}

#[test]
fn what_has_no_ports_follows_portless_rules() {
    let policy = "ingress: [{from: [{podSelector: {}}]}, {ports: [{port: 80}, {protocol: UDP}]}]";
    let scene = scene(&[("x/p", policy)]);
    scene.expect("x/b > x/a icmp\n y/a > x/a !icmp tcp/80 udp/9");
}

#[test]
fn a_pod_of_a_namespace_that_we_were_not_told_of_has_its_name() {
    let by_name = "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: new}}";
    let mut scene = scene(&[("x/p", &format!("ingress: [{{from: [{{{by_name}}}]}}]"))]);
    scene.pod("new/a", "app: a", "10.0.1.60", "", "");
    scene.expect("new/a > x/a tcp/80");
}
