// SPDX-License-Identifier: Apache-2.0
//! The node's network as the agent sees it: which interfaces belong to local pods, and which of them
//! leads to a pod address.
//!
//! [`wire`] turns netlink messages into events, [`state`] folds events into tables, [`select`] and
//! [`snapshot`] answer questions from the tables, [`view`] keeps them current, [`solicit`] makes the kernel look for
//! what they miss. All but `view` and `solicit` is pure.
//!
//! Invariants:
//! - an address resolves to an interface only if the host's stack would deliver it there too;
//! - when in doubt there is no answer, and the packet takes the way through the stack.

use std::fmt;

pub mod detect;
pub mod devices;
pub mod loopback;
pub mod netfilter;
pub mod ports;
pub mod select;
pub mod snapshot;
pub mod solicit;
pub mod state;
pub mod sysctl;
pub mod view;
pub mod wire;

pub use detect::PodDevices;
pub use devices::Uplink;
pub use ports::MasqueradePorts;
pub use select::{Ineligible, PodInterface, PodInterfaces, Selection};
pub use snapshot::Snapshot;
pub use solicit::Solicitor;
pub use view::{NodeView, Probes};

/// The kernel's number of a network interface, unique within the node's network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
