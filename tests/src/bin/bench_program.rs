// SPDX-License-Identifier: Apache-2.0
//! What `from_pod` costs for each packet, over an empty program: `cargo xtask bench-program`.
//!
//! Both run behind a [`Wrapper`] that lays down the original headers before each run; the cost is the
//! difference. Every round measures every case, so a disturbance of the machine hits all of them.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use pintle::datapath::object::{self, Sizes};
use pintle_abi::{
    addr::{Tuple, V4, proto},
    counter::Hook,
    flow::Flow,
    policy::Endpoint,
    service::wildcard_flags,
};
use pintle_tests::{
    frame::Frame,
    kernel_world::{self, KernelWorld},
    policies::{EGRESS, INGRESS, PORTS, WEB, pod},
    vectors::{Ip, data, first},
    world::{BackendSpec, Forget, FrontendSpec, IFINDEX, Origin, Place, World, settings},
    wrapper::{Counting, Field, Wrapper, empty_program, lookup_program},
};

/// Measures what the program costs for each packet.
#[derive(Parser)]
struct Arguments {
    /// One line of JSON for each case instead of a table.
    #[arg(long)]
    json: bool,
    /// Rounds; the median is reported.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Only the cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Services beside the one that is used.
    #[arg(long, default_value_t = 100_000)]
    services: u32,
}

/// Runs of a packet of a known connection in one round.
const HITS: u32 = 300_000;
/// Runs of a packet with a new tuple in one round; each leaves two entries.
const NEW: u32 = 100_000;
/// Look-ups in a run of the calibration, and what one took where the targets were set.
const LOOKUPS: usize = 10;
const REFERENCE_LOOKUP: f64 = 8.1;
/// Services that the spread of new tuples touches.
const TOUCHED: u32 = 10_000;
/// Slots and ids of the many services start here.
const FIRST_ID: u32 = 10;

/// What a case measures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Forward,
    Reply,
    New,
    NewSpread,
    Miss,
    /// The same with policies that select the pods.
    PolicedForward,
    PolicedReply,
    /// A connection that is not translated.
    Direct,
    DirectNew,
    /// Policies hold, and do not select the pod.
    Unselected,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Forward,
        Self::Reply,
        Self::New,
        Self::NewSpread,
        Self::Miss,
        Self::PolicedForward,
        Self::PolicedReply,
        Self::Direct,
        Self::DirectNew,
        Self::Unselected,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward, known",
            Self::Reply => "reply, known",
            Self::New => "new tuple",
            Self::NewSpread => "new tuple, 10k services",
            Self::Miss => "not a service",
            Self::PolicedForward => "forward, known, policed",
            Self::PolicedReply => "reply, known, policed",
            Self::Direct => "direct, known, policed",
            Self::DirectNew => "direct, new, policed",
            Self::Unselected => "not a service, unselected",
        }
    }

    /// Ns that the design allows.
    fn target(self) -> Option<u32> {
        match self {
            Self::Forward | Self::Reply => Some(60),
            Self::PolicedForward | Self::PolicedReply | Self::Direct => Some(60),
            Self::DirectNew => Some(550),
            Self::New => Some(400),
            Self::NewSpread => Some(1200),
            Self::Miss | Self::Unselected => None,
        }
    }

    /// Who is at the interface while policies hold; nobody if they do not.
    fn policed(self, ip: Ip) -> Option<Endpoint> {
        let rules = |pod: Endpoint| Endpoint { egress: EGRESS, ingress: INGRESS, ..pod };
        match self {
            Self::PolicedForward | Self::Direct | Self::DirectNew => {
                Some(rules(pod(ip.client(0).ip())))
            }
            Self::PolicedReply => Some(rules(pod(ip.backend(5, 0).ip()))),
            Self::Unselected => Some(pod(ip.client(0).ip())),
            Self::Forward | Self::Reply | Self::New | Self::NewSpread | Self::Miss => None,
        }
    }

    fn repeat(self) -> u32 {
        match self {
            Self::New | Self::NewSpread | Self::DirectNew => NEW,
            _ => HITS,
        }
    }

    /// The code of a run that did what it should: `TC_ACT_REDIRECT` or on to the next program.
    fn code(self) -> i32 {
        let passes = [Self::Miss, Self::Direct, Self::DirectNew, Self::Unselected];
        if passes.contains(&self) { -1 } else { 7 }
    }
}

/// A case, its two wrappers, and what was measured.
struct Case {
    kind: Kind,
    ip: Ip,
    proto: u8,
    services: u32,
    frame: Vec<u8>,
    program: Wrapper,
    empty: Wrapper,
    samples: Vec<i64>,
}

fn main() -> Result<()> {
    run(&Arguments::parse())
}

fn run(arguments: &Arguments) -> Result<()> {
    pin_to_one_cpu()?;
    let mut worlds = Vec::new();
    for services in [1, arguments.services] {
        eprintln!("loading {services} services");
        let mut world = load(services)?;
        let mut cases = cases(&mut world, services)?;
        cases.retain(|case| case.kind.name().contains(&arguments.only));
        worlds.push((world, cases));
    }
    for round in 0..arguments.rounds {
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        for (world, cases) in &mut worlds {
            for case in cases {
                case.measure(world)?;
            }
        }
    }
    if let Some((world, _)) = worlds.first_mut() {
        eprintln!(
            "one look-up in a hash with a key of 12 bytes takes {:.1} ns on this machine; the targets \
             are from one where it takes {REFERENCE_LOOKUP} ns",
            look_up(world, arguments.rounds)?
        );
    }
    let cases: Vec<_> = worlds.iter().flat_map(|(_, cases)| cases).collect();
    if arguments.json {
        cases.iter().for_each(|case| println!("{}", case.json()));
    } else {
        table(&cases);
    }
    Ok(())
}

/// What one hit in a hash costs here, in ns: tells machines apart.
fn look_up(world: &mut KernelWorld, rounds: usize) -> Result<f64> {
    world.hash("TCP_FLOWS_V4").insert(Tuple::<V4>::default(), Flow::<V4>::default(), 0)?;
    let map = world.map_fd("TCP_FLOWS_V4")?;
    let frame = Kind::Miss.frame(Ip::V4, proto::TCP).bytes();
    let context = kernel_world::context(Origin::Elsewhere);
    let wrap = |target: &OwnedFd| Wrapper::new(target.as_raw_fd(), &[], &[], frame.len());
    let (program, empty) = (wrap(&lookup_program(map, LOOKUPS)?)?, wrap(&empty_program()?)?);
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let (_, base) = empty.run(&frame, &context, HITS)?;
        let (_, full) = program.run(&frame, &context, HITS)?;
        samples.push(i64::from(full) - i64::from(base));
    }
    samples.sort_unstable();
    Ok(samples[samples.len() / 2] as f64 / LOOKUPS as f64)
}

fn pin_to_one_cpu() -> Result<()> {
    // SAFETY: the set is valid for both calls.
    let pinned = unsafe {
        let cpu = libc::sysconf(libc::_SC_NPROCESSORS_ONLN) as usize - 1;
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if pinned != 0 {
        bail!("cannot pin to a CPU");
    }
    Ok(())
}

/// The service of the hits, and many others.
fn load(services: u32) -> Result<KernelWorld> {
    let sizes = [("FRONTENDS_V4", 4 * services + 64), ("FRONTENDS_V6", 4 * services + 64)];
    let sizes: Sizes =
        sizes.into_iter().map(|(name, entries)| (name.to_owned(), entries.max(65_536))).collect();
    let mut loaded = KernelWorld::load(&sizes)?;
    let world: &mut dyn World = &mut loaded;
    for ip in [Ip::V4, Ip::V6] {
        for protocol in [proto::TCP, proto::UDP] {
            world.service(ip.service(80), protocol, 1, &[ip.backend(5, 8080)]);
        }
        for number in 0..services.max(TOUCHED) {
            let id = FIRST_ID + number;
            let mut addr = ip.backend(5, 8080);
            addr.set_port(8080 + (number % 50_000) as u16);
            let place = Place::Local;
            world.put_backend(BackendSpec { id, addr, generation: 1, ifindex: IFINDEX, place });
            world.put_slot(ip.is_v6(), id, id);
            // In the world of one service the others are written, but not there to be found.
            if services > 1 {
                let service = numbered(ip, number);
                world.put_frontend(&FrontendSpec::new(service, proto::TCP, (id, 1)));
                let cluster = wildcard_flags::CLUSTER;
                world.put_frontend(&FrontendSpec::wildcard(service.ip(), cluster));
            }
        }
    }
    Ok(loaded)
}

/// The service of a number: its last four bytes are the number as it stands in memory.
fn numbered(ip: Ip, number: u32) -> SocketAddr {
    let bytes = number.to_ne_bytes();
    let ip = match ip {
        Ip::V4 => IpAddr::from(bytes),
        Ip::V6 => {
            let mut octets = [0; 16];
            octets[..2].copy_from_slice(&[0xfd, 0x77]);
            octets[12..].copy_from_slice(&bytes);
            IpAddr::from(octets)
        }
    };
    SocketAddr::new(ip, 80)
}

fn cases(world: &mut KernelWorld, services: u32) -> Result<Vec<Case>> {
    let program = object::classifier(world.ebpf(), Hook::FromPod.as_str())?;
    let target = program.fd().context("from_pod")?.as_fd().as_raw_fd();
    let empty = empty_program()?;
    let mut cases = Vec::new();
    for ip in [Ip::V4, Ip::V6] {
        for proto in [proto::TCP, proto::UDP] {
            for kind in Kind::ALL {
                if kind == Kind::NewSpread && (services < TOUCHED || proto == proto::UDP) {
                    continue;
                }
                let frame = kind.frame(ip, proto).bytes();
                let fields = original(&frame, ip);
                let counting = kind.counting(ip);
                let wrap = |target| Wrapper::new(target, &fields, &counting, frame.len());
                let (program, empty) = (wrap(target)?, wrap(empty.as_raw_fd())?);
                let samples = Vec::new();
                cases.push(Case { kind, ip, proto, services, frame, program, empty, samples });
            }
        }
    }
    Ok(cases)
}

impl Kind {
    fn frame(self, ip: Ip, proto: u8) -> Frame {
        let (client, service) = (ip.client(40000), ip.service(80));
        match self {
            Self::Forward | Self::PolicedForward => data(proto, client, service),
            Self::Reply | Self::PolicedReply => data(proto, ip.backend(5, 8080), client),
            Self::New => first(proto, client, service),
            Self::NewSpread => first(proto, client, numbered(ip, 0)),
            Self::Miss | Self::Direct | Self::Unselected => data(proto, client, ip.backend(7, 80)),
            Self::DirectNew => first(proto, client, ip.backend(7, 80)),
        }
    }

    /// The client's address counts, so every run has a new tuple; or the ports do, where the source has
    /// to be the pod's own and the destination no service.
    fn counting(self, ip: Ip) -> Vec<Counting> {
        let (src, dst, ports) = if ip.is_v6() { (34, 50, 54) } else { (26, 30, 34) };
        let client = Counting { offset: src, modulus: i32::MAX as u32 };
        match self {
            Self::New => vec![client],
            Self::NewSpread => vec![client, Counting { offset: dst, modulus: TOUCHED }],
            Self::DirectNew => vec![Counting { offset: ports, modulus: i32::MAX as u32 }],
            _ => Vec::new(),
        }
    }
}

/// Everything that a translation changes: TTL, addresses, ports.
fn original(frame: &[u8], ip: Ip) -> Vec<Field> {
    let word = |offset: usize| {
        let value = u32::from_ne_bytes([0, 1, 2, 3].map(|i| frame[offset + i]));
        Field { offset: offset as i16, value, size: 4 }
    };
    let (ttl, words) = match ip {
        Ip::V4 => (22, vec![26, 30, 34]),
        Ip::V6 => (21, (22..=54).step_by(4).collect()),
    };
    let ttl = Field { offset: ttl as i16, value: u32::from(frame[ttl]), size: 1 };
    words.into_iter().map(word).chain([ttl]).collect()
}

impl Case {
    fn measure(&mut self, world: &mut KernelWorld) -> Result<()> {
        let context = kernel_world::context(Origin::Elsewhere);
        if matches!(self.kind, Kind::New | Kind::NewSpread | Kind::DirectNew) {
            world.forget_flows(Forget::Everything);
        }
        self.open(world);
        self.program.restart()?;
        self.empty.restart()?;
        let repeat = self.kind.repeat();
        let (_, empty) = self.empty.run(&self.frame, &context, repeat)?;
        let (code, full) = self.program.run(&self.frame, &context, repeat)?;
        if code != self.kind.code() {
            bail!("{}: the program returned {code}", self.kind.name());
        }
        self.samples.push(i64::from(full) - i64::from(empty));
        Ok(())
    }

    /// Sends what comes before the packet, from the client, and lets policies hold or not.
    fn open(&self, world: &mut KernelWorld) {
        let world: &mut dyn World = world;
        world.put_settings(&settings());
        let (client, service) = (self.ip.client(40000), self.ip.service(80));
        if let Some(endpoint) = self.kind.policed(self.ip) {
            for ruleset in [EGRESS, INGRESS] {
                world.ruleset(ruleset, &[], &[WEB, PORTS]);
            }
            world.police(1);
            world.at_pod(Endpoint { egress: EGRESS, ingress: INGRESS, ..pod(client.ip()) });
            let before = if self.kind == Kind::Direct { self.ip.backend(7, 80) } else { service };
            world.send_bytes(Hook::FromPod, &first(self.proto, client, before).bytes());
            world.at_pod(endpoint);
            // What policies have to be asked the first time.
            world.send_bytes(Hook::FromPod, &self.frame);
        } else if !matches!(self.kind, Kind::New | Kind::NewSpread) {
            world.send_bytes(Hook::FromPod, &first(self.proto, client, service).bytes());
        }
    }

    /// Lowest, median and highest sample.
    fn spread(&self) -> (i64, i64, i64) {
        let mut samples = self.samples.clone();
        samples.sort_unstable();
        (samples[0], samples[samples.len() / 2], samples[samples.len() - 1])
    }

    fn protocol(&self) -> &'static str {
        if self.proto == proto::TCP { "tcp" } else { "udp" }
    }

    fn json(&self) -> serde_json::Value {
        let (lowest, median, highest) = self.spread();
        serde_json::json!({
            "case": self.kind.name(),
            "family": if self.ip.is_v6() { 6 } else { 4 },
            "protocol": self.protocol(),
            "services": self.services,
            "ns": median,
            "lowest_ns": lowest,
            "highest_ns": highest,
            "target_ns": self.kind.target(),
        })
    }
}

fn table(cases: &[&Case]) {
    println!(
        "{:<26} {:<6} {:<5} {:>9} {:>6} {:>15} {:>8}",
        "CASE", "FAMILY", "PROTO", "SERVICES", "NS", "RANGE", "TARGET"
    );
    for case in cases {
        let (lowest, median, highest) = case.spread();
        let family = if case.ip.is_v6() { "IPv6" } else { "IPv4" };
        let target = case.kind.target().map_or("-".to_owned(), |target| format!("<= {target}"));
        let range = format!("{lowest} to {highest}");
        println!(
            "{:<26} {family:<6} {:<5} {:>9} {median:>6} {range:>15} {target:>8}",
            case.kind.name(),
            case.protocol(),
            case.services
        );
    }
}
