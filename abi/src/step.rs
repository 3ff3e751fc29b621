// SPDX-License-Identifier: Apache-2.0
//! Rare steps of a hook: programs of their own, which the hook's program jumps to.
//!
//! What a step's argument means is part of the ABI: while an agent is replaced, a program of the old
//! binary may jump to one of the new.
//!
//! Each step has a program for each family: it halves what the kernel verifies at once.

macro_rules! rare_steps {
    (
        steps { $($(#[$meta:meta])* $v4:ident, $v6:ident = $number:literal, $program:literal;)* }
        hooks { $($(#[$hook_meta:meta])* $hook:ident = $hook_number:literal, $hook_program:literal;)* }
    ) => {
        /// A step that few packets take, for one family; its number is its place in `RARE_STEPS`.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RareStep {
            $(
                $(#[$meta])* $v4 = $number * 2,
                /// The same for IPv6.
                $v6 = $number * 2 + 1,
            )*
            $($(#[$hook_meta])* $hook = $hook_number * 2 + 1,)*
        }

        impl RareStep {
            /// Every step, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$v4, Self::$v6,)* $(Self::$hook,)*];

            /// Places for steps, some of which may be empty.
            pub const PLACES: u32 = {
                let last = Self::ALL[Self::ALL.len() - 1];
                last as u32 + 1
            };

            /// Name of the program that takes it.
            pub fn program(self) -> &'static str {
                match self {
                    $(
                        Self::$v4 => concat!($program, "_v4"),
                        Self::$v6 => concat!($program, "_v6"),
                    )*
                    $(Self::$hook => concat!($hook_program, "_v6"),)*
                }
            }
        }
    };
}

rare_steps! {
    steps {
        /// ICMP that leaves a pod.
        FromPodIcmpV4, FromPodIcmpV6 = 0, "from_pod_icmp";
        /// ICMP that is about to enter a pod.
        ToPodIcmpV4, ToPodIcmpV6 = 1, "to_pod_icmp";
        /// A new connection that is not of the common kind.
        FromPodConnectV4, FromPodConnectV6 = 2, "from_pod_connect";
        /// A packet whose sender is told that it is dropped.
        FromPodRefuseV4, FromPodRefuseV6 = 3, "from_pod_refuse";
        /// A fragment, or IP options or extension headers, from a pod.
        FromPodUnusualV4, FromPodUnusualV6 = 4, "from_pod_unusual";
        /// The same, about to enter a pod.
        ToPodUnusualV4, ToPodUnusualV6 = 5, "to_pod_unusual";
        /// A fragment that came before its first one.
        FromPodHoldV4, FromPodHoldV6 = 6, "from_pod_hold";
        /// A fragment that follows its first one, or that others may wait for.
        FromPodReleaseV4, FromPodReleaseV6 = 7, "from_pod_release";
        /// ICMP that comes from the network.
        FromNetIcmpV4, FromNetIcmpV6 = 8, "from_net_icmp";
        /// A new connection from the network that is not of the common kind.
        FromNetConnectV4, FromNetConnectV6 = 9, "from_net_connect";
        /// A packet from the network whose sender is told that it is dropped.
        FromNetRefuseV4, FromNetRefuseV6 = 10, "from_net_refuse";
        /// A fragment, or IP options or extension headers, from the network.
        FromNetUnusualV4, FromNetUnusualV6 = 11, "from_net_unusual";
        /// A fragment from the network that came before its first one.
        FromNetHoldV4, FromNetHoldV6 = 12, "from_net_hold";
        /// A fragment from the network that follows its first one, or that others may wait for.
        FromNetReleaseV4, FromNetReleaseV6 = 13, "from_net_release";
        /// ICMP that leaves for the network.
        ToNetIcmpV4, ToNetIcmpV6 = 14, "to_net_icmp";
        /// A new connection of the host itself.
        ToNetConnectV4, ToNetConnectV6 = 15, "to_net_connect";
        /// A packet of the host itself that is dropped; the host is told.
        ToNetRefuseV4, ToNetRefuseV6 = 16, "to_net_refuse";
        /// A fragment, or IP options or extension headers, that leaves for the network.
        ToNetUnusualV4, ToNetUnusualV6 = 17, "to_net_unusual";
        /// A pod's connection whose main entry was lost.
        FromPodRestoreV4, FromPodRestoreV6 = 18, "from_pod_restore";
        /// A connection from the network whose main entry was lost.
        FromNetRestoreV4, FromNetRestoreV6 = 19, "from_net_restore";
        /// A connection of the host itself whose main entry was lost.
        ToNetRestoreV4, ToNetRestoreV6 = 20, "to_net_restore";
        /// A fragment that leaves for the network.
        ToNetReleaseV4, ToNetReleaseV6 = 21, "to_net_release";
        /// SCTP that leaves a pod.
        FromPodSctpV4, FromPodSctpV6 = 22, "from_pod_sctp";
        /// SCTP that is about to enter a pod.
        ToPodSctpV4, ToPodSctpV6 = 23, "to_pod_sctp";
        /// SCTP that comes from the network.
        FromNetSctpV4, FromNetSctpV6 = 24, "from_net_sctp";
        /// SCTP that leaves for the network.
        ToNetSctpV4, ToNetSctpV6 = 25, "to_net_sctp";
        /// A new association of a pod.
        FromPodSctpConnectV4, FromPodSctpConnectV6 = 26, "from_pod_sctp_connect";
        /// A new association from the network.
        FromNetSctpConnectV4, FromNetSctpConnectV6 = 27, "from_net_sctp_connect";
        /// A new association of the host itself.
        ToNetSctpConnectV4, ToNetSctpConnectV6 = 28, "to_net_sctp_connect";
        /// A packet that leaves a pod: policies have to be asked about its source or connection.
        FromPodJudgeV4, FromPodJudgeV6 = 29, "from_pod_judge";
        /// The same, about to enter a pod.
        ToPodJudgeV4, ToPodJudgeV6 = 30, "to_pod_judge";
        /// The same, from the network straight into a pod.
        FromNetJudgeV4, FromNetJudgeV6 = 31, "from_net_judge";
        /// The same for a packet that is not translated, and leaves a pod.
        FromPodDirectV4, FromPodDirectV6 = 32, "from_pod_direct";
        /// The same, about to enter a pod.
        ToPodDirectV4, ToPodDirectV6 = 33, "to_pod_direct";
    }
    hooks {
        /// IPv6 that leaves a pod: half of what the hook's program would be to the verifier.
        FromPodV6 = 34, "from_pod";
        /// IPv6 that comes from the network.
        FromNetV6 = 35, "from_net";
        /// IPv6 that leaves for the network.
        ToNetV6 = 36, "to_net";
    }
}

macro_rules! xdp_steps {
    ($($(#[$meta:meta])* $v4:ident, $v6:ident = $number:literal, $program_v4:literal, $program_v6:literal;)*) => {
        /// A step of XDP, for one family; its number is its place in `XDP_STEPS`.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum XdpStep {
            $(
                $(#[$meta])* $v4 = $number * 2,
                /// The same for IPv6.
                $v6 = $number * 2 + 1,
            )*
        }

        impl XdpStep {
            /// Every step, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$v4, Self::$v6,)*];

            /// Places for steps.
            pub const PLACES: u32 = Self::ALL.len() as u32;

            /// Name of the program that takes it.
            pub fn program(self) -> &'static str {
                match self { $(Self::$v4 => $program_v4, Self::$v6 => $program_v6,)* }
            }
        }
    };
}

xdp_steps! {
    /// The hook itself: a connection that was just made is looked up.
    HandleV4, HandleV6 = 0, "xdp", "xdp_v6";
    /// A new connection.
    ConnectV4, ConnectV6 = 1, "xdp_connect_v4", "xdp_connect_v6";
    /// A packet whose sender is told that it is dropped, for the reason in the argument.
    RefuseV4, RefuseV6 = 2, "xdp_refuse_v4", "xdp_refuse_v6";
}
