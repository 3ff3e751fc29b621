// SPDX-License-Identifier: Apache-2.0
//! Programs of others beside ours. A redirected packet skips the receiver's egress, and at the
//! sender's ingress whatever stands behind us; so an interface that has any goes through the stack.
//!
//! Ours are told by their names, which they keep when they are replaced.

use aya::programs::{SchedClassifier, TcAttachType};
use pintle_abi::counter::Hook;

use super::{clsact, tcx};
use crate::node::IfIndex;

/// A tcx program that redirected packets would not meet. The kernel announces none: ask again.
pub fn tcx(name: &str) -> Option<String> {
    let programs = |side, number| -> Vec<String> {
        match SchedClassifier::query_tcx(name, side) {
            Ok((_, found)) => {
                found.iter().map(|info| info.name_as_str().unwrap_or("?").to_owned()).collect()
            }
            // Names of programs are told to CAP_SYS_ADMIN only, which the DaemonSet has not. And a
            // kernel without tcx has no such programs.
            Err(_) => tcx::names(name, number).unwrap_or_default(),
        }
    };
    let egress = programs(TcAttachType::Egress, tcx::EGRESS);
    if let Some(name) = egress.iter().find(|name| *name != Hook::ToPod.as_str()) {
        return Some(format!("{name} on egress"));
    }
    let ingress = programs(TcAttachType::Ingress, tcx::INGRESS);
    let ours = ingress.iter().position(|name| name == Hook::FromPod.as_str())?;
    ingress.get(ours + 1).map(|name| format!("{name} on ingress"))
}

/// A clsact filter that redirected packets would not meet.
pub fn filters(index: IfIndex) -> Option<String> {
    for (hook, side) in [(Hook::ToPod, "egress"), (Hook::FromPod, "ingress")] {
        // An interface that is gone has none.
        let found = clsact::filters(index, hook).unwrap_or_default();
        if let Some(filter) = found.iter().find(|filter| !filter.is_ours(hook)) {
            return Some(format!("{} on {side}", filter.name));
        }
    }
    None
}
