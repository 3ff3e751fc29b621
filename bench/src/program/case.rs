// SPDX-License-Identifier: Apache-2.0
//! What is measured: a packet, where it comes in, and what there was before it.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use anyhow::{Context, Result, ensure};
use pintle_lab::bpf;
use pintle_lab::cluster::Cluster;
use pintle_lab::topology::Family;

use super::calibration::{XDP_TX, empty_program};
use super::site::{LENGTH, NODE_PORT_LOCAL, NODE_PORT_REMOTE, Place, Site, TARGET_PORT};
use super::wrapper::{Counting, Field, Ran, Wrapper};
use crate::cpu::Cpus;
use crate::fixed;
use crate::frame::{Frame, Transport, addresses_at, ports_at, ttl_at};

/// Runs of a packet of a known connection in one round.
const HITS: u32 = 300_000;
/// Runs of a packet with a new tuple in one round; each leaves one or two entries.
const NEW: u32 = 28_000;
/// The same in XDP, which leaves to tc who draws a port that stands for somebody else: with few connections
/// hardly anybody does.
const NEW_EARLY: u32 = 1_000;
/// One in so many runs in XDP may be left to tc, which nobody takes in a test run: one in each second, and who
/// draws a port that stands for somebody else.
const LEFT_TO_TC: u32 = 20;
/// Services that the spread of new tuples touches.
pub const TOUCHED: u32 = 10_000;
/// Source ports of clients: above what servers have, so that they tell who is the client.
const CLIENT_PORT: u16 = 32_768;
/// `TC_ACT_REDIRECT`, and on to the next program.
const REDIRECT: i32 = 7;
const NEXT: i32 = -1;
/// `XDP_PASS`.
const XDP_PASS: i32 = 2;

/// What a case measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Forward,
    Reply,
    New,
    NewSpread,
    Miss,
    /// The same between pods that policies select.
    PolicedForward,
    PolicedReply,
    PolicedNew,
    /// Connections between them that are not translated.
    Direct,
    DirectNew,
    /// From outside to a port of the node, with the pod there.
    NodePort,
    NodePortNew,
    /// With the pod on another node: the node stands for the client.
    Masqueraded,
    MasqueradedReply,
    /// The same before the kernel has a buffer for the packet.
    Early,
    EarlyReply,
    EarlyNew,
    /// Fixed values in place of all that these change, out of the same device: less no program can do.
    EarlyFixed,
}

impl Kind {
    /// In the order of tables.
    pub const ALL: [Self; 18] = [
        Self::Forward,
        Self::Reply,
        Self::New,
        Self::NewSpread,
        Self::Miss,
        Self::PolicedForward,
        Self::PolicedReply,
        Self::PolicedNew,
        Self::Direct,
        Self::DirectNew,
        Self::NodePort,
        Self::NodePortNew,
        Self::Masqueraded,
        Self::MasqueradedReply,
        Self::Early,
        Self::EarlyReply,
        Self::EarlyNew,
        Self::EarlyFixed,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward, known",
            Self::Reply => "reply, known",
            Self::New => "new tuple",
            Self::NewSpread => "new tuple, 10k services",
            Self::Miss => "not a service",
            Self::PolicedForward => "forward, known, policed",
            Self::PolicedReply => "reply, known, policed",
            Self::PolicedNew => "new tuple, policed",
            Self::Direct => "direct, known, policed",
            Self::DirectNew => "direct, new, policed",
            Self::NodePort => "node port, known",
            Self::NodePortNew => "node port, new tuple",
            Self::Masqueraded => "node port elsewhere, known",
            Self::MasqueradedReply => "node port elsewhere, reply",
            Self::Early => "XDP: node port elsewhere, known",
            Self::EarlyReply => "XDP: node port elsewhere, reply",
            Self::EarlyNew => "XDP: node port elsewhere, new tuple",
            Self::EarlyFixed => "XDP: fixed rewrites alone",
        }
    }

    /// Nanoseconds that the design allows.
    pub fn target(self) -> Option<u32> {
        match self {
            Self::Forward | Self::Reply => Some(60),
            Self::PolicedForward | Self::PolicedReply | Self::Direct => Some(60),
            Self::New => Some(400),
            Self::PolicedNew | Self::DirectNew => Some(550),
            Self::NewSpread => Some(1_200),
            Self::Miss => None,
            Self::NodePort | Self::NodePortNew => None,
            Self::Masqueraded | Self::MasqueradedReply => None,
            // Their target is a multiple of the last one.
            Self::Early | Self::EarlyReply | Self::EarlyNew | Self::EarlyFixed => None,
        }
    }

    /// Whether every run is the first packet of another connection.
    fn is_new(self) -> bool {
        matches!(
            self,
            Self::New
                | Self::NewSpread
                | Self::PolicedNew
                | Self::DirectNew
                | Self::NodePortNew
                | Self::EarlyNew
        )
    }

    fn repeat(self) -> u32 {
        match self {
            Self::EarlyNew => NEW_EARLY,
            _ if self.is_new() => NEW,
            _ => HITS,
        }
    }

    fn is_policed(self) -> bool {
        matches!(
            self,
            Self::PolicedForward
                | Self::PolicedReply
                | Self::PolicedNew
                | Self::Direct
                | Self::DirectNew
        )
    }

    /// The code of a run that did what it should.
    fn code(self) -> i32 {
        match self {
            Self::Miss | Self::Direct | Self::DirectNew => NEXT,
            // The many services have their pods on other nodes, where the stack leads.
            Self::NewSpread => NEXT,
            kind if kind.is_early() => XDP_TX,
            _ => REDIRECT,
        }
    }

    /// Whether a program of XDP deals with it.
    fn is_early(self) -> bool {
        matches!(self, Self::Early | Self::EarlyReply | Self::EarlyNew | Self::EarlyFixed)
    }

    fn is_masqueraded(self) -> bool {
        matches!(self, Self::Masqueraded | Self::MasqueradedReply)
    }

    fn translates(self) -> bool {
        !matches!(self, Self::Miss | Self::Direct | Self::DirectNew)
    }

    /// Where its packets come in.
    fn place(self) -> Place {
        let policed = self.is_policed();
        match self {
            Self::Reply | Self::PolicedReply => Place::Server(policed),
            Self::NodePort | Self::NodePortNew => Place::Uplink,
            Self::Masqueraded | Self::MasqueradedReply => Place::Uplink,
            kind if kind.is_early() => Place::Driver,
            _ => Place::Client(policed),
        }
    }

    /// Whether there is such a case.
    pub fn applies_to(self, site: &Site, family: Family, is_udp: bool) -> bool {
        // The many services are TCP's and IPv4's.
        let spread = family == Family::V4 && !is_udp && site.extent.services > TOUCHED;
        self != Self::NewSpread || spread
    }
}

/// A case, its two wrappers, and what was measured.
pub struct Case {
    pub kind: Kind,
    pub family: Family,
    pub is_udp: bool,
    frame: Frame,
    /// The same as it comes in.
    bytes: Vec<u8>,
    context: Vec<u8>,
    /// What comes before it, and where.
    opening: Option<(Place, Frame)>,
    program: Wrapper,
    empty: Wrapper,
    samples: Vec<i64>,
}

/// The programs that do nothing, and what they are compared with.
pub struct Empty {
    classifier: OwnedFd,
    xdp: OwnedFd,
}

impl Empty {
    /// Loads them.
    pub fn load() -> Result<Self> {
        let classifier = empty_program(bpf::Kind::Classifier)?;
        Ok(Self { classifier, xdp: empty_program(bpf::Kind::Xdp)? })
    }
}

impl Case {
    /// Prepares it; `empty` are the programs that do nothing.
    pub fn new(
        site: &Site,
        (kind, family, is_udp): (Kind, Family, bool),
        empty: &Empty,
        cpus: Cpus,
    ) -> Result<Self> {
        let ends = Ends::of(site, kind, family);
        let opening = !kind.is_new() && !matches!(kind, Kind::Miss | Kind::EarlyFixed);
        let opening = opening.then(|| (ends.dialled_at, ends.first(is_udp)));
        let frame = match kind {
            kind if kind.is_new() => ends.first(is_udp),
            Kind::Reply | Kind::PolicedReply => ends.answer(is_udp, ends.client),
            Kind::MasqueradedReply | Kind::EarlyReply => {
                // The node's address and port, as the first packet has left with them.
                let (place, first) = opening.context("a first packet")?;
                let sent = site.send(place, first, cpus)?.frame;
                let at = ports_at(ends.client.ip());
                let port = u16::from_be_bytes([sent[at], sent[at + 1]]);
                ends.answer(is_udp, SocketAddr::new(site.node_ip(family), port))
            }
            _ => ends.more(is_udp),
        };
        let entrance = site.entrance(kind.place())?;
        let bytes = entrance.addressed(frame.bytes(LENGTH));
        let (fields, counting) =
            (original(&bytes, family, is_udp), kind.counting(site, ends.client));
        let (of, empty) = match kind.is_early() {
            true => (bpf::Kind::Xdp, &empty.xdp),
            false => (bpf::Kind::Classifier, &empty.classifier),
        };
        let wrap = |target| Wrapper::new((of, target), &fields, &counting, LENGTH);
        let fixed = (kind == Kind::EarlyFixed).then(|| fixed::program(&bytes)).transpose()?;
        let program = match &fixed {
            Some(fixed) => wrap(fixed.as_raw_fd())?,
            None => wrap(entrance.program.as_fd().as_raw_fd())?,
        };
        let empty = wrap(empty.as_raw_fd())?;
        let (context, samples) = (entrance.context(), Vec::new());
        Ok(Self { kind, family, is_udp, frame, bytes, context, opening, program, empty, samples })
    }

    /// One round.
    pub fn measure(&mut self, site: &Site, cpus: Cpus) -> Result<()> {
        self.open(site, cpus)?;
        let repeat = self.kind.repeat();
        let run = |wrapper| site.repeat((wrapper, &self.context), &self.bytes, repeat, cpus);
        let empty = run(&self.empty)?;
        let before = site.redirected_early()?;
        let full = run(&self.program)?;
        let redirected = site.redirected_early()? - before;
        self.check(&full, redirected)?;
        self.samples.push(i64::from(full.ns) - i64::from(empty.ns));
        Ok(())
    }

    /// Every packet, or nearly every one, was dealt with as it should.
    fn check(&self, last: &Ran, redirected: u64) -> Result<()> {
        let repeat = self.kind.repeat();
        if self.kind.is_early() && self.kind != Kind::EarlyFixed {
            let enough = u64::from(repeat - repeat / LEFT_TO_TC);
            ensure!(redirected >= enough, "{redirected} of {repeat} redirected by XDP");
            if last.code == XDP_PASS {
                return Ok(());
            }
        }
        ensure!(last.code == self.kind.code(), "the program returned {}", last.code);
        let addresses = addresses_at(self.frame.src.ip())..ports_at(self.frame.src.ip());
        let translated = last.frame[addresses.clone()] != self.bytes[addresses];
        ensure!(translated == self.kind.translates(), "translated: {translated}");
        Ok(())
    }

    /// Begins with this case's connection alone.
    fn open(&self, site: &Site, cpus: Cpus) -> Result<()> {
        // Another case may have left this one's tuple, as another kind of connection.
        site.forget()?;
        if let Some((place, first)) = self.opening {
            site.send(place, first, cpus)?;
            // What policies have to be asked the first time.
            site.send(self.kind.place(), self.frame, cpus)?;
        }
        Ok(())
    }

    /// Lowest, median and highest sample in nanoseconds.
    pub fn spread(&self) -> [i64; 3] {
        let mut samples = self.samples.clone();
        samples.sort_unstable();
        match samples.len() {
            0 => [0; 3],
            count => [samples[0], samples[count / 2], samples[count - 1]],
        }
    }
}

/// Who talks to whom.
struct Ends {
    client: SocketAddr,
    dialled: SocketAddr,
    /// Where the first packet comes in.
    dialled_at: Place,
    /// Who answers.
    server: SocketAddr,
}

impl Ends {
    fn of(site: &Site, kind: Kind, family: Family) -> Self {
        let policed = kind.is_policed();
        let mut ends = Self {
            client: site.client(policed).addr(family, CLIENT_PORT),
            dialled: site.service(policed, family),
            dialled_at: Place::Client(policed),
            server: site.server(policed).addr(family, TARGET_PORT),
        };
        match kind {
            Kind::Miss | Kind::Direct | Kind::DirectNew => ends.dialled = ends.server,
            Kind::NewSpread => {
                let cluster = Cluster { services: site.extent.services, endpoints: 1 };
                ends.dialled = cluster.frontend(0).into();
            }
            Kind::NodePort | Kind::NodePortNew => ends.come_from_outside(site, NODE_PORT_LOCAL),
            kind if kind.is_early() || kind.is_masqueraded() => {
                ends.come_from_outside(site, NODE_PORT_REMOTE);
                ends.server = site.remote().addr(family, TARGET_PORT);
            }
            _ => {}
        }
        ends
    }

    fn come_from_outside(&mut self, site: &Site, port: u16) {
        let (family, outside) = match self.client {
            SocketAddr::V4(_) => (Family::V4, [198, 51, 100, 9].into()),
            SocketAddr::V6(_) => (Family::V6, [0xfd00, 0x51, 0, 0, 0, 0, 0, 9].into()),
        };
        self.client.set_ip(outside);
        self.dialled = SocketAddr::new(site.node_ip(family), port);
        self.dialled_at = Place::Uplink;
    }

    fn first(&self, is_udp: bool) -> Frame {
        let transport = if is_udp { Transport::Udp } else { Transport::TcpFirst };
        frame(self.client, self.dialled, transport)
    }

    fn more(&self, is_udp: bool) -> Frame {
        frame(self.client, self.dialled, segment(is_udp))
    }

    fn answer(&self, is_udp: bool, client: SocketAddr) -> Frame {
        frame(self.server, client, segment(is_udp))
    }
}

fn segment(is_udp: bool) -> Transport {
    if is_udp { Transport::Udp } else { Transport::Tcp }
}

fn frame(src: SocketAddr, dst: SocketAddr, transport: Transport) -> Frame {
    Frame { macs: [[0; 6]; 2], src, dst, transport, checksum: 0x1234 }
}

impl Kind {
    /// The client's port counts, so every run has a new tuple; and the service, where many are touched.
    fn counting(self, site: &Site, client: SocketAddr) -> Vec<Counting> {
        if !self.is_new() {
            return Vec::new();
        }
        let offset = ports_at(client.ip()) as i16;
        let port = Counting { offset, size: 2, base: CLIENT_PORT.into(), count: NEW };
        if self != Self::NewSpread {
            return vec![port];
        }
        let cluster = Cluster { services: site.extent.services, endpoints: 1 };
        let (first, _) = cluster.frontend(0);
        let offset = addresses_at(client.ip()) as i16 + 4;
        vec![port, Counting { offset, size: 4, base: first.to_bits(), count: TOUCHED }]
    }
}

/// Everything that a translation changes: link-layer addresses, TTL, addresses, ports, and the checksum
/// that covers them.
fn original(frame: &[u8], family: Family, is_udp: bool) -> Vec<Field> {
    let ip = match family {
        Family::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let word = |at: usize| {
        let value = u32::from_ne_bytes([0, 1, 2, 3].map(|index| frame[at + index]));
        Field { offset: at as i16, value, size: 4 }
    };
    // Who the frame is for and from, and the addresses and ports.
    let macs = (0..12).step_by(4).map(word);
    let words = macs.chain((addresses_at(ip)..=ports_at(ip)).step_by(4).map(word));
    let ttl = Field { offset: ttl_at(ip) as i16, value: u32::from(frame[ttl_at(ip)]), size: 1 };
    let at = ports_at(ip) + if is_udp { 6 } else { 16 };
    let checksum = u16::from_ne_bytes([frame[at], frame[at + 1]]);
    let checksum = Field { offset: at as i16, value: checksum.into(), size: 2 };
    words.chain([ttl, checksum]).collect()
}
