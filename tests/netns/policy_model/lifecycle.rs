// SPDX-License-Identifier: Apache-2.0
//! Policies while pods, namespaces, labels and the policies themselves come and go.

use std::time::Duration;

use pintle_lab::objects::PodObject;
use pintle_lab::server::Server;
use pintle_lab::topology::Family;
use pintle_tests::load::{Kind, Load};

use super::in_both_layouts;
use super::nine_pods::{NinePods, pairs, policy};
use super::probe::{Outcome, Protocol, ask_one, reaches_both};
use super::server::PORTS;
use crate::scene::eventually;

in_both_layouts!(
    labels_are_followed_under_traffic,
    policies_that_go_leave_nothing,
    the_address_of_a_pod_that_has_ended_is_no_peer,
    an_address_belongs_to_its_youngest_owner,
);

const FRIENDS: &str = "ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}, \
                       podSelector: {matchLabels: {role: client}}}]}]";

fn labels_are_followed_under_traffic(nine: &mut NinePods) {
    nine.check("nobody is a friend yet", &[policy("x/p", FRIENDS)], |cell| cell.dst_ns() != "x");
    nine.label("y/a", &[("pod", "a"), ("role", "client")]);
    nine.expect("only the pod's label", |cell| cell.dst_ns() != "x");
    nine.world.objects().put_namespace("y", &[("ns", "y"), ("team", "red")]).expect("write");
    nine.settle();
    let is_allowed = |friends: &'static [&str]| {
        move |cell: &super::nine_pods::Cell| cell.dst_ns() != "x" || friends.contains(&cell.from)
    };
    nine.expect("both labels", is_allowed(&["y/a"]));
    // What stays allowed is not touched by changes of others.
    let _server = Server::http(nine.pod("x/a"), 8080).expect("a server");
    let pause = Duration::from_millis(5);
    let loads = Family::BOTH.map(|family| {
        let target = nine.pod("x/a").addr(family, 8080);
        Load::start(nine.pod("y/a"), target, 4, Kind::LongLived { pause })
    });
    eventually("loads flow", || loads.iter().all(|load| load.operations() > 20));
    for _ in 0..3 {
        nine.label("y/b", &[("pod", "b"), ("role", "client")]);
        nine.world.objects().put_namespace("z", &[("ns", "z"), ("team", "red")]).expect("write");
        nine.label("z/c", &[("role", "client")]);
        nine.expect("three friends", is_allowed(&["y/a", "y/b", "z/c"]));
        nine.label("y/b", &[("pod", "b"), ("role", "server")]);
        nine.world.objects().put_namespace("z", &[("ns", "z"), ("team", "blue")]).expect("write");
        nine.settle();
        nine.expect("one friend", is_allowed(&["y/a"]));
    }
    for load in loads {
        load.stop().expect_no_failure("the friend's connections");
    }
    // The subject's labels count as much.
    let of_a = "podSelector: {matchLabels: {pod: a}}";
    nine.check("one subject", &[policy("x/p", of_a)], |cell| cell.to != "x/a");
    nine.label("x/a", &[("pod", "other")]);
    nine.label("x/b", &[("pod", "a")]);
    nine.expect("another subject", |cell| cell.to != "x/b");
}

fn policies_that_go_leave_nothing(nine: &mut NinePods) {
    let all = policy("x/all", "policyTypes: [Ingress, Egress]");
    let some = policy("x/some", "ingress: [{ports: [{port: 80}]}]");
    for _ in 0..2 {
        nine.check("both", &[all.clone(), some.clone()], |cell| {
            (cell.dst_ns() != "x" || cell.port == 80 && cell.tcp()) && cell.src_ns() != "x"
        });
        nine.check("one", std::slice::from_ref(&some), |cell| {
            cell.dst_ns() != "x" || cell.port == 80 && cell.tcp()
        });
        nine.check("none", &[], |_| true);
        nine.check("the other", std::slice::from_ref(&all), |cell| {
            cell.dst_ns() != "x" && cell.src_ns() != "x"
        });
        nine.world.objects().remove("policies.yaml").expect("remove");
        nine.settle();
        nine.expect("the file is gone", |_| true);
    }
}

/// All addresses of a pod.
fn ips(nine: &NinePods, name: &str) -> Vec<std::net::IpAddr> {
    Family::BOTH.map(|family| nine.pod(name).ip(family)).to_vec()
}

fn the_address_of_a_pod_that_has_ended_is_no_peer(nine: &mut NinePods) {
    let from_y = "ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]";
    nine.check("from y", &[policy("x/p", from_y)], |cell| {
        cell.dst_ns() != "x" || cell.src_ns() == "y"
    });
    for phase in ["Succeeded", "Failed"] {
        // Its network is still there, as that of a pod whose address has been given to another.
        let mut object = nine.pod("y/b").object.clone().expect("an object");
        object.phase = phase;
        nine.world.objects().put_pod(&object).expect("write the pod");
        nine.settle();
        // Nobody knows the address any more, so its interface is closed, too.
        nine.expect_also_of_hairpins(phase, |cell| {
            let is_own = cell.from == cell.to;
            cell.from != "y/b"
                && cell.to != "y/b"
                && (is_own || cell.dst_ns() != "x" || cell.src_ns() == "y")
        });
        object.phase = "Running";
        nine.world.objects().put_pod(&object).expect("write the pod");
        nine.settle();
        nine.expect("running", |cell| cell.dst_ns() != "x" || cell.src_ns() == "y");
    }
    let terminating = nine.pod("y/b").object.clone().expect("an object");
    let text = terminating.yaml().replace(
        "  creationTimestamp",
        "  deletionTimestamp: \"2026-01-01T00:10:00Z\"\n  creationTimestamp",
    );
    nine.world.objects().put(&terminating.file(), &text).expect("write the pod");
    nine.settle();
    nine.expect("who is ending is still there", |cell| {
        cell.dst_ns() != "x" || cell.src_ns() == "y"
    });
    nine.world.objects().remove(&terminating.file()).expect("remove the pod");
    nine.settle();
    let outcomes = Family::BOTH
        .map(|family| ask_one(nine.pod("y/b"), Protocol::Tcp, nine.pod("x/a").addr(family, 80)));
    assert_eq!(outcomes, [Outcome::Silence, Outcome::Silence], "a pod that nobody knows");
}

fn an_address_belongs_to_its_youngest_owner(nine: &mut NinePods) {
    let from_y = "ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]";
    nine.set_policies(&[policy("x/p", from_y)]);
    let reaches = |nine: &NinePods| {
        reaches_both(nine.pod("y/b"), |family| nine.pod("x/a").ip(family), &PORTS)
    };
    assert!(reaches(nine));
    // Another node's agent may hear of the new pod first: the old object is still there.
    let mut reused = PodObject::new("z", "reused", "node-2", &ips(nine, "y/b"));
    reused.labels = pairs(&[("pod", "b")]);
    reused.second = 30;
    nine.world.objects().put_pod(&reused).expect("write the pod");
    nine.settle();
    assert!(!reaches(nine), "the address is a pod's of z");
    nine.world.objects().remove(&reused.file()).expect("remove the pod");
    nine.settle();
    assert!(reaches(nine), "the address is y/b's again");
    // The old one has ended; its object stays, with the address.
    let mut old = nine.pod("y/b").object.clone().expect("an object");
    old.phase = "Succeeded";
    old.second = 40;
    nine.world.objects().put_pod(&old).expect("write the pod");
    nine.world.objects().put_pod(&reused).expect("write the pod");
    nine.settle();
    assert!(!reaches(nine), "who has ended is no owner, however young");
    let from_z = "ingress: [{from: [{namespaceSelector: {matchLabels: {ns: z}}}]}]";
    nine.set_policies(&[policy("x/p", from_z)]);
    assert!(reaches(nine), "the new owner's rights");
}
