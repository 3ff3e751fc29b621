// SPDX-License-Identifier: Apache-2.0
//! Policies outlive the agent, are never open by accident when it comes back, and a policy that does
//! not fit in is refused visibly (P10).

use std::time::Duration;

use pintle_lab::agent::FastPath;
use pintle_lab::server::Server;
use pintle_lab::topology::{Cni, Family};
use pintle_tests::load::{Kind, Load};

use super::in_both_layouts;
use super::nine_pods::{Cell, NinePods, policy};
use super::probe::reaches_both;
use super::server::PORTS;
use crate::company::alone;
use crate::restart::die_and_return;
use crate::scene::eventually;

in_both_layouts!(policies_hold_without_an_agent, changes_while_no_agent_runs_are_caught_up_with);

const FROM_Y: &str = "ingress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]";
const HTTP: u16 = 8080;

fn from_y(cell: &Cell) -> bool {
    cell.dst_ns() != "x" || cell.src_ns() == "y"
}

fn policies_hold_without_an_agent(nine: &mut NinePods) {
    nine.check("from y", &[policy("x/p", FROM_Y)], from_y);
    nine.agents.iter_mut().for_each(|agent| agent.kill().expect("kill -9"));
    nine.expect("no agent runs", from_y);
    nine.agents.iter_mut().for_each(|agent| agent.start().expect("start"));
    nine.expect("they are back", from_y);
    nine.agents.iter_mut().for_each(|agent| agent.stop().expect("stop"));
    nine.expect("stopped", from_y);
    nine.agents.iter_mut().for_each(|agent| agent.start().expect("start"));
    nine.check("and still in charge", &[], |_| true);
}

fn changes_while_no_agent_runs_are_caught_up_with(nine: &mut NinePods) {
    nine.check("from y", &[policy("x/p", FROM_Y)], from_y);
    let from_z = FROM_Y.replace("ns: y", "ns: z");
    for round in 0..2 {
        nine.agents.iter_mut().for_each(|agent| agent.kill().expect("kill -9"));
        let changed = [policy("x/p", &from_z), policy("y/p", "policyTypes: [Egress]")];
        nine.world.objects().put("policies.yaml", &changed.join("---\n")).expect("write");
        nine.expect("the last state holds", from_y);
        nine.agents.iter_mut().for_each(|agent| agent.start().expect("start"));
        nine.expect(&format!("the new state holds, round {round}"), |cell| {
            (cell.dst_ns() != "x" || cell.src_ns() == "z") && cell.src_ns() != "y"
        });
        nine.check("from y again", &[policy("x/p", FROM_Y)], from_y);
    }
}

#[test]
fn nothing_that_is_allowed_fails_and_nothing_that_is_denied_passes_while_the_agent_dies_and_returns()
 {
    let _company = alone();
    let mut nine = NinePods::new(2, Cni::Ptp, FastPath::Auto);
    nine.set_policies(&[policy("x/p", FROM_Y)]);
    let server = Server::http(nine.pod("x/a"), HTTP).expect("a server");
    let target = nine.pod("x/a").addr(Family::V4, HTTP);
    let pause = Duration::from_millis(20);
    let allowed = [
        Load::start(nine.pod("y/a"), target, 20, Kind::LongLived { pause }),
        Load::start(nine.pod("y/a"), target, 2, Kind::Short { per_second: 200 }),
        Load::start(nine.pod("y/b"), target, 2, Kind::Short { per_second: 200 }),
    ];
    eventually("loads flow", || allowed.iter().all(|load| load.operations() > 20));
    let denied = [
        Load::start(nine.pod("z/a"), target, 50, Kind::Short { per_second: 50 }),
        Load::start(nine.pod("z/b"), target, 50, Kind::Short { per_second: 50 }),
    ];
    die_and_return(&mut nine.agents[0]);
    // Another ruleset and other classes than those that the maps hold.
    nine.agents[0].kill().expect("kill -9");
    let more = policy("x/q", "ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]");
    let both = [policy("x/p", FROM_Y), more].join("---\n");
    nine.world.objects().put("policies.yaml", &both).expect("write");
    nine.agents[0].start().expect("start");
    std::thread::sleep(Duration::from_millis(300));
    for load in allowed {
        load.stop().expect_no_failure("allowed");
    }
    for load in denied {
        let report = load.stop();
        assert!(report.ok == 0 && report.failures() > 0, "denied: {report}");
    }
    drop(server);
}

/// Ports with holes between them, each an entry of its own.
fn wide(ports: u32) -> String {
    let items: Vec<String> =
        (0..ports).map(|number| format!("{{port: {}}}", 1000 + 2 * number)).collect();
    let items = items.join(", ");
    format!("podSelector: {{matchLabels: {{pod: c}}}}, ingress: [{{ports: [{items}]}}]")
}

#[test]
fn a_policy_that_does_not_fit_in_closes_its_pods_and_no_others() {
    let _company = crate::company::beside_others();
    let mut nine = NinePods::without_agents(1, Cni::Ptp, FastPath::Auto).expect("nine pods");
    nine.agents[0].extra_args.extend(["--map-size=POLICY_PORTS=128".into()]);
    nine.agents[0].start().expect("start");
    nine.check("what fits in", &[policy("x/p", FROM_Y)], from_y);
    // The agent is not ready while something is refused, so there is nothing to settle.
    let both = [policy("x/p", FROM_Y), policy("y/wide", &wide(200))].join("---\n");
    nine.world.objects().put("policies.yaml", &both).expect("write the policies");
    let status = |nine: &NinePods| {
        let out = nine.agents[0].cli(&["status"]).expect("status");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    eventually("the status names who is closed", || status(&nine).contains("y/c"));
    nine.expect("closed: the pod of the policy, in its direction", |cell| {
        from_y(cell) && cell.to != "y/c"
    });
    let own = &nine.world.nodes[0];
    assert!(reaches_both(own, |family| nine.pod("y/c").ip(family), &PORTS), "its node");
    nine.check("it is gone", &[policy("x/p", FROM_Y)], from_y);
    nine.check("one that fits in", &[policy("x/p", FROM_Y), policy("y/wide", &wide(3))], |cell| {
        from_y(cell) && cell.to != "y/c"
    });
}
