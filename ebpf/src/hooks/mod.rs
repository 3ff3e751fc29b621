// SPDX-License-Identifier: Apache-2.0
//! The hooks: each file tells what happens to a packet there, top to bottom.

pub mod from_pod;
pub mod to_pod;

/// What a hook does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// On to the next program, then to the host's stack or the pod.
    Pass,
    /// No further.
    Drop,
    /// Straight into the pod behind this host-side interface.
    Deliver(u32),
}
