// SPDX-License-Identifier: Apache-2.0
//! What the tables say of one connection, and why. The same look-ups as the programs do.

use std::net::IpAddr;

use super::{Planner, addresses::Owner, rulesets::PeerKind};
use crate::{
    model::{
        addr::Protocol,
        name::ObjectName,
        policy::{Direction, Enforcement},
    },
    policy::{
        explain::{Explanation, Reading, Why},
        ruleset::{ClosedReason, Ruleset},
        table::{ClassId, Endpoint, PortPrefix, RulesetId},
    },
};

/// What the tables say of a connection, on the side of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What holds for the pod.
    pub ruleset: RulesetId,
    /// What is known of the peer; [`ClassId::NOTHING`] where the ruleset does not ask.
    pub class: ClassId,
    /// What the ruleset makes of the port; 0 where it does not ask.
    pub port_class: u8,
    /// What came of it.
    pub judgement: Judgement,
}

/// What comes of a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The policies speak.
    Explained {
        /// Those that are enforced.
        enforced: Explanation,
        /// Those and the audited ones.
        staged: Explanation,
    },
    /// Everything is dropped, because the policies do not fit in.
    Closed(Option<ClosedReason>),
}

/// Whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// A node's.
    Node(ObjectName),
    /// A pod's.
    Pod(ObjectName),
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// NetworkPolicies.
    pub network_policies: usize,
    /// ClusterNetworkPolicies.
    pub cluster_policies: usize,
    /// Rulesets.
    pub rulesets: usize,
    /// Classes.
    pub classes: usize,
}

impl Planner {
    /// What the policies of a pod of this node say of a connection with a peer; without port for
    /// ICMP and other protocols. `None` if the tables do not have the pod.
    pub fn verdict(
        &self,
        pod: &ObjectName,
        direction: Direction,
        peer: IpAddr,
        port: Option<(Protocol, u16)>,
    ) -> Option<Verdict> {
        let endpoint = self.endpoints.get(pod)?;
        let kind = match endpoint.ips.contains(&peer) {
            true => PeerKind::Itself,
            false => PeerKind::Other,
        };
        let id = match (direction, kind) {
            (Direction::Egress, PeerKind::Other) => endpoint.egress,
            (Direction::Ingress, PeerKind::Other) => endpoint.ingress,
            (Direction::Egress, PeerKind::Itself) => endpoint.hairpin_egress,
            (Direction::Ingress, PeerKind::Itself) => endpoint.hairpin_ingress,
        };
        let unasked =
            |judgement| Verdict { ruleset: id, class: ClassId::NOTHING, port_class: 0, judgement };
        if id == RulesetId::OPEN {
            let free = Explanation { direction, is_allowed: true, why: Why::NoPolicy };
            return Some(unasked(Judgement::Explained { enforced: free.clone(), staged: free }));
        }
        if id == RulesetId::CLOSED {
            let applied = self.profiles.get(self.pods.get(pod)?.profile)?.rulesets?;
            let reason = self.closed_reason(&applied, direction);
            return Some(unasked(Judgement::Closed(reason)));
        }
        let (ruleset, class) = (self.rulesets.get(id)?, self.class_of(peer));
        let port_class = port_class(ruleset, port);
        let explain = |reading| self.explain(id, class, port_class, reading);
        let judgement = Judgement::Explained {
            enforced: explain(Reading::Enforced)?,
            staged: explain(Reading::Staged)?,
        };
        Some(Verdict { ruleset: id, class, port_class, judgement })
    }

    /// Whose an address is, as far as policies can see.
    pub fn owner_of(&self, ip: IpAddr) -> Option<Party> {
        Some(match self.owner(self.addresses.get(&ip)?)? {
            Owner::Node(known) => Party::Node(known.node.name.clone()),
            Owner::Pod(known) => Party::Pod(known.pod.name.clone()),
        })
    }

    /// The addresses of a pod that policies can see, of any node.
    pub fn addresses_of(&self, pod: &ObjectName) -> Option<&[IpAddr]> {
        Some(&self.pods.get(pod)?.pod.ips)
    }

    /// The addresses of a node.
    pub fn addresses_of_node(&self, node: &ObjectName) -> Option<Vec<IpAddr>> {
        Some(self.nodes.get(node)?.node.ips().collect())
    }

    /// This node's pods, by name.
    pub fn endpoints(&self) -> impl Iterator<Item = (&ObjectName, &Endpoint)> {
        self.endpoints.iter()
    }

    /// Whether policies decide that are not audited by themselves.
    pub fn node_enforcement(&self) -> Enforcement {
        self.options.enforcement
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts {
            network_policies: self.network_policies.values().map(|siblings| siblings.len()).sum(),
            cluster_policies: self.cluster_policies.len(),
            rulesets: self.rulesets.iter().count(),
            classes: self.classes.len(),
        }
    }

    fn class_of(&self, ip: IpAddr) -> ClassId {
        let own = self.addresses.get(&ip).and_then(|address| address.class);
        own.or_else(|| self.ranges.get(ip).copied()).unwrap_or(ClassId::NOTHING)
    }
}

/// The port class by longest match.
fn port_class(ruleset: &Ruleset, port: Option<(Protocol, u16)>) -> u8 {
    let Some((protocol, port)) = port else { return 0 };
    let has = |prefix: &PortPrefix| {
        let rest = 16_u32.saturating_sub(prefix.bits.into());
        prefix.protocol == protocol && u32::from(prefix.port ^ port) >> rest == 0
    };
    let matching = ruleset.ports.iter().filter(|(prefix, _)| has(prefix));
    matching.max_by_key(|(prefix, _)| prefix.bits).map_or(0, |(_, class)| *class)
}
