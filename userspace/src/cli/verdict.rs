// SPDX-License-Identifier: Apache-2.0
//! Cells that name a verdict: tier, policy and rule.

use pintle_abi::addr::proto;

use super::output::{Cell, Tone};
use crate::{policy::Outcome, server::policy::Cause};

/// Tier, policies and rule; unknown without a cause.
pub fn cells(cause: Option<&Cause>) -> [Cell; 3] {
    let Some(cause) = cause else { return [Cell::Unknown, Cell::Unknown, Cell::Unknown] };
    [
        cause.tier().map_or(Cell::None, Cell::text),
        Cell::Words(cause.policies().to_vec()),
        Cell::text(cause.rule()),
    ]
}

/// Policies and rule in a few words: `shop/web ingress[0]`.
pub fn words(cause: &Cause) -> String {
    match cause.policies() {
        [] => cause.rule(),
        policies => format!("{} {}", policies.join(","), cause.rule()),
    }
}

/// What became of packets.
pub fn outcome(outcome: Outcome) -> Cell {
    let tone = match outcome {
        Outcome::WouldDeny => Tone::Warning,
        Outcome::Denied | Outcome::Closed | Outcome::RowMissing | Outcome::NotProgrammed => {
            Tone::Bad
        }
    };
    Cell::Word(outcome.as_str(), tone)
}

/// A protocol by its name, or its number.
pub fn protocol(number: u8) -> String {
    match number {
        proto::ICMP => "ICMP".into(),
        proto::TCP => "TCP".into(),
        proto::UDP => "UDP".into(),
        proto::ICMPV6 => "ICMPv6".into(),
        proto::SCTP => "SCTP".into(),
        number => number.to_string(),
    }
}
