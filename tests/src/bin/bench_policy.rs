// SPDX-License-Identifier: Apache-2.0
//! Measures network policy in a large cluster: start, changes, memory.
//!
//! With the real agent, real maps and 110 pods that have real interfaces; and of the compiler alone,
//! what it does with clusters of other shapes. The time of a change runs from the moment the agent's
//! source learns of a file's new content to the end of the last map write, on the agent's own clock.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use clap::Parser;
use pintle::model::{event::Event, policy::Enforcement};
use pintle::policy::{Options, Planner, Room};
use pintle::source::convert::Converter;
use pintle_abi::map::{MapSpec, PEER_RANGES_V4, PEERS_V4, POLICY_PORTS, POLICY_ROWS};
use pintle_bench::figures::{Table, Unit};
use pintle_bench::progress::tell;
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::self_report::{
    LOG_ARGS, figure, map_memory, process_memory, programming_times, since,
};
use pintle_lab::topology::{Cni, Pod, World};
use pintle_tests::policed_cluster::{PolicedCluster, Shape, Version, event};
use serde_json::Value;

/// How long a change may take to be programmed before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the agent gives up later is gone after this time, so that each change meets the same maps.
const PAUSE: Duration = Duration::from_secs(3);
/// What a policy change may take, in microseconds.
const POLICY: Option<f64> = Some(20_000.0);
/// What a pod may take.
const POD: Option<f64> = Some(1_000.0);

/// Measures network policy in a large cluster: start, changes, memory.
#[derive(Parser)]
struct Arguments {
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// A tenth of the changes; the pods and policies are as many.
    #[arg(long)]
    quick: bool,
    /// Only the compiler: no agent, no maps, no privileges.
    #[arg(long)]
    compiler: bool,
}

fn main() -> Result<()> {
    run(&Arguments::parse())
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut table = Table::default();
    if !arguments.compiler {
        tell("making 110 pods");
        let mut world = World::new(1, Cni::Ptp)?;
        let name = world.nodes[0].name.clone();
        let typical = PolicedCluster::new(Shape::Typical, &name);
        let pods: Result<Vec<Pod>> = (0..typical.pods_of_a_node)
            .map(|pod| world.nodes[0].wire_pod(&format!("pod-{pod}")))
            .collect();
        let _pods = pods?;
        let counts = if arguments.quick {
            Counts { pods: 20, policies: 2 }
        } else {
            Counts { pods: 200, policies: 5 }
        };
        measure_typical(&world, typical, counts, &mut table)?;
        let big = PolicedCluster::new(Shape::BigNamespaces, &name);
        measure_big(&world, big, counts, &mut table)?;
    }
    for shape in Shape::ALL {
        tell(&format!("compiling: {}", shape.name()));
        compile(shape, &mut table);
    }
    table.print(arguments.json)
}

/// How many changes of a kind are made: cheap ones, and those that take a pause.
#[derive(Clone, Copy)]
struct Counts {
    pods: u32,
    policies: u32,
}

/// An agent with all of a cluster, and what is written to its directory.
struct Bench<'a> {
    agent: Agent,
    cluster: PolicedCluster,
    table: &'a mut Table,
}

/// A file and what it is to hold; nothing removes it.
type Change = (String, Option<Value>);

impl<'a> Bench<'a> {
    /// Starts an agent over empty maps and waits until everything is programmed.
    fn start(world: &World, cluster: PolicedCluster, table: &'a mut Table) -> Result<Self> {
        tell(&format!("loading: {}", cluster.shape.name()));
        // The cluster has its own objects for the node and its pods.
        let mut agent = Agent::without_objects(&world.nodes[0], FastPath::Auto)?;
        agent.extra_args = LOG_ARGS.map(str::to_owned).to_vec();
        for (name, object) in cluster.objects() {
            agent.manifests.write(&format!("{name}.json"), &object.to_string())?;
        }
        let mut bench = Self { agent, cluster, table };
        bench.launch("process start to programmed")?;
        let endpoints = bench.agent.log().contains("endpoints: 110");
        ensure!(endpoints, "not all pods of the node are known: {}", bench.agent.log());
        Ok(bench)
    }

    /// Starts the agent and says how long that took.
    fn launch(&mut self, what: &str) -> Result<()> {
        let spawned = SystemTime::now();
        self.agent.start()?;
        let total = since(&self.agent, spawned, "synced")?;
        let what = format!("{what}, {}", self.cluster.shape.name());
        self.table.add(what, Unit::Milliseconds, total, Some(2_000.0));
        let attaching =
            since(&self.agent, spawned, "started")? - since(&self.agent, spawned, "loaded")?;
        let mut part = |name: &str, message: &str, field: &str| -> Result<f64> {
            let value = figure(&self.agent, message, field)?;
            self.table.add(format!("  of which {name}"), Unit::Milliseconds, value, None);
            Ok(value)
        };
        part("loading the programs", "loaded", "load_ms")?;
        part("compiling policies", "policies programmed", "plan_ms")?;
        part("writing them", "policies programmed", "program_ms")?;
        let what = "  of which attaching to 110 pods".to_owned();
        self.table.add(what, Unit::Milliseconds, attaching, None);
        for (name, field) in [("agent, peak", "VmHWM:"), ("agent", "VmRSS:")] {
            let memory = process_memory(&self.agent, field)?;
            self.table.add(format!("  {name}"), Unit::MiB, memory, None);
        }
        Ok(())
    }

    /// Makes changes one after the other, each when the one before is programmed.
    fn change(
        &mut self,
        what: &str,
        target: Option<f64>,
        pause: Duration,
        changes: impl Iterator<Item = Change>,
    ) -> Result<()> {
        tell(what);
        let before = programming_times(&self.agent).len();
        let mut count = 0;
        for (name, object) in changes {
            let file = format!("{name}.json");
            match object {
                Some(object) => self.agent.manifests.write(&file, &object.to_string())?,
                None => self.agent.manifests.remove(&file)?,
            }
            count += 1;
            let started = Instant::now();
            while self.agent.log().matches("\"programmed\"").count() < before + count {
                ensure!(started.elapsed() < PATIENCE, "{what}: {}", self.agent.log());
                sleep(Duration::from_millis(5));
            }
            sleep(pause);
        }
        let mut times = programming_times(&self.agent).split_off(before);
        ensure!(times.len() == count, "{what}: {} of {count} changes", times.len());
        self.table.quantiles(&format!("{what}, {count} changes"), &mut times, target);
        Ok(())
    }

    /// The memory of the policy maps beside what was predicted for a cluster of this size.
    fn memory(&mut self) -> Result<()> {
        let is_policy = |name: &str| {
            ["ENDPOINTS", "PEER", "POLICY_"].iter().any(|prefix| name.starts_with(prefix))
        };
        let all = map_memory(&self.agent, is_policy)?;
        self.table.add("kernel memory of the policy maps", Unit::MiB, all, Some(49.5));
        for (what, prefix, most) in [
            ("addresses of pods and nodes", "PEERS", 13.0),
            ("ranges", "PEER_RANGES", 1.4),
            ("pods of the node", "ENDPOINTS", 0.1),
            ("port classes", "POLICY_PORTS", 5.0),
            ("rows", "POLICY_ROWS", 30.0),
        ] {
            let memory = map_memory(&self.agent, |name| name.starts_with(prefix))?;
            self.table.add(format!("  of which {what}"), Unit::MiB, memory, Some(most));
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        tell("restarting");
        self.agent.stop()?;
        self.launch("restart to programmed")
    }
}

fn measure_typical(
    world: &World,
    cluster: PolicedCluster,
    counts: Counts,
    table: &mut Table,
) -> Result<()> {
    let mut bench = Bench::start(world, cluster.clone(), table)?;
    let (first, at_once) = (Version::default(), Duration::ZERO);
    let Counts { pods: count, policies: few } = counts;
    bench.memory()?;
    // Pods of a node that is not there yet.
    let more = cluster.pods.next_multiple_of(cluster.pods_of_a_node);
    let remote = |number: u32| format!("pod-{}", more + number);
    let added = (0..count).map(|n| (remote(n), Some(cluster.pod(more + n, first))));
    bench.change("pod of another node added", POD, at_once, added)?;
    bench.change(
        "pod of another node deleted",
        POD,
        at_once,
        (0..count).map(|n| (remote(n), None)),
    )?;
    let local = |number: u32| format!("pod-{number}");
    bench.change("pod of this node deleted", POD, at_once, (0..100).map(|n| (local(n), None)))?;
    let added = (0..100).map(|n| (local(n), Some(cluster.pod(n, first))));
    bench.change("pod of this node added", POD, at_once, added)?;
    let labels =
        (0..count).map(|n| (local(500 + n), Some(cluster.pod(500 + n, Version(1 + n % 3)))));
    bench.change("pod of another node has other labels", POD, at_once, labels)?;

    let policy = |number: u32| format!("policy-{number}");
    let changed = (0..count).map(|n| {
        // Policies that select all pods of a namespace which has pods of this node.
        let number = 100 + cluster.namespace_of(n % cluster.pods_of_a_node);
        (policy(number), Some(cluster.policy(number, Version(1 + n))))
    });
    bench.change("NetworkPolicy changed", POLICY, at_once, changed)?;
    let new = |n: u32| 1_000 + cluster.namespace_of(n);
    let added = (0..count / 4).map(|n| (format!("new-{n}"), Some(cluster.policy(new(n), first))));
    bench.change("NetworkPolicy added", POLICY, at_once, added)?;
    let gone = (0..count / 4).map(|n| (format!("new-{n}"), None));
    bench.change("NetworkPolicy deleted", POLICY, at_once, gone)?;
    let halves = (0..few).map(|n| {
        let policy = cluster.halving_network_policy(cluster.namespace_of(0), Version(n));
        ("halves".to_owned(), Some(policy))
    });
    bench.change("NetworkPolicy that splits the classes of all pods", POLICY, PAUSE, halves)?;
    let relabelled =
        (0..few).map(|n| ("namespace-0".to_owned(), Some(cluster.namespace(0, Version(1 + n)))));
    bench.change("namespace of 100 pods has other labels", POLICY, PAUSE, relabelled)?;
    let guards = (0..few).map(|n| ("guard".to_owned(), Some(cluster.cluster_policy(Version(n)))));
    bench.change("ClusterNetworkPolicy of all pods", POLICY, PAUSE, guards)?;
    let halves =
        (0..few).map(|n| ("halves-all".to_owned(), Some(cluster.halving_policy(Version(n)))));
    bench.change(
        "ClusterNetworkPolicy of all pods that splits all classes",
        POLICY,
        PAUSE,
        halves,
    )?;
    let rss = process_memory(&bench.agent, "VmRSS:")?;
    bench.table.add("agent, afterwards", Unit::MiB, rss, None);
    bench.restart()
}

fn measure_big(
    world: &World,
    cluster: PolicedCluster,
    counts: Counts,
    table: &mut Table,
) -> Result<()> {
    let mut bench = Bench::start(world, cluster.clone(), table)?;
    let few = counts.policies;
    // All pods of the node are in the first namespace, and a quarter of all pods there are.
    let deny = |n: u32| n.is_multiple_of(2).then(|| cluster.default_deny(0));
    let denied = (0..few * 2).map(|n| ("deny".to_owned(), deny(n)));
    let what = "default deny of a namespace with 110 pods of this node";
    bench.change(what, POLICY, PAUSE, denied)?;
    let relabelled =
        (0..few).map(|n| ("namespace-0".to_owned(), Some(cluster.namespace(0, Version(1 + n)))));
    bench.change("namespace of 2,600 pods has other labels", POLICY, PAUSE, relabelled)?;
    let guards = (0..few).map(|n| ("guard".to_owned(), Some(cluster.cluster_policy(Version(n)))));
    bench.change("ClusterNetworkPolicy of all pods", POLICY, PAUSE, guards)
}

/// The compiler alone, with the room that the maps have.
fn compile(shape: Shape, table: &mut Table) {
    let cluster = PolicedCluster::new(shape, "node-1");
    let converter = Converter::default();
    let mut events: Vec<Event> =
        cluster.objects().map(|(_, object)| event(&converter, &object)).collect();
    events.push(Event::Synced);
    let most = |map: MapSpec| map.entries as usize - map.entries as usize / 8;
    let room = Room {
        ports: most(POLICY_PORTS),
        rows: most(POLICY_ROWS),
        ranges: most(PEER_RANGES_V4),
        peers: most(PEERS_V4),
    };
    let mut planner = Planner::new(Options {
        node: cluster.node.as_str().into(),
        pod_cidrs: [].into(),
        enforcement: Enforcement::Enforced,
        room,
    });
    let start = Instant::now();
    planner.apply(events);
    let name = format!("compiler alone, {}: all", shape.name());
    table.add(name, Unit::Milliseconds, start.elapsed().as_secs_f64() * 1e3, None);
    let sizes = planner.sizes();
    table.add("  rows", Unit::Entries, sizes.rows as f64, None);
    table.add("  port classes", Unit::Entries, sizes.ports as f64, None);
    let closed = planner.problems().len();
    table.add(
        "  directions of pods that are closed, for want of room",
        Unit::Entries,
        closed as f64,
        None,
    );
    let mut change = |what: &str, objects: &mut dyn Iterator<Item = Value>| {
        let mut times: Vec<f64> = objects
            .map(|object| {
                let event = event(&converter, &object);
                while !planner.collect().is_empty() {}
                let start = Instant::now();
                planner.apply([event]);
                start.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        table.add(format!("  {what}, median"), Unit::Microseconds, times[times.len() / 2], None);
    };
    let more = cluster.pods.next_multiple_of(cluster.pods_of_a_node);
    change("a pod", &mut (0..20).map(|n| cluster.pod(more + n, Version(0))));
    let policies = (0..20).map(|n| cluster.policy(cluster.namespace_of(n), Version(1 + n)));
    change("a NetworkPolicy", &mut { policies });
    let relabelled = (0..20).map(|n| cluster.namespace(n % 2, Version(1 + n / 2)));
    change("a namespace", &mut { relabelled });
    change("a ClusterNetworkPolicy", &mut (0..20).map(|n| cluster.cluster_policy(Version(n))));
    change("one that splits all classes", &mut (0..20).map(|n| cluster.halving_policy(Version(n))));
}
