// SPDX-License-Identifier: Apache-2.0
//! The verdict of one pod's policies about one peer and port: endpoint, class, port class, row.
//!
//! Nothing is cached here, and everything that is not there is a reason to drop: a ruleset without
//! row, a pod without endpoint.

use pintle_abi::{
    addr::{V4, V6, proto},
    drop_reason::DropReason,
    policy::{
        Allowed, AllowedKey, Denied, DeniedKey, Endpoint, PORT_CLASSES, PolicyPort, RowKey,
        outcome, policy_mode, ruleset,
    },
    socket::family,
};

use crate::{
    family::Family,
    kernel::{IfPresent, increment, now_ns},
    maps, report,
};

/// Which end of a connection a pod is.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It began it: its egress is judged.
    Client,
    /// The other one: its ingress is judged.
    Server,
}

/// Why a pod's policies are asked.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The pod has not allowed the connection yet.
    New,
    /// The same, and who began it is a guess: after a denial something else is asked, and decides.
    Guess,
    /// The pod has allowed the connection before, or there are no connections without ports.
    Again,
    /// The packet is not to pass: nothing is known of the pod, or it uses a source that is not its own.
    Doubt,
}

impl Occasion {
    /// Of a connection that its pod allowed at an epoch; 0 for never.
    #[inline(always)]
    pub fn of(judged: u32) -> Self {
        if judged == 0 { Self::New } else { Self::Again }
    }
}

/// Allowed.
pub const ALLOWED: u32 = 0;
/// Allowed; the audited policies would not. What asks is told [`ALLOWED`].
const WOULD_DROP: u32 = 1;
/// The number of the drop reason that stands for 0.
const DENIED: u32 = 2;

/// The code of a denial.
#[inline(always)]
const fn denied(reason: DropReason) -> u32 {
    reason as u32 + DENIED
}

/// The reason behind a code that is not [`ALLOWED`].
#[inline(always)]
pub fn reason(code: u32) -> DropReason {
    const EGRESS: u32 = denied(DropReason::DeniedEgress);
    const INGRESS: u32 = denied(DropReason::DeniedIngress);
    const CAPACITY: u32 = denied(DropReason::PolicyCapacity);
    const MISSING: u32 = denied(DropReason::RowMissing);
    const SPOOFED: u32 = denied(DropReason::Spoofed);
    match code {
        EGRESS => DropReason::DeniedEgress,
        INGRESS => DropReason::DeniedIngress,
        CAPACITY => DropReason::PolicyCapacity,
        MISSING => DropReason::RowMissing,
        SPOOFED => DropReason::Spoofed,
        _ => DropReason::NotProgrammed,
    }
}

/// What is judged, packed into two integers that a function of the kernel can take: such a function is
/// verified once, whoever calls it. It unpacks where it needs to, which spares its stack.
#[derive(Clone, Copy)]
pub struct Question {
    /// Ifindex of the pod, and the hook that asks.
    pub place: u64,
    /// Port of the server in network byte order, protocol, which end the pod is, and why it is asked.
    pub what: u32,
}

impl Question {
    /// A question of a hook about the pod that is this end, behind an interface.
    #[inline(always)]
    pub fn new(
        hook: u32,
        (end, ifindex): (End, u32),
        (proto, port): (u8, u16),
        occasion: Occasion,
    ) -> Self {
        let why = (end as u32) << 24 | (occasion as u32) << 25;
        Self {
            place: u64::from(ifindex) | u64::from(hook) << 32,
            what: u32::from(port) | u32::from(proto) << 16 | why,
        }
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        self.place as u32
    }

    #[inline(always)]
    fn hook(self) -> u32 {
        (self.place >> 32) as u32
    }

    #[inline(always)]
    fn port(self) -> u16 {
        self.what as u16
    }

    #[inline(always)]
    fn proto(self) -> u8 {
        (self.what >> 16) as u8
    }

    #[inline(always)]
    fn end(self) -> End {
        if self.what >> 24 & 1 == 0 { End::Client } else { End::Server }
    }

    #[inline(always)]
    fn is(self, occasion: Occasion) -> bool {
        self.what >> 25 == occasion as u32
    }
}

/// The pod behind an interface.
#[inline(always)]
pub fn endpoint(ifindex: u32) -> Option<&'static Endpoint> {
    // SAFETY: an element stays readable while the program runs (RCU).
    maps::ENDPOINTS.get(&ifindex).map(|endpoint| unsafe { &*endpoint })
}

/// [`judge`] for IPv4, as a function that the kernel verifies once.
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
#[inline(never)]
pub extern "C" fn judge_v4(place: u64, peer: u32, what: u32) -> u32 {
    judge::<V4>(Question { place, what }, V4(peer))
}

/// [`judge`] for IPv6, as a function that the kernel verifies once.
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
#[inline(never)]
pub extern "C" fn judge_v6(place: u64, high: u64, low: u64, what: u32) -> u32 {
    judge::<V6>(Question { place, what }, v6(high, low))
}

/// An IPv6 address as a function of the kernel takes it.
#[inline(always)]
pub fn v6(high: u64, low: u64) -> V6 {
    V6([(high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32])
}

/// What the policies of a pod say about a peer: [`ALLOWED`] or the code of a reason. A verdict that
/// decides is counted here; a denied guess decides nothing.
#[inline(always)]
fn judge<F: Family>(question: Question, peer: F) -> u32 {
    let mut found = AllowedKey { ruleset: ruleset::OPEN, class: 0, port_class: 0 };
    let code = find(question, peer, &mut found);
    if code < DENIED && found.ruleset != ruleset::OPEN && !question.is(Occasion::Again) {
        admit(&found);
    }
    if code == ALLOWED || code >= DENIED && question.is(Occasion::Guess) {
        return code;
    }
    note(question, peer, &found, code);
    if code == WOULD_DROP {
        report::would_drop(question.hook());
        return ALLOWED;
    }
    code
}

#[inline(always)]
fn find<F: Family>(question: Question, peer: F, found: &mut AllowedKey) -> u32 {
    let Some(endpoint) = endpoint(question.ifindex()) else {
        let open = maps::settings().is_some_and(|settings| settings.policy == policy_mode::OPEN);
        return if open { ALLOWED } else { denied(DropReason::NotProgrammed) };
    };
    if question.is(Occasion::Doubt) {
        return denied(DropReason::Spoofed);
    }
    found.ruleset = ruleset_of(endpoint, question, peer);
    match found.ruleset {
        ruleset::OPEN => ALLOWED,
        ruleset::CLOSED => denied(DropReason::PolicyCapacity),
        _ => {
            found.class = class(peer);
            found.port_class = port_class(found.ruleset, question);
            look_up(found, question)
        }
    }
}

/// A pod that reaches itself through a service has rulesets of its own for that.
#[inline(always)]
fn ruleset_of<F: Family>(endpoint: &Endpoint, question: Question, peer: F) -> u32 {
    match (question.end(), peer == F::pod_address(endpoint)) {
        (End::Client, false) => endpoint.egress,
        (End::Server, false) => endpoint.ingress,
        (End::Client, true) => endpoint.hairpin_egress,
        (End::Server, true) => endpoint.hairpin_ingress,
    }
}

#[inline(always)]
fn class<F: Family>(peer: F) -> u32 {
    if let Some(class) = F::peers().get(&peer) {
        // SAFETY: an element stays readable while the program runs (RCU).
        return unsafe { *class };
    }
    // SAFETY: as above.
    F::peer_ranges().get(peer).map_or(0, |class| unsafe { *class })
}

#[inline(always)]
fn port_class(ruleset: u32, question: Question) -> u32 {
    let (proto, port) = (question.proto(), question.port());
    let key = PolicyPort { ruleset: ruleset.to_be(), proto, pad: 0, port };
    // SAFETY: as above.
    maps::POLICY_PORTS.get(key).map_or(0, |class| unsafe { *class }) & (PORT_CLASSES - 1)
}

#[inline(always)]
fn look_up(found: &AllowedKey, question: Question) -> u32 {
    let key = RowKey { ruleset: found.ruleset, class: found.class };
    let Some(row) = maps::POLICY_ROWS.get(&key) else { return denied(DropReason::RowMissing) };
    // SAFETY: as above.
    let row = unsafe { &*row };
    let (word, bit) = ((found.port_class >> 6) as usize & 3, found.port_class & 63);
    if row.allow[word] >> bit & 1 == 0 {
        return denied(match question.end() {
            End::Client => DropReason::DeniedEgress,
            End::Server => DropReason::DeniedIngress,
        });
    }
    if row.staged[word] >> bit & 1 == 0 { WOULD_DROP } else { ALLOWED }
}

/// Counts a connection where user space can name the policy that allows it.
#[inline(always)]
fn admit(found: &AllowedKey) {
    let add = || {
        let _ = maps::ALLOWED.insert(found, &NOT_YET, IfPresent::Refuse);
        maps::ALLOWED.get(found)
    };
    if let Some(allowed) = maps::ALLOWED.get(found).or_else(add) {
        // SAFETY: an element stays readable and writable while the program runs (RCU).
        increment(unsafe { &mut (*allowed).connections });
    }
}

/// What a new element of `ALLOWED` begins with.
static NOT_YET: Allowed = Allowed { connections: 0 };

/// Counts a denial where user space can name its policy.
#[inline(always)]
fn note<F: Family>(question: Question, peer: F, found: &AllowedKey, code: u32) {
    let outcome = if code == WOULD_DROP { outcome::WOULD_DROP } else { (code - DENIED) as u8 };
    let key = DeniedKey {
        ifindex: question.ifindex(),
        ruleset: found.ruleset,
        class: found.class,
        port_class: found.port_class as u16,
        ingress: question.end() as u8,
        outcome,
    };
    let family = if F::ICMP == proto::ICMP { family::V4 } else { family::V6 };
    // Without memory for it the packet is counted at its hook only.
    let Some(denied) = maps::DENIED.get(&key).or_else(|| add(&key)) else { return };
    // SAFETY: an element stays readable and writable while the program runs (RCU).
    let denied = unsafe { &mut *denied };
    increment(&mut denied.packets);
    denied.last_seen_ns = now_ns();
    denied.peer = peer.words();
    denied.port = question.port();
    denied.proto = question.proto();
    denied.family = family as u8;
    denied.hook = question.hook();
}

/// What a new element of `DENIED` begins with. Not on the stack, which is scarce.
static NONE: Denied =
    Denied { packets: 0, last_seen_ns: 0, peer: [0; 4], port: 0, proto: 0, family: 0, hook: 0 };

#[inline(always)]
fn add(key: &DeniedKey) -> Option<*mut Denied> {
    let _ = maps::DENIED.insert(key, &NONE, IfPresent::Refuse);
    maps::DENIED.get(key)
}
