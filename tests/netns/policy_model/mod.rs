// SPDX-License-Identifier: Apache-2.0
//! The nine-pod model: pods a, b and c in each of the namespaces x, y and z, and who reaches whom
//! under which policies, over real sockets.
//!
//! Every check probes every cell: each pod dials each pod, over TCP and UDP, at ports 80 and 81, over
//! IPv4 and IPv6, at its address and through its service. What is expected is written beside each
//! policy, from what the policy's text means. What is denied is silent: a refusal is a failure.
//!
//! Cases of the project's catalogue (P1–P10) are named where they are tested.

mod blocks;
mod cluster_policies;
mod connections;
mod emptiness;
mod lifecycle;
mod nine_pods;
mod nodes;
mod outages;
mod peers;
mod ports;
mod probe;
mod server;
mod services;
mod silence;
mod start_up;

/// Runs facts about the model in the two layouts that differ most; each has a model of its own.
macro_rules! in_both_layouts {
    ($($fact:ident),+ $(,)?) => {
        mod with_ptp_and_fast_path {
            $(
                #[test]
                fn $fact() {
                    let _company = crate::company::beside_others();
                    super::$fact(&mut super::NinePods::new(
                        2,
                        pintle_lab::topology::Cni::Ptp,
                        pintle_lab::agent::FastPath::Auto,
                    ));
                }
            )+
        }
        mod with_a_bridge_through_the_stack {
            $(
                #[test]
                fn $fact() {
                    let _company = crate::company::beside_others();
                    super::$fact(&mut super::NinePods::new(
                        2,
                        pintle_lab::topology::Cni::Bridge,
                        pintle_lab::agent::FastPath::Off,
                    ));
                }
            )+
        }
    };
}
use in_both_layouts;
