// SPDX-License-Identifier: Apache-2.0
//! Measures the agent at an API server: cold start, changes, memory; with the real agent, real maps and
//! the API server of the tests, on loopback.
//!
//! Objects are as large as a cluster's: pods come with the fields that nobody here reads. The server
//! runs on the same CPUs; what it takes is in the wall time and not in the agent's.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use clap::Parser;
use pintle::datapath::pins::Pins;
use pintle_abi::addr::{V4, proto};
use pintle_abi::map::FRONTENDS_V4;
use pintle_abi::service::{Frontend, FrontendKey};
use pintle_bench::figures::{Table, Unit};
use pintle_bench::progress::tell;
use pintle_lab::agent::{Agent, FastPath};
use pintle_lab::cluster::Cluster;
use pintle_lab::netns::NetNs;
use pintle_lab::self_report::{LOG_ARGS, cpu_time, process_memory, programming_times};
use pintle_lab::topology::{Cni, World};
use pintle_tests::api_server::ApiServer;
use pintle_tests::policed_cluster::{PolicedCluster, Shape};
use serde_json::{Value, json};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6443);
const READYZ: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10256);
/// How long anything may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a key is looked up before it is said not to be there.
const RETRIES: u32 = 10;

/// Measures the agent at an API server: cold start, changes, memory.
#[derive(Parser)]
struct Options {
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// A tenth of the services and of the changes; the targets are for the full size.
    #[arg(long)]
    quick: bool,
}

fn main() -> Result<()> {
    run(&Options::parse())
}

fn run(options: &Options) -> Result<()> {
    let (services, changes) = if options.quick { (1_000, 100) } else { (10_000, 1_000) };
    let cluster = Cluster { services, endpoints: 10 };
    let world = World::new(1, Cni::Ptp)?;
    let node = &world.nodes[0];
    let mut table = Table::default();

    tell("filling the API server");
    let server = ApiServer::start_in(node, SERVER)?;
    let bytes = fill(&server, cluster, &PolicedCluster::new(Shape::Typical, &node.name))?;
    table.add("objects in the API server, as JSON", Unit::MiB, bytes, None);

    tell("starting the agent");
    let directory = tempfile::tempdir()?;
    let mut agent = Agent::without_objects(node, FastPath::Auto)?;
    agent.extra_args = LOG_ARGS.map(str::to_owned).to_vec();
    agent.read_from(&server.write_kubeconfig(directory.path())?);
    start(&mut agent, node, "cold start", &mut table)?;
    table.add("  agent, peak", Unit::MiB, process_memory(&agent, "VmHWM:")?, None);
    table.add("  agent", Unit::MiB, process_memory(&agent, "VmRSS:")?, Some(150.0));

    tell(&format!("{changes} changes"));
    change(&agent, &server, cluster, changes, &mut table)?;

    tell("restarting the agent");
    agent.stop()?;
    start(&mut agent, node, "restart", &mut table)?;
    tell("");
    table.print(options.json)
}

/// Puts everything; returns how much that is.
fn fill(server: &ApiServer, cluster: Cluster, policed: &PolicedCluster) -> Result<f64> {
    let mut bytes = 0;
    let mut put = |object: Value| {
        bytes += object.to_string().len();
        server.put(object)
    };
    for text in cluster.texts() {
        put(serde_yaml_ng::from_str(&text)?)?;
    }
    for (_, object) in policed.objects() {
        put(with_unread_fields(object))?;
    }
    Ok(bytes as f64 / f64::from(1 << 20))
}

/// A pod with what else a cluster's pods have, most of it who manages which field.
fn with_unread_fields(mut object: Value) -> Value {
    if object["kind"] != "Pod" {
        return object;
    }
    let fields = |manager: &str, count: usize| {
        let names = (0..count).map(|field| (format!("f:field-{field}"), json!({})));
        let fields: serde_json::Map<String, Value> = names.collect();
        json!({
            "manager": manager, "operation": "Update", "apiVersion": "v1",
            "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields},
        })
    };
    object["metadata"]["managedFields"] =
        json!([fields("kube-controller-manager", 60), fields("kubelet", 60)]);
    let mount = |number: usize| json!({"name": format!("volume-{number}"), "mountPath": format!("/var/lib/app/volume-{number}")});
    let container = json!({
        "name": "app", "image": "registry.example/team/app:1.2.3", "imagePullPolicy": "IfNotPresent",
        "env": (0..12).map(|number| json!({"name": format!("SETTING_{number}"), "value": "some value"}))
            .collect::<Vec<_>>(),
        "volumeMounts": (0..6).map(mount).collect::<Vec<_>>(),
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
    });
    if let Some(containers) = object["spec"]["containers"].as_array_mut() {
        containers.push(container);
    }
    object["status"]["conditions"] = ["Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}))
        .into();
    object
}

/// Starts the process; returns when it says at `/readyz` that everything is programmed.
fn start(agent: &mut Agent, node: &NetNs, what: &str, table: &mut Table) -> Result<()> {
    let started = Instant::now();
    agent.launch()?;
    while !node.run(is_ready) {
        ensure!(started.elapsed() < PATIENCE, "the agent is not ready: {}", agent.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    let wall = started.elapsed().as_secs_f64() * 1e3;
    let cpu = cpu_time(agent)?;
    table.add(
        format!("{what}: process start to /readyz 200"),
        Unit::Milliseconds,
        wall,
        Some(5_000.0),
    );
    table.add("  CPU of the agent until then", Unit::Milliseconds, cpu, Some(2_000.0));
    Ok(())
}

/// Whether `/readyz` answers 200.
fn is_ready() -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(READYZ)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// Changes one endpoint of one service after the other.
fn change(
    agent: &Agent,
    server: &ApiServer,
    cluster: Cluster,
    changes: u32,
    table: &mut Table,
) -> Result<()> {
    let data = MapData::from_pin(Pins::new(agent.bpf_root()).map(&FRONTENDS_V4))?;
    let frontends: HashMap<MapData, FrontendKey<V4>, Frontend> = Map::HashMap(data).try_into()?;
    let base = |service: u32| -> Result<u32> {
        let (ip, port) = cluster.frontend(service);
        let key = FrontendKey { addr: ip.into(), port: port.to_be(), proto: proto::TCP, scope: 0 };
        // Whoever reads a hash from user space while a value is overwritten can be told that there is
        // none: preempted in the chain, it finds the old element used again for another key.
        let found = (0..RETRIES).find_map(|_| frontends.get(&key, 0).ok());
        let missing = || format!("service {service} is not in the maps: {}", agent.log());
        Ok(found.with_context(missing)?.base)
    };
    let mut end_to_end = Vec::new();
    let before = programming_times(agent).len();
    for number in 0..changes {
        // Far apart, so that nothing is warm that would be cold in a cluster.
        let service = number * 7919 % cluster.services;
        let version = 1 + number / cluster.services;
        let object = serde_yaml_ng::from_str(&cluster.slice_yaml(service, version))?;
        let old = base(service)?;
        let started = Instant::now();
        server.put(object)?;
        while base(service)? == old {
            ensure!(started.elapsed() < PATIENCE, "a change is not in the maps: {}", agent.log());
        }
        end_to_end.push(started.elapsed().as_secs_f64() * 1e6);
    }
    std::thread::sleep(Duration::from_millis(50));
    let mut programmed = programming_times(agent).split_off(before);
    ensure!(programmed.len() == changes as usize, "{} of {changes} changes", programmed.len());
    let name = format!("API write to kernel map, {changes} changes, {} services", cluster.services);
    table.quantiles(&name, &mut end_to_end, Some(10_000.0));
    let name = "  of which ours: event decoded to last map write";
    table.quantiles(name, &mut programmed, Some(1_000.0));
    table.add("  agent, afterwards", Unit::MiB, process_memory(agent, "VmRSS:")?, Some(150.0));
    Ok(())
}
