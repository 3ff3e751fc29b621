// SPDX-License-Identifier: Apache-2.0
//! What a plan depends on beside the cluster's objects: the operator's choices, and the node's own
//! addresses.

use std::{collections::BTreeSet, net::IpAddr};

use super::maglev::TableSize;
use crate::model::service::BackendSelection;

/// The operator's choices. The defaults are those of a new installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Everything sent to a service is masqueraded (`iptables.masqueradeAll`). Connections that
    /// `externalTrafficPolicy: Local` shows with the client's address stay as they are.
    pub masquerade_all: bool,
    /// The programs can tell local pods from others (`detectLocalMode`): others are masqueraded.
    pub has_detector: bool,
    /// `spec.externalIPs` are honoured (`AllowServiceExternalIPs`).
    pub external_ips: bool,
    /// What becomes of a packet to a cluster address that has no such port.
    pub unknown_port: UnknownPort,
    /// What becomes of a packet to an address of a ServiceCIDR that no service has.
    pub unallocated: Unallocated,
    /// How the backend of a connection from outside is chosen, unless its service says otherwise.
    pub backend_selection: BackendSelection,
    /// Size of Maglev's tables.
    pub table_size: TableSize,
    /// Addresses that stand for the node in place of those of its Node object (`bindAddress`).
    pub node_ips: Vec<IpAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            masquerade_all: false,
            has_detector: true,
            external_ips: true,
            unknown_port: UnknownPort::Reject,
            unallocated: Unallocated::Drop,
            backend_selection: BackendSelection::default(),
            table_size: TableSize::default(),
            node_ips: Vec::new(),
        }
    }
}

/// What becomes of a packet to a cluster address that has no such port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownPort {
    /// The client is refused, as kube-proxy's nftables mode does.
    Reject,
    /// It goes on, as in iptables mode.
    Pass,
}

/// What becomes of a packet to an address of a ServiceCIDR that no service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unallocated {
    /// It is dropped, as kube-proxy's nftables mode does.
    Drop,
    /// It goes on, as in iptables mode.
    Pass,
}

/// The node's own addresses at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeAddresses {
    /// Those at which node ports answer.
    pub node_ports: BTreeSet<IpAddr>,
    /// All of them.
    pub own: BTreeSet<IpAddr>,
}
