// SPDX-License-Identifier: Apache-2.0
//! Which interfaces bring packets of local pods (`detectLocalMode` by interface). Pure.

use super::{IfIndex, snapshot::Snapshot};

/// How packets of local pods are told by the interface that they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodDevices {
    /// The host sides of pods' veths.
    #[default]
    Pods,
    /// The bridge of this name (`BridgeInterface`): what comes in at one of its ports.
    Bridge(String),
    /// Interfaces whose names begin so, or whose bridge's name does (`InterfaceNamePrefix`): the
    /// stack, which kube-proxy asks, has only the bridge's name.
    Prefix(String),
    /// None: addresses tell (`ClusterCIDR`, `NodeCIDR`).
    None,
}

impl PodDevices {
    /// What comes from the interface is of a local pod.
    pub fn contain(&self, network: &Snapshot, index: IfIndex) -> bool {
        let names = || network.names(index);
        match self {
            Self::Pods => network.interfaces.contains_key(&index),
            Self::Bridge(bridge) => names().any(|name| name == bridge),
            Self::Prefix(prefix) => names().any(|name| name.starts_with(prefix.as_str())),
            Self::None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::{
            select::Selection,
            state::tests::{bridge, state, veth},
            wire::{Event, Link},
        },
        *,
    };

    #[test]
    fn pods_are_told_by_their_interface_or_by_the_bridge_that_it_is_a_port_of() {
        let state = state([
            Event::Link(bridge(3)),
            Event::Link(Link { master: Some(IfIndex(3)), ..veth(4, "vethbr") }),
            Event::Link(veth(5, "cali5")),
            Event::Link(Link { kind: String::new(), ..veth(6, "eth0") }),
        ]);
        let network = Snapshot::new(Arc::new(state), &Selection::default());
        for (devices, expected) in [
            (PodDevices::Pods, &[4, 5][..]),
            (PodDevices::Bridge("cni0".into()), &[3, 4]),
            (PodDevices::Bridge("cni".into()), &[]),
            (PodDevices::Prefix("cni".into()), &[3, 4]),
            (PodDevices::Prefix("cali".into()), &[5]),
            (PodDevices::Prefix("veth".into()), &[4]),
            (PodDevices::None, &[]),
        ] {
            let found: Vec<u32> =
                (1..9).filter(|index| devices.contain(&network, IfIndex(*index))).collect();
            assert_eq!(found, expected, "{devices:?}");
        }
    }
}
