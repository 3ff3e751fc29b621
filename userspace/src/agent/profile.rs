// SPDX-License-Identifier: Apache-2.0
//! The operator's choices as the agent's parts take them.

use crate::{
    config::{
        Config,
        resolved::{self, DetectLocal},
    },
    model::{cidr::Cidr, cluster::Node, ip::Family},
    node::PodDevices,
    plan::{
        node_ports::{Localhost, NodePortAddresses, NodePorts},
        options::{Options, Unallocated, UnknownPort},
    },
};

/// The operator's choices.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// What becomes of services.
    pub options: Options,
    /// At which of the node's addresses node ports answer.
    pub node_ports: NodePorts,
    /// Which interfaces bring packets of local pods.
    pub pods: PodDevices,
    /// Which addresses are local pods'.
    pub pod_ranges: PodRanges,
}

/// Which addresses are local pods', where addresses tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodRanges {
    /// Interfaces tell.
    #[default]
    None,
    /// Those of the cluster's pods, IPv4 and IPv6.
    Cluster([Option<Cidr>; 2]),
    /// Those in the first range of each family in our Node object.
    Node,
}

impl PodRanges {
    /// The ranges of the cluster's pods, beside those that nodes have.
    pub fn of_cluster(self) -> Box<[Cidr]> {
        match self {
            Self::None | Self::Node => Box::default(),
            Self::Cluster(ranges) => ranges.into_iter().flatten().collect(),
        }
    }

    /// The ranges, IPv4 and IPv6; `None` if interfaces tell, or our Node object is not known.
    pub fn known(self, node: Option<&Node>) -> Option<[Option<Cidr>; 2]> {
        match self {
            Self::None => None,
            Self::Cluster(ranges) => Some(ranges),
            Self::Node => {
                let cidrs = &node?.pod_cidrs;
                let of = |family| cidrs.iter().find(|cidr| cidr.family() == family).copied();
                Some(Family::ALL.map(of))
            }
        }
    }
}

impl From<&Config> for Profile {
    fn from(config: &Config) -> Self {
        Self {
            options: Options {
                masquerade_all: config.masquerade_all,
                // Where kube-proxy could not tell pods from others, we go by their interfaces.
                has_detector: true,
                external_ips: config.external_ips,
                // In every mode: an address of ours has no other use.
                unknown_port: UnknownPort::Reject,
                unallocated: match config.unallocated {
                    resolved::Unallocated::Drop => Unallocated::Drop,
                    resolved::Unallocated::Pass => Unallocated::Pass,
                },
                backend_selection: config.backend_selection,
                table_size: config.table_size,
                node_ips: config.bind_address.into_iter().collect(),
            },
            node_ports: NodePorts {
                addresses: match &config.node_port_addresses {
                    resolved::NodePortAddresses::All => NodePortAddresses::All,
                    resolved::NodePortAddresses::Primary => NodePortAddresses::Primary,
                    resolved::NodePortAddresses::Cidrs(cidrs) => {
                        NodePortAddresses::Ranges(cidrs.clone())
                    }
                },
                localhost: match config.localhost_node_ports {
                    true => Localhost::Answers,
                    false => Localhost::Silent,
                },
            },
            pods: match &config.detect_local {
                DetectLocal::ClusterCidr { .. } | DetectLocal::NodeCidr => PodDevices::None,
                DetectLocal::BridgeInterface(name) => PodDevices::Bridge(name.clone()),
                DetectLocal::InterfaceNamePrefix(prefix) => PodDevices::Prefix(prefix.clone()),
                DetectLocal::PodInterfaces => PodDevices::Pods,
            },
            pod_ranges: match &config.detect_local {
                DetectLocal::ClusterCidr { v4, v6 } => PodRanges::Cluster([*v4, *v6]),
                DetectLocal::NodeCidr => PodRanges::Node,
                _ => PodRanges::None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::ObjectName;

    #[test]
    fn a_node_s_first_range_of_each_family_is_its_pods() {
        let cidr = |text: &str| Cidr::parse(text).unwrap();
        let node = Node {
            name: ObjectName::cluster("n1"),
            zone: None,
            internal_ips: [].into(),
            external_ips: [].into(),
            pod_cidrs: ["fd00:1::/64", "10.244.1.0/24", "10.244.9.0/24"].map(cidr).into(),
            is_leaving: false,
            labels: Default::default(),
        };
        let expected = [Some(cidr("10.244.1.0/24")), Some(cidr("fd00:1::/64"))];
        assert_eq!(PodRanges::Node.known(Some(&node)), Some(expected));
        assert_eq!(PodRanges::Node.known(None), None, "what the maps have stays");
        assert_eq!(PodRanges::None.known(Some(&node)), None);
        let cluster = [Some(cidr("10.244.0.0/16")), None];
        assert_eq!(PodRanges::Cluster(cluster).known(None), Some(cluster));
    }
}
