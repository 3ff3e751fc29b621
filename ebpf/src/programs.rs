// SPDX-License-Identifier: Apache-2.0
//! The tc programs: which hook and step each takes, and actions as return codes.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use pintle_abi::{
    addr::{V4, V6, proto},
    counter::Hook,
    drop_reason::DropReason,
    step::RareStep,
};
use pintle_ebpf::{
    family::{Family, Version},
    held,
    hooks::{self, Entrance, FromNet, FromPod, Next, Step, ToNet, ToPod, entrance, judge, to_pod},
    maps,
    packet::Packet as _,
    reject, report,
    wire::ethernet::ethertype,
};

use crate::{
    route,
    tc::{Skb, deliver, receive},
};

/// On to the next program: `TCX_NEXT`, and `TC_ACT_UNSPEC` for clsact. Returning 0 would cut off
/// the programs and filters behind us.
const NEXT: i32 = -1;

/// Declares the programs of the hooks, which take packets of both families. One that would be too much
/// for the verifier takes IPv4 itself and jumps to its twin for IPv6.
macro_rules! programs {
    ($($(#[$meta:meta])* $v4:ident, $v6:ident = $hook:expr, $other:expr, $step:path;)*) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "classifier")]
        pub extern "C" fn $v4(skb: *mut __sk_buff) -> i32 {
            let mut skb = Skb(skb);
            match skb.ethertype() {
                ethertype::IPV4 => {
                    let step = $step(&mut skb, Version::<V4>::THIS);
                    finish::<V4>(&skb, $hook, step)
                }
                ethertype::IPV6 => jump(&skb, $hook, $other as u32, DropReason::StepMissing),
                _ => NEXT,
            }
        }

        steps! { @one $(#[$meta])* $v6: V6 = $hook, $step }
    )*};
    ($($(#[$meta:meta])* $name:ident = $hook:expr, $step:path;)*) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "classifier")]
        pub extern "C" fn $name(skb: *mut __sk_buff) -> i32 {
            let mut skb = Skb(skb);
            match skb.ethertype() {
                ethertype::IPV4 => {
                    let step = $step(&mut skb, Version::<V4>::THIS);
                    finish::<V4>(&skb, $hook, step)
                }
                ethertype::IPV6 => {
                    let step = $step(&mut skb, Version::<V6>::THIS);
                    finish::<V6>(&skb, $hook, step)
                }
                _ => NEXT,
            }
        }
    )*};
}

/// Declares programs that take packets of one family: those of rare steps, one for each.
macro_rules! steps {
    ($($(#[$meta:meta])* $v4:ident, $v6:ident = $hook:expr, $step:path;)*) => {$(
        steps! { @one $(#[$meta])* $v4: V4 = $hook, $step }
        steps! { @one $(#[$meta])* $v6: V6 = $hook, $step }
    )*};
    (@one $(#[$meta:meta])* $name:ident: $family:ty = $hook:expr, $step:path) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "classifier")]
        pub extern "C" fn $name(skb: *mut __sk_buff) -> i32 {
            let mut skb = Skb(skb);
            let step = $step(&mut skb, Version::<$family>::THIS);
            finish::<$family>(&skb, $hook, step)
        }
    };
}

programs! {
    /// Traffic that leaves a local pod: ingress of the host side of its veth.
    from_pod, from_pod_v6 = Hook::FromPod, RareStep::FromPodV6, entrance::handle::<FromPod, _, _>;
    /// Traffic that comes from the network: ingress of uplinks and overlay devices.
    from_net, from_net_v6 = Hook::FromNet, RareStep::FromNetV6, entrance::handle::<FromNet, _, _>;
    /// Traffic that leaves for the network: egress of the same devices and of loopback.
    to_net, to_net_v6 = Hook::ToNet, RareStep::ToNetV6, entrance::handle::<ToNet, _, _>;
}

programs! {
    /// Traffic that reaches a local pod through the host's stack: egress of the same device.
    to_pod = Hook::ToPod, to_pod::handle;
}

steps! {
    /// Fragments, IP options and extension headers behind `from_pod`.
    from_pod_unusual_v4, from_pod_unusual_v6 = Hook::FromPod, unusual::<FromPod, _>;
    /// Fragments, IP options and extension headers behind `to_pod`.
    to_pod_unusual_v4, to_pod_unusual_v6 = Hook::ToPod, to_pod::unusual;
    /// ICMP behind `from_pod`.
    from_pod_icmp_v4, from_pod_icmp_v6 = Hook::FromPod, entrance::icmp::<FromPod, _, _>;
    /// ICMP behind `to_pod`.
    to_pod_icmp_v4, to_pod_icmp_v6 = Hook::ToPod, to_pod::icmp;
    /// A new connection behind `from_pod` that is not of the common kind.
    from_pod_connect_v4, from_pod_connect_v6 = Hook::FromPod, connect::<FromPod, _>;
    /// A fragment before its first one behind `from_pod`.
    from_pod_hold_v4, from_pod_hold_v6 = Hook::FromPod, held::hold::<FromPod, _, _>;
    /// A fragment behind `from_pod`; others may wait for it.
    from_pod_release_v4, from_pod_release_v6 = Hook::FromPod, entrance::release::<FromPod, _, _>;
    /// A refusal behind `from_pod`.
    from_pod_refuse_v4, from_pod_refuse_v6 = Hook::FromPod, refuse::<FromPod, _>;
    /// Fragments, IP options and extension headers behind `from_net`.
    from_net_unusual_v4, from_net_unusual_v6 = Hook::FromNet, unusual::<FromNet, _>;
    /// ICMP behind `from_net`.
    from_net_icmp_v4, from_net_icmp_v6 = Hook::FromNet, entrance::icmp::<FromNet, _, _>;
    /// A new connection behind `from_net` that is not of the common kind.
    from_net_connect_v4, from_net_connect_v6 = Hook::FromNet, connect::<FromNet, _>;
    /// A fragment before its first one behind `from_net`.
    from_net_hold_v4, from_net_hold_v6 = Hook::FromNet, held::hold::<FromNet, _, _>;
    /// A fragment behind `from_net`; others may wait for it.
    from_net_release_v4, from_net_release_v6 = Hook::FromNet, entrance::release::<FromNet, _, _>;
    /// A refusal behind `from_net`.
    from_net_refuse_v4, from_net_refuse_v6 = Hook::FromNet, refuse::<FromNet, _>;
    /// Fragments, IP options and extension headers behind `to_net`.
    to_net_unusual_v4, to_net_unusual_v6 = Hook::ToNet, unusual::<ToNet, _>;
    /// A fragment behind `to_net`.
    to_net_release_v4, to_net_release_v6 = Hook::ToNet, entrance::release::<ToNet, _, _>;
    /// ICMP behind `to_net`.
    to_net_icmp_v4, to_net_icmp_v6 = Hook::ToNet, entrance::icmp::<ToNet, _, _>;
    /// A new connection of the host behind `to_net`.
    to_net_connect_v4, to_net_connect_v6 = Hook::ToNet, connect::<ToNet, _>;
    /// A connection behind `from_pod` whose main entry was lost.
    from_pod_restore_v4, from_pod_restore_v6 = Hook::FromPod, entrance::restore::<FromPod, _, _>;
    /// A connection behind `from_net` whose main entry was lost.
    from_net_restore_v4, from_net_restore_v6 = Hook::FromNet, entrance::restore::<FromNet, _, _>;
    /// A connection behind `to_net` whose main entry was lost.
    to_net_restore_v4, to_net_restore_v6 = Hook::ToNet, entrance::restore::<ToNet, _, _>;
    /// A refusal behind `to_net`.
    to_net_refuse_v4, to_net_refuse_v6 = Hook::ToNet, refuse::<ToNet, _>;
    /// SCTP behind `from_pod`.
    from_pod_sctp_v4, from_pod_sctp_v6 = Hook::FromPod, hooks::sctp::handle::<FromPod, _, _>;
    /// A new association behind `from_pod`.
    from_pod_sctp_connect_v4, from_pod_sctp_connect_v6 = Hook::FromPod, sctp_connect::<FromPod, _>;
    /// SCTP behind `to_pod`.
    to_pod_sctp_v4, to_pod_sctp_v6 = Hook::ToPod, to_pod::sctp;
    /// SCTP behind `from_net`.
    from_net_sctp_v4, from_net_sctp_v6 = Hook::FromNet, hooks::sctp::handle::<FromNet, _, _>;
    /// A new association behind `from_net`.
    from_net_sctp_connect_v4, from_net_sctp_connect_v6 = Hook::FromNet, sctp_connect::<FromNet, _>;
    /// SCTP behind `to_net`.
    to_net_sctp_v4, to_net_sctp_v6 = Hook::ToNet, hooks::sctp::handle::<ToNet, _, _>;
    /// A new association behind `to_net`.
    to_net_sctp_connect_v4, to_net_sctp_connect_v6 = Hook::ToNet, sctp_connect::<ToNet, _>;
    /// Policies that have to be asked behind `from_pod`.
    from_pod_judge_v4, from_pod_judge_v6 = Hook::FromPod, judge::entrance::<FromPod, _, _>;
    /// Policies that have to be asked behind `to_pod`.
    to_pod_judge_v4, to_pod_judge_v6 = Hook::ToPod, judge::to_pod;
    /// Policies that have to be asked behind `from_net`.
    from_net_judge_v4, from_net_judge_v6 = Hook::FromNet, judge::entrance::<FromNet, _, _>;
    /// The same about packets that are not translated, behind `from_pod`.
    from_pod_direct_v4, from_pod_direct_v6 = Hook::FromPod, judge::direct::<FromPod, _, _>;
    /// The same about packets that are not translated, behind `to_pod`.
    to_pod_direct_v4, to_pod_direct_v6 = Hook::ToPod, judge::direct::<ToPod, _, _>;
}

#[inline(always)]
fn refuse<E: Entrance, F: Family>(skb: &mut Skb, _: Version<F>) -> Step {
    let reason = skb.argument();
    reject::refuse::<E, F, _>(skb, reason)
}

#[inline(always)]
fn unusual<E: Entrance, F: Family>(skb: &mut Skb, _: Version<F>) -> Step {
    let again = skb.argument();
    entrance::unusual::<E, F, _>(skb, again)
}

#[inline(always)]
fn connect<E: Entrance, F: Family>(skb: &mut Skb, _: Version<F>) -> Step {
    let attempt = skb.argument();
    entrance::connect::<E, F, _>(skb, attempt)
}

#[inline(always)]
fn sctp_connect<E: Entrance, F: Family>(skb: &mut Skb, _: Version<F>) -> Step {
    let attempt = skb.argument();
    hooks::sctp::connect::<E, F, _>(skb, attempt)
}

/// The step's number, or the program that takes it. The kernel bounds the chain of programs.
#[inline(always)]
fn finish<F: Family>(skb: &Skb, hook: Hook, step: Step) -> i32 {
    let rare = match (step.next, hook) {
        (Next::Pass, _) => return NEXT,
        (Next::Drop, _) => return TC_ACT_SHOT as i32,
        (Next::Deliver, _) => return deliver(skb, step.argument),
        (Next::Send, _) => return route::send::<F>(skb.0, step.argument),
        (Next::Receive, _) => return receive(skb.0, step.argument),
        // Programs of XDP are not among these.
        (_, Hook::Xdp) => return NEXT,
        (Next::Unusual, Hook::FromPod) => RareStep::FromPodUnusualV4,
        (Next::Unusual, Hook::ToPod) => RareStep::ToPodUnusualV4,
        (Next::Unusual, Hook::FromNet) => RareStep::FromNetUnusualV4,
        (Next::Unusual, Hook::ToNet) => RareStep::ToNetUnusualV4,
        (Next::Icmp, Hook::FromPod) => RareStep::FromPodIcmpV4,
        (Next::Icmp, Hook::ToPod) => RareStep::ToPodIcmpV4,
        (Next::Icmp, Hook::FromNet) => RareStep::FromNetIcmpV4,
        (Next::Icmp, Hook::ToNet) => RareStep::ToNetIcmpV4,
        (Next::Sctp, Hook::FromPod) => RareStep::FromPodSctpV4,
        (Next::Sctp, Hook::ToPod) => RareStep::ToPodSctpV4,
        (Next::Sctp, Hook::FromNet) => RareStep::FromNetSctpV4,
        (Next::Sctp, Hook::ToNet) => RareStep::ToNetSctpV4,
        (Next::SctpConnect, Hook::FromPod | Hook::ToPod) => RareStep::FromPodSctpConnectV4,
        (Next::SctpConnect, Hook::FromNet) => RareStep::FromNetSctpConnectV4,
        (Next::SctpConnect, Hook::ToNet) => RareStep::ToNetSctpConnectV4,
        (Next::Connect, Hook::FromPod | Hook::ToPod) => RareStep::FromPodConnectV4,
        (Next::Connect, Hook::FromNet) => RareStep::FromNetConnectV4,
        (Next::Connect, Hook::ToNet) => RareStep::ToNetConnectV4,
        (Next::Restore, Hook::FromPod | Hook::ToPod) => RareStep::FromPodRestoreV4,
        (Next::Restore, Hook::FromNet) => RareStep::FromNetRestoreV4,
        (Next::Restore, Hook::ToNet) => RareStep::ToNetRestoreV4,
        (Next::Hold, Hook::FromNet) => RareStep::FromNetHoldV4,
        (Next::Hold, _) => RareStep::FromPodHoldV4,
        (Next::Release, Hook::FromNet) => RareStep::FromNetReleaseV4,
        (Next::Release, Hook::ToNet) => RareStep::ToNetReleaseV4,
        (Next::Release, Hook::FromPod | Hook::ToPod) => RareStep::FromPodReleaseV4,
        (Next::Refuse, Hook::FromPod | Hook::ToPod) => RareStep::FromPodRefuseV4,
        (Next::Refuse, Hook::FromNet) => RareStep::FromNetRefuseV4,
        (Next::Refuse, Hook::ToNet) => RareStep::ToNetRefuseV4,
        (Next::Judge, Hook::FromPod) => RareStep::FromPodJudgeV4,
        (Next::Judge, Hook::ToPod) => RareStep::ToPodJudgeV4,
        (Next::Direct, Hook::ToPod) => RareStep::ToPodDirectV4,
        (Next::Direct, _) => RareStep::FromPodDirectV4,
        (Next::Judge, Hook::FromNet | Hook::ToNet) => RareStep::FromNetJudgeV4,
    };
    skb.set_argument(step.argument);
    // The programs of a step stand side by side, see `RareStep`.
    let family = u32::from(F::ICMP == proto::ICMPV6);
    jump(skb, hook, rare as u32 + family, step.failure())
}

/// Goes on with another program; the packet is dropped for the reason if that is not there.
#[inline(always)]
fn jump(skb: &Skb, hook: Hook, place: u32, otherwise: DropReason) -> i32 {
    maps::RARE_STEPS.call(skb.0.cast(), place);
    report::dropped(hook, otherwise);
    TC_ACT_SHOT as i32
}

/// The programs' licence to the kernel; the source is Apache-2.0, which alone would bar GPL helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
