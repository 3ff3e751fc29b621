// SPDX-License-Identifier: Apache-2.0
//! Every command over hand-made maps, in every format, compared with `golden/<command>.txt`.

use std::{fs, io, path::Path};

use clap::Parser;
use pintle_abi::{
    counter::{Counter, Hook},
    drop_reason::DropReason,
    flow::TcpState,
    service::frontend_flags::{DROP, MASQUERADE, MASQUERADE_OTHERS, SOURCE_RANGES, SPLIT},
};

use super::{
    Cli, Command, Either, Nothing, Outcome, client::Agent, completion, counters, env::Env, get,
    status, style, trace, version,
};
use crate::{
    datapath::{
        entry::{
            BackendEntry, Counted, CounterEntry, DeviceEntry, FlowEntry, FlowState, FrontendEntry,
            MapFill, Place,
        },
        view::{Maps, OpenError, ReadError},
    },
    model::addr::{BackendAddr, FrontendAddr, FrontendKey, Protocol},
    node::IfIndex,
    policy::AllowedKey,
    server::{
        policy::{Answer, Cause, Denial, NamedDenial, Party, Policies, Question},
        state::{Backend, Frontend, Interface, Names, Rejection, SocketLb, Status, Uplink},
    },
};

pub(super) struct FakeMaps;

fn frontend_addr(text: &str, protocol: Protocol) -> FrontendAddr {
    let address: std::net::SocketAddr = text.parse().unwrap();
    FrontendAddr { ip: address.ip(), port: address.port(), protocol }
}

fn backend_addr(text: &str) -> BackendAddr {
    let address: std::net::SocketAddr = text.parse().unwrap();
    BackendAddr { ip: address.ip(), port: address.port() }
}

impl Maps for FakeMaps {
    fn frontends(&self) -> Result<Vec<FrontendEntry>, ReadError> {
        let entry = |text, protocol, service, backends: &[u32], affinity_seconds| FrontendEntry {
            key: FrontendKey::internal(frontend_addr(text, protocol)),
            service,
            backends: backends.to_vec(),
            flags: if service == 4 { MASQUERADE_OTHERS } else { 0 },
            affinity_seconds,
        };
        let web = |text, flags| FrontendEntry { flags, ..entry(text, Protocol::Tcp, 3, &[4], 600) };
        let outside = |inside: FrontendEntry, flags, backends: &[u32]| FrontendEntry {
            key: FrontendKey::external(inside.key.addr),
            flags,
            backends: backends.to_vec(),
            ..inside
        };
        let balancer = web("203.0.113.7:80", SPLIT | MASQUERADE_OTHERS | SOURCE_RANGES);
        let node_port = web("0.0.0.0:30080", SPLIT | MASQUERADE_OTHERS);
        Ok(vec![
            node_port.clone(),
            outside(node_port, DROP, &[]),
            entry("10.96.0.1:443", Protocol::Tcp, 1, &[1], 0),
            entry("10.96.0.10:53", Protocol::Udp, 2, &[2, 3], 0),
            entry("10.96.0.20:80", Protocol::Tcp, 3, &[4], 600),
            entry("10.96.0.99:80", Protocol::Tcp, 4, &[], 0),
            FrontendEntry {
                flags: MASQUERADE,
                ..entry("192.0.2.9:53", Protocol::Udp, 2, &[2, 3], 0)
            },
            balancer.clone(),
            outside(balancer, DROP | SOURCE_RANGES, &[]),
            entry("[fd00::a]:53", Protocol::Udp, 2, &[1], 0),
            FrontendEntry { flags: MASQUERADE, ..entry("[::]:30053", Protocol::Udp, 2, &[1], 0) },
        ])
    }

    fn backends(&self) -> Result<Vec<BackendEntry>, ReadError> {
        let entry = |text, id, interface: Option<u32>| BackendEntry {
            id,
            addr: backend_addr(text),
            local: interface.is_some(),
            redirect: interface.map(IfIndex),
            generation: 1,
            mtu: if interface.is_some() { 1450 } else { 0 },
        };
        Ok(vec![
            entry("10.244.0.2:6443", 1, None),
            entry("10.244.0.3:53", 2, Some(7)),
            entry("10.244.1.5:8080", 4, Some(12)),
            entry("[fd00:1::3]:53", 1, Some(7)),
        ])
    }

    fn flows(&self) -> Result<Vec<FlowEntry>, ReadError> {
        let entry = |protocol, state, client: &str, frontend: &str, backend: &str| FlowEntry {
            protocol,
            state,
            client: client.parse().unwrap(),
            frontend: frontend.parse().unwrap(),
            backend: backend.parse().unwrap(),
            service: 3,
            client_interface: IfIndex(9),
            fast: true,
            hairpin: false,
            direct: false,
            of_socket: false,
            from_node: false,
            egress_epoch: 0,
            ingress_epoch: 0,
            overflow: false,
            packets: 1204,
            bytes: 1_153_434,
            last_seen_ns: 98_000_000_000,
        };
        let syn = FlowEntry {
            packets: 3,
            bytes: 180,
            fast: false,
            overflow: true,
            ..entry(
                Protocol::Tcp,
                FlowState::Tcp(TcpState::SynSent),
                "10.244.1.9:50112",
                "10.96.0.20:80",
                "10.244.1.5:8080",
            )
        };
        let dns = FlowEntry {
            service: 2,
            ..entry(
                Protocol::Udp,
                FlowState::Answered,
                "[fd00:1::9]:40000",
                "[fd00::a]:53",
                "[fd00:1::3]:53",
            )
        };
        let established = FlowState::Tcp(TcpState::Established);
        let (client, frontend) = ("10.244.1.8:41822", "10.96.0.20:80");
        let judged = FlowEntry {
            egress_epoch: 4,
            ingress_epoch: 4,
            ..entry(Protocol::Tcp, established, client, frontend, "10.244.1.5:8080")
        };
        let probe = FlowEntry {
            direct: true,
            of_socket: false,
            from_node: true,
            service: 0,
            ingress_epoch: 4,
            ..entry(
                Protocol::Tcp,
                established,
                "172.18.0.2:33010",
                "10.244.1.5:8080",
                "10.244.1.5:8080",
            )
        };
        Ok(vec![dns, syn, judged, probe])
    }

    fn devices(&self) -> Result<Vec<DeviceEntry>, ReadError> {
        let device = |index, fast| DeviceEntry { index: IfIndex(index), fast, mtu: 1450 };
        Ok(vec![device(7, true), device(9, true), device(12, false)])
    }

    fn counters(&self) -> Result<Vec<CounterEntry>, ReadError> {
        let (from_pod, to_pod) = (Place::Hook(Hook::FromPod), Place::Hook(Hook::ToPod));
        let value = |place, counted| match (place, counted) {
            (place, Counted::Event(Counter::Passed)) if place == from_pod => 1_204_118,
            (place, Counted::Event(Counter::Forward)) if place == from_pod => 402_001,
            (place, Counted::Event(Counter::Reply)) if place == to_pod => 998_771,
            (place, Counted::Drop(DropReason::Refused)) if place == from_pod => 11,
            (place, Counted::Drop(DropReason::Malformed)) if place == to_pod => 1,
            (Place::Connect, Counted::Event(Counter::NewFlow)) => 5_120,
            _ => 0,
        };
        let cells =
            Place::all().flat_map(|place| Counted::all().map(move |counted| (place, counted)));
        let entry =
            |(place, counted)| CounterEntry { place, counted, value: value(place, counted) };
        Ok(cells.map(entry).collect())
    }

    fn fill(&self, is_wanted: fn(&str) -> bool) -> Result<Vec<MapFill>, ReadError> {
        let fill = |name, entries, capacity, bytes| MapFill { name, entries, capacity, bytes };
        let mut all = vec![
            fill("FRONTENDS_V4", Some(8), 65_536, Some(5_767_168)),
            fill("SLOTS_V4", None, 262_144, Some(2_097_152)),
            fill("TCP_FLOWS_V4", Some(18_204), 262_144, Some(1 << 30)),
            fill("TCP_OVERFLOW_V4", Some(0), 8192, None),
        ];
        all.retain(|map| is_wanted(map.name));
        Ok(all)
    }

    fn links(&self) -> Result<Vec<(IfIndex, Hook)>, ReadError> {
        let indexes = [7, 9, 12].map(IfIndex);
        let links = indexes
            .iter()
            .flat_map(|index| [Hook::ToPod, Hook::FromPod].map(|hook| (*index, hook)));
        Ok(links.collect())
    }
}

pub(super) struct FakeAgent {
    answers: bool,
    programmed: u64,
}

impl FakeAgent {
    fn check(&self) -> io::Result<()> {
        if self.answers { Ok(()) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
    }
}

impl Agent for FakeAgent {
    fn status(&self) -> io::Result<Status> {
        self.check()?;
        let interface = |name: &str, index, slow: Option<&str>| Interface {
            name: name.into(),
            index,
            mode: "tcx".into(),
            slow: slow.map(str::to_owned),
            failed: None,
        };
        Ok(Status {
            node: "worker-2".into(),
            version: "0.1.0".into(),
            started_unix: 1_700_000_000,
            uptime_seconds: 3 * 86_400 + 4 * 3600,
            revision_read: 4812,
            revision_programmed: self.programmed,
            programmed_ago_seconds: Some(2),
            synced: true,
            services: 128,
            services_programmed: 127,
            errors: Vec::new(),
            rejections: vec![Rejection {
                object: "Service shop/bad".into(),
                reason: "port 0 is not valid".into(),
                since_unix: 1_700_000_100,
            }],
            interfaces: vec![
                interface("veth7", 7, None),
                interface("veth9", 9, None),
                interface("vethc", 12, Some("qdisc tbf")),
            ],
            uplinks: vec![
                Uplink { name: "eth0".into(), index: 2, without_xdp: None },
                Uplink {
                    name: "eth1".into(),
                    index: 3,
                    without_xdp: Some("its driver has none, or not as the device is set up".into()),
                },
            ],
            socket_lb: SocketLb {
                mode: "host".into(),
                cgroup: Some("/sys/fs/cgroup".into()),
                failed: None,
            },
            policy: super::policy_golden::summary(),
        })
    }

    fn policies(&self) -> io::Result<Policies> {
        self.check().map(|()| super::policy_golden::policies())
    }

    fn name_denials(&self, denials: &[Denial]) -> io::Result<Vec<NamedDenial>> {
        self.check().map(|()| denials.iter().map(super::policy_golden::named).collect())
    }

    fn name_allowed(&self, keys: &[AllowedKey]) -> io::Result<Vec<Cause>> {
        self.check().map(|()| keys.iter().map(super::policy_golden::allowed_by).collect())
    }

    fn find(&self, words: &[String]) -> io::Result<Vec<Party>> {
        self.check().map(|()| words.iter().map(|word| super::policy_golden::party(word)).collect())
    }

    fn judge(&self, questions: &[Question]) -> io::Result<Vec<Answer>> {
        self.check().map(|()| questions.iter().map(super::policy_golden::answer).collect())
    }

    fn names(&self) -> io::Result<Names> {
        self.check()?;
        let frontend = |namespace: &str, name: &str, addr: FrontendAddr, endpoints| Frontend {
            namespace: namespace.into(),
            name: name.into(),
            ip: addr.ip,
            port: addr.port,
            protocol: addr.protocol.as_str().into(),
            kind: "ClusterIP".into(),
            endpoints,
            traffic: "Cluster".into(),
            age_seconds: Some(3 * 86_400),
        };
        let of_kind = |kind: &str, row: Frontend| Frontend { kind: kind.into(), ..row };
        let tcp = |text| frontend_addr(text, Protocol::Tcp);
        let udp = |text| frontend_addr(text, Protocol::Udp);
        let backend = |text, state: &str| {
            let BackendAddr { ip, port } = backend_addr(text);
            Backend { ip, port, state: state.into(), node: Some("worker-2".into()) }
        };
        let pods = [
            ("10.244.0.3", "kube-system/coredns-1"),
            ("10.244.1.5", "shop/web-7c9b"),
            ("10.244.1.8", "shop/cart-6d8f"),
            ("10.244.1.9", "shop/load-55c1"),
        ];
        Ok(Names {
            services: [(2, "kube-system/kube-dns:dns".into()), (3, "shop/web".into())].into(),
            frontends: vec![
                frontend("default", "kubernetes", tcp("10.96.0.1:443"), 1),
                frontend("kube-system", "kube-dns", udp("10.96.0.10:53"), 2),
                frontend("kube-system", "kube-dns", udp("[fd00::a]:53"), 2),
                frontend("shop", "empty", tcp("10.96.0.99:80"), 0),
                of_kind("ExternalIP", frontend("kube-system", "kube-dns", udp("192.0.2.9:53"), 2)),
                of_kind("NodePort", frontend("kube-system", "kube-dns", udp("[::]:30053"), 2)),
                frontend("shop", "web", tcp("10.96.0.20:80"), 3),
                of_kind("LoadBalancer", frontend("shop", "web", tcp("203.0.113.7:80"), 3)),
                of_kind("NodePort", frontend("shop", "web", tcp("0.0.0.0:30080"), 3)),
            ],
            backends: vec![
                backend("10.244.0.3:53", "ready"),
                backend("10.244.1.5:8080", "terminating"),
            ],
            pods: pods.map(|(ip, name)| (ip.parse().unwrap(), name.to_owned())).into(),
        })
    }
}

/// Runs a command line; its outcome, stdout and stderr.
fn run(line: &str, agent: FakeAgent) -> String {
    let cli = Cli::<Nothing>::try_parse_from(line.split_whitespace()).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut env = Env {
        out: &mut out,
        err: &mut err,
        style: style(&cli.global),
        maps: Box::new(|| Ok(Box::new(FakeMaps))),
        agent: Box::new(agent),
        now_ns: || 100_000_000_000,
        kernel: "6.8.0".into(),
        verbose: false,
    };
    let Either::Ours(command) = cli.command;
    let outcome = match &command {
        Command::Status(args) => status::run(args, &mut env),
        Command::Get { what } => get::run(what, &mut env),
        Command::Trace(args) => trace::run(args, &mut env),
        Command::Counters => counters::run(&mut env),
        Command::Completion { shell } => completion::<Nothing>(*shell, &mut env),
        Command::Version => version::run(&mut env),
        Command::Agent(_) | Command::Cleanup(_) => unreachable!("they change the node"),
    };
    drop(env);
    let end = match outcome {
        Ok(Outcome::Good) => String::new(),
        Ok(Outcome::Bad) => "(exit 3)\n".into(),
        Err(error) => {
            super::output::hint::report(&mut err, &error, cli.global.output).unwrap();
            "(exit 1)\n".into()
        }
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(out), text(err));
    if cli.global.output.is_json() {
        for document in serde_json::Deserializer::from_str(&out).into_iter::<serde_json::Value>() {
            document.expect("stdout is JSON");
        }
    }
    assert!(out.lines().all(|line| !line.ends_with(' ')), "blanks at the end of a line:\n{out}");
    let err: String = err.lines().map(|line| format!("! {line}\n")).collect();
    format!("$ {line}\n{out}{err}{end}\n")
}

/// Compares a command's output, with and without an agent, with its golden file.
pub(super) fn check(golden: &str, lines: &[&str]) {
    let mut actual = String::new();
    for line in lines {
        let (line, answers) = match line.strip_suffix(" # no agent") {
            Some(line) => (line, false),
            None => (*line, true),
        };
        let run = || run(&format!("pintle {line}"), FakeAgent { answers, programmed: 4812 });
        let once = run();
        assert_eq!(once, run(), "two runs give the same bytes");
        actual += &once;
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/golden");
    let path = dir.join(format!("{golden}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(actual == expected, "UPDATE_GOLDEN=1 accepts this:\n{actual}");
}

#[test]
fn services() {
    check(
        "services",
        &[
            "get services",
            "get svc -o wide --color always",
            "get services -o json",
            "get services -o jsonl -n shop",
            "get services -o name",
            "get services shop/wbe",
            "get services --no-headers # no agent",
        ],
    );
}

#[test]
fn backends() {
    check(
        "backends",
        &["get backends", "get be -o wide", "get be -o json", "get be --numeric # no agent"],
    );
}

#[test]
fn flows() {
    check(
        "flows",
        &[
            "get flows",
            "get ct -o wide",
            "get flows -o json",
            "get flows --to shop/web --state syn-sent --numeric",
            "get flows --from fd00:1::9 --proto udp -o name",
            "get flows kube-system/kube-dns -o name",
            "get flows --limit 1 # no agent",
            "get flows --state closing -o json",
        ],
    );
}

#[test]
fn maps() {
    check("maps", &["get maps", "get maps -o json"]);
}

#[test]
fn counters_of_both_hooks() {
    check("counters", &["counters", "counters -o wide", "counters -o json"]);
}

#[test]
fn status_screen() {
    check(
        "status",
        &["status", "status --wait", "status -o json", "status # no agent", "status -o name"],
    );
}

#[test]
fn versions() {
    check("version", &["version", "version -o json"]);
}

#[test]
fn waiting_in_vain_is_a_bad_answer() {
    let text = run("pintle status --wait --timeout 0", FakeAgent { answers: true, programmed: 1 });
    assert!(text.contains("PROBLEM") && text.contains("(exit 3)"), "{text}");
}

#[test]
fn maps_that_cannot_be_opened_are_an_error_without_an_agent_and_a_problem_with_one() {
    let status = |answers| {
        let cli = Cli::<Nothing>::try_parse_from(["pintle", "status"]).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut env = Env {
            out: &mut out,
            err: &mut err,
            style: style(&cli.global),
            maps: Box::new(|| Err(OpenError::NothingLoaded)),
            agent: Box::new(FakeAgent { answers, programmed: 4812 }),
            now_ns: || 0,
            kernel: String::new(),
            verbose: false,
        };
        let Either::Ours(Command::Status(args)) = cli.command else { unreachable!() };
        status::run(&args, &mut env).ok()
    };
    assert_eq!(status(false), None);
    assert_eq!(status(true), Some(Outcome::Bad));
}
