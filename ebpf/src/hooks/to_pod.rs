// SPDX-License-Identifier: Apache-2.0
//! `to_pod`: traffic that reaches a local pod through the host's stack.
//!
//! Replies of a backend get the service address back; so do the packets quoted in ICMP errors.

use pintle_abi::{
    counter::{Counter, Hook},
    drop_reason::DropReason,
};

use super::Action;
use crate::{
    family::Family,
    flow::{self, Found},
    fragment, icmp,
    nat::{self, Hop},
    packet::{Headers, Packet},
    report,
    wire::ethernet,
};

/// Handles a packet that is about to enter a pod.
#[inline(always)]
pub fn handle<F: Family, P: Packet>(packet: &mut P) -> Action {
    let Some(mut headers) = F::parse(packet, ethernet::LEN) else { return pass() };
    match translate(packet, &mut headers) {
        Ok(action) => action,
        Err(reason) => {
            report::dropped(Hook::ToPod, reason);
            Action::Drop
        }
    }
}

#[inline(always)]
fn translate<F: Family, P: Packet>(
    packet: &mut P,
    headers: &mut Headers<F>,
) -> Result<Action, DropReason> {
    if headers.malformed {
        return Ok(pass());
    }
    if headers.proto == F::ICMP {
        return Ok(if icmp::to_pod(packet, headers)? { Action::Pass } else { pass() });
    }
    let Some(flows) = F::flows(headers.proto) else { return Ok(pass()) };
    if !fragment::resolve(headers) {
        return Ok(pass());
    }
    let Found::FromBackend(main) = flow::find(flows, &headers.tuple) else { return Ok(pass()) };
    let client = main.other.reverse();
    flow::seen_reply(main, headers, packet);
    nat::rewrite(packet, headers, &client, Hop::InStack)?;
    report::count(Hook::ToPod, Counter::Reply);
    Ok(Action::Pass)
}

#[inline(always)]
fn pass() -> Action {
    report::count(Hook::ToPod, Counter::Passed);
    Action::Pass
}
