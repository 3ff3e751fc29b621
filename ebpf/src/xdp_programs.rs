// SPDX-License-Identifier: Apache-2.0
//! The programs of XDP, and steps as its return codes.

use aya_ebpf::bindings::{
    xdp_action::{XDP_DROP, XDP_PASS},
    xdp_md,
};
use pintle_abi::{
    addr::{V4, V6, proto},
    counter::{Counter, Hook},
    step::XdpStep,
};
use pintle_ebpf::{
    connect::Attempt,
    family::{Family, Version},
    hooks::{Next, Step, Xdp, early, entrance},
    maps,
    packet::Packet as _,
    reject, report,
    wire::ethernet::ethertype,
};

use crate::xdp::Frame;

/// Traffic that comes from the network, before the kernel has a buffer for it: uplinks.
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp.frags")]
pub extern "C" fn xdp(context: *mut xdp_md) -> u32 {
    let frame = Frame::new(context);
    match frame.ethertype() {
        ethertype::IPV4 => handle::<V4>(frame),
        ethertype::IPV6 => jump(&frame, XdpStep::HandleV6 as u32),
        _ => XDP_PASS,
    }
}

/// Declares the programs of the steps.
macro_rules! steps {
    ($($(#[$meta:meta])* $name:ident: $family:ty = $step:ident;)*) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "xdp.frags")]
        pub extern "C" fn $name(context: *mut xdp_md) -> u32 {
            $step::<$family>(Frame::new(context))
        }
    )*};
}

steps! {
    /// IPv6 that comes from the network.
    xdp_v6: V6 = handle;
    /// A new connection.
    xdp_connect_v4: V4 = connect;
    /// The same for IPv6.
    xdp_connect_v6: V6 = connect;
    /// A refusal.
    xdp_refuse_v4: V4 = refuse;
    /// The same for IPv6.
    xdp_refuse_v6: V6 = refuse;
}

#[inline(always)]
fn handle<F: Family>(frame: Frame) -> u32 {
    let mut frame = frame.measured::<F>();
    let step = early::handle::<F, _>(&mut frame, Version::<F>::THIS);
    finish::<F>(frame, step)
}

#[inline(always)]
fn connect<F: Family>(frame: Frame) -> u32 {
    let mut frame = frame.measured::<F>();
    let step = entrance::connect::<Xdp, F, _>(&mut frame, Attempt::Thorough as u32);
    finish::<F>(frame, step)
}

#[inline(always)]
fn refuse<F: Family>(frame: Frame) -> u32 {
    let mut frame = frame.measured::<F>();
    // SAFETY: the element is this CPU's own, and lives as long as the map.
    let reason = maps::XDP_ARGUMENT.get(0).map_or(0, |argument| unsafe { *argument });
    match reject::refuse::<Xdp, F, _>(&mut frame, reason).next {
        Next::Send => frame.answer::<F>(),
        _ => XDP_DROP,
    }
}

/// The step's number, or the program that takes it.
#[inline(always)]
fn finish<F: Family>(mut frame: Frame, step: Step) -> u32 {
    let step = early::narrowed(step);
    let next = match step.next {
        Next::Pass => return XDP_PASS,
        Next::Send => return frame.leave(),
        Next::Unusual => XdpStep::HandleV4,
        Next::Connect => XdpStep::ConnectV4,
        Next::Refuse => XdpStep::RefuseV4,
        _ => return XDP_DROP,
    };
    if let Some(argument) = maps::XDP_ARGUMENT.get(0) {
        // SAFETY: the element is this CPU's own, and lives as long as the map.
        unsafe { *argument = step.argument };
    }
    // The programs of a step stand side by side, see `XdpStep`.
    let family = u32::from(F::ICMP == proto::ICMPV6);
    jump(&frame, next as u32 + family)
}

/// Goes on with another program; if that is not there, the frame is left to tc.
#[inline(always)]
fn jump(frame: &Frame, place: u32) -> u32 {
    maps::XDP_STEPS.call(frame.context().cast(), place);
    report::count(Hook::Xdp, Counter::Passed);
    XDP_PASS
}
