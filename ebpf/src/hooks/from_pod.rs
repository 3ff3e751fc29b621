// SPDX-License-Identifier: Apache-2.0
//! `from_pod`: traffic that leaves a local pod.
//!
//! Packets to a service address are translated to a backend, replies of a local backend back to the
//! service address. Both go straight to the other pod when the whole flow may skip the host's stack.

use pintle_abi::{
    addr::Tuple,
    counter::{Counter, Hook},
    drop_reason::DropReason,
    flow::{Flow, flow_flags},
};

use super::Action;
use crate::{
    family::{Family, FlowMaps},
    flow::{self, Found},
    fragment, icmp, lb, maps,
    nat::{self, Hop},
    packet::{Headers, Packet},
    reject, report,
    wire::ethernet,
};

/// Handles a packet that leaves a pod.
#[inline(always)]
pub fn handle<F: Family, P: Packet>(packet: &mut P) -> Action {
    let Some(mut headers) = F::parse(packet, ethernet::LEN) else { return pass() };
    match steer(packet, &mut headers) {
        Ok(action) => action,
        Err(reason) => reject::conclude(packet, &headers, reason),
    }
}

#[inline(always)]
fn steer<F: Family, P: Packet>(
    packet: &mut P,
    headers: &mut Headers<F>,
) -> Result<Action, DropReason> {
    if headers.proto == F::ICMP && !headers.malformed {
        if let Some(action) = icmp::from_pod(packet, headers)? {
            return Ok(action);
        }
    }
    let ports_known = fragment::resolve(headers);
    let flows = F::flows(headers.proto).filter(|_| ports_known && !headers.malformed);
    if let Some(flows) = flows {
        match flow::find(flows, &headers.tuple) {
            Found::FromBackend(main) => return reply(packet, headers, main),
            Found::FromClient(alias) => {
                if let Some(main) = flow::resume(flows, headers, alias) {
                    flow::seen_forward(main, headers, packet);
                    return forward(packet, headers, main, &alias.other);
                }
            }
            Found::Nothing => {}
        }
    }
    let Some(frontend) = lb::find_frontend(headers) else { return Ok(pass()) };
    let frontend = frontend?;
    let Some(flows) = flows else { return Err(DropReason::FragmentUnknown) };
    connect(packet, headers, flows, lb::select(&headers.tuple, frontend)?)
}

/// The first packet of a connection.
#[inline(always)]
fn connect<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    flows: FlowMaps<F>,
    choice: lb::Choice<F>,
) -> Result<Action, DropReason> {
    let (main, server) = flow::create(flows, headers, packet, &choice)?;
    forward(packet, headers, main, &server)
}

/// From the client to the backend.
#[inline(always)]
fn forward<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    main: &Flow<F>,
    server: &Tuple<F>,
) -> Result<Action, DropReason> {
    let (action, hop) = route(headers, main, backend_ifindex(packet, main));
    nat::rewrite(packet, headers, server, hop)?;
    report::count(Hook::FromPod, Counter::Forward);
    Ok(action)
}

/// From the backend to the client. Through the stack it stays as it is until `to_pod`: the stack's
/// own conntrack would not recognize an answer from the service address.
#[inline(always)]
fn reply<F: Family, P: Packet>(
    packet: &mut P,
    headers: &Headers<F>,
    main: &mut Flow<F>,
) -> Result<Action, DropReason> {
    let (action, hop) = route(headers, main, main.client_ifindex);
    if action == Action::Pass {
        return Ok(pass());
    }
    let client = main.other.reverse();
    flow::seen_reply(main, headers, packet);
    nat::rewrite(packet, headers, &client, hop)?;
    report::count(Hook::FromPod, Counter::Reply);
    Ok(action)
}

/// Where a translated packet goes: past the stack if the flow may, through it otherwise.
///
/// A packet at the end of its life goes through the stack, which tells its sender.
#[inline(always)]
pub fn route<F: Family>(headers: &Headers<F>, flow: &Flow<F>, ifindex: u32) -> (Action, Hop) {
    let fast = flow.flags & flow_flags::HAIRPIN != 0
        || (flow.flags & flow_flags::FAST != 0
            && headers.ttl > 1
            && maps::settings().is_some_and(|settings| settings.fast_path != 0));
    if !fast || ifindex == 0 {
        return (Action::Pass, Hop::InStack);
    }
    report::count(Hook::FromPod, Counter::Redirected);
    (Action::Deliver(ifindex), Hop::Here)
}

/// The interface of a flow's backend; 0 if it has none or is gone.
#[inline(always)]
pub fn backend_ifindex<F: Family>(packet: &impl Packet, flow: &Flow<F>) -> u32 {
    if flow.flags & flow_flags::HAIRPIN != 0 {
        return packet.ifindex();
    }
    lb::backend::<F>(flow.backend)
        .filter(|backend| backend.generation == flow.generation)
        .map_or(0, |backend| backend.ifindex)
}

#[inline(always)]
fn pass() -> Action {
    report::count(Hook::FromPod, Counter::Passed);
    Action::Pass
}
