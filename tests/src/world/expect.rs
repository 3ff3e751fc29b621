// SPDX-License-Identifier: Apache-2.0
//! What moved in a [`World`], as words: everything, so that a vector fails by what nobody expected.

use std::fmt::Write as _;

use pintle_abi::{
    addr::proto,
    counter::{Counter, Hook, counter_index, drop_index},
    drop_reason::DropReason,
    policy::outcome,
};

use super::{Table, World};

/// Why policies drop packets.
const DENIALS: [DropReason; 6] = [
    DropReason::DeniedEgress,
    DropReason::DeniedIngress,
    DropReason::NotProgrammed,
    DropReason::PolicyCapacity,
    DropReason::RowMissing,
    DropReason::Spoofed,
];

/// The protocols that have flows, with the word for each.
const FLOW_PROTOCOLS: [(u8, &str); 3] =
    [(proto::TCP, "tcp"), (proto::UDP, "udp"), (proto::SCTP, "sctp")];

impl dyn World + '_ {
    /// Every counter and drop that is not 0.
    fn moved(&self) -> String {
        let mut text = String::new();
        let mut add = |count: u64, hook: Hook, what: &str| {
            if count > 0 {
                let separator = if text.is_empty() { "" } else { ", " };
                let _ = write!(text, "{separator}{}: {count} {what}", hook.as_str());
            }
        };
        for hook in Hook::ALL.iter().filter(|hook| **hook != Hook::Xdp) {
            for counter in Counter::ALL {
                add(self.count(*hook, *counter), *hook, counter.as_str());
            }
            for reason in DropReason::ALL {
                let what = format!("dropped ({})", reason.as_str());
                add(self.dropped(*hook, *reason), *hook, &what);
            }
        }
        text
    }

    /// How many flow entries there are.
    fn flow_counts(&self) -> String {
        let mut counts = Vec::new();
        for (proto, word) in FLOW_PROTOCOLS {
            for (table, name) in [(Table::Main, "flows"), (Table::Overflow, "overflow flows")] {
                let count = |v6| self.flows(v6, proto, table).len();
                let sum = count(false) + count(true);
                if sum > 0 {
                    counts.push(format!("{sum} {word} {name}"));
                }
            }
        }
        counts.join(", ")
    }

    /// Exactly this has moved since the world began.
    #[track_caller]
    pub fn expect(&self, moved: &str) {
        let separator = if self.flow_counts().is_empty() { "" } else { ", " };
        assert_eq!(format!("{}{separator}{}", self.moved(), self.flow_counts()), moved);
    }

    /// Exactly this has moved at XDP and at `from_net` behind it, each by itself.
    #[track_caller]
    pub fn expect_early(&self, moved: &str) {
        let mut found = Vec::new();
        for hook in [Hook::Xdp, Hook::FromNet] {
            let mut add = |index, what: String| match self.counter(index) {
                0 => {}
                count => found.push(format!("{}: {count} {what}", hook.as_str())),
            };
            for counter in Counter::ALL {
                add(counter_index(hook, *counter), counter.as_str().to_owned());
            }
            for reason in DropReason::ALL {
                add(drop_index(hook, *reason), format!("dropped ({})", reason.as_str()));
            }
        }
        assert_eq!(found.join(", "), moved);
    }

    /// Exactly these counters have moved since the world began; the maps hold what they hold.
    #[track_caller]
    pub fn expect_counters(&self, moved: &str) {
        assert_eq!(self.moved(), moved);
    }

    /// A counter of a hook. What XDP does counts with `from_net`, for which vectors are written; what
    /// passes it is met there.
    pub fn count(&self, hook: Hook, counter: Counter) -> u64 {
        let shared = hook == Hook::FromNet && counter != Counter::Passed;
        self.counter(counter_index(hook, counter)) + if shared { self.early(counter) } else { 0 }
    }

    /// A counter of XDP, which is 0 without it.
    pub fn early(&self, counter: Counter) -> u64 {
        self.counter(counter_index(Hook::Xdp, counter))
    }

    /// A drop reason of a hook, see [`Self::count`].
    pub fn dropped(&self, hook: Hook, reason: DropReason) -> u64 {
        let early = match hook {
            Hook::FromNet => self.counter(drop_index(Hook::Xdp, reason)),
            _ => 0,
        };
        self.counter(drop_index(hook, reason)) + early
    }

    /// The packets that policies dropped, or would have, are those of which the maps say why: each is
    /// noted once.
    #[track_caller]
    pub fn denials_add_up(&self) {
        let denied = self.denied();
        let noted = |outcome: u8| -> u64 {
            let alike = denied.iter().filter(|(key, _)| key.outcome == outcome);
            alike.map(|(_, value)| value.packets).sum()
        };
        for reason in DENIALS {
            let dropped: u64 = Hook::ALL.iter().map(|hook| self.dropped(*hook, reason)).sum();
            assert_eq!(noted(reason as u8), dropped, "{}: {denied:?}", reason.as_str());
        }
        let passed: u64 = Hook::ALL.iter().map(|hook| self.count(*hook, Counter::WouldDrop)).sum();
        assert_eq!(noted(outcome::WOULD_DROP), passed, "would drop: {denied:?}");
    }
}
