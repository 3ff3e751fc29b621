// SPDX-License-Identifier: Apache-2.0
//! The operator's choices as the agent's parts take them.

use crate::{
    node::PodDevices,
    plan::{node_ports::NodePorts, options::Options},
};

/// The operator's choices. The defaults are those of a new installation.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// What becomes of services.
    pub options: Options,
    /// At which of the node's addresses node ports answer.
    pub node_ports: NodePorts,
    /// Which interfaces bring packets of local pods.
    pub pods: PodDevices,
}
