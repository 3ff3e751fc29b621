// SPDX-License-Identifier: Apache-2.0
//! Rare steps of a hook: programs of their own, which the hook's program jumps to.

macro_rules! rare_steps {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $program:literal;)*) => {
        /// A step that few packets take; its number is its place in `RARE_STEPS`.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RareStep { $($(#[$meta])* $name = $number,)* }

        impl RareStep {
            /// Every step, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Name of the program that takes it.
            pub fn program(self) -> &'static str {
                match self { $(Self::$name => $program,)* }
            }
        }
    };
}

rare_steps! {
    /// ICMP that leaves a pod.
    FromPodIcmp = 0, "from_pod_icmp";
    /// ICMP that is about to enter a pod.
    ToPodIcmp = 1, "to_pod_icmp";
    /// A new connection of unusual shape, or whose source port has to move.
    FromPodConnect = 2, "from_pod_connect";
    /// A packet whose sender is told that it is dropped.
    FromPodRefuse = 3, "from_pod_refuse";
    /// A fragment, or IP options or extension headers, from a pod.
    FromPodUnusual = 4, "from_pod_unusual";
    /// The same, about to enter a pod.
    ToPodUnusual = 5, "to_pod_unusual";
    /// A fragment that came before its first one.
    FromPodHold = 6, "from_pod_hold";
    /// A first fragment that others may wait for.
    FromPodRelease = 7, "from_pod_release";
}
