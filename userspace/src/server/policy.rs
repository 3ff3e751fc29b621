// SPDX-License-Identifier: Apache-2.0
//! What the agent tells of policies: the words of its state endpoint.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        addr::Protocol,
        policy::{Direction, Enforcement},
    },
    policy::{AllowedKey, DenialKey, Explanation, Why},
};

/// What the agent knows of policies, asked for when a request arrives.
pub trait PolicySource: Send + Sync + 'static {
    /// Policies, and what became of them.
    fn policies(&self) -> Policies;
    /// Names for what the programs count.
    fn name_denials(&self, denials: &[Denial]) -> Vec<NamedDenial>;
    /// What allowed the connections that the programs count.
    fn name_allowed(&self, keys: &[AllowedKey]) -> Vec<Cause>;
    /// Who answers to these names or addresses.
    fn find(&self, words: &[String]) -> Vec<Party>;
    /// What policies say of connections.
    fn judge(&self, questions: &[Question]) -> Vec<Answer>;
}

/// Policies in brief, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySummary {
    /// No policy drops anything, by the node's configuration.
    pub audited: bool,
    /// Policies known.
    pub known: u64,
    /// Pods of this node that are judged.
    pub policed: u64,
    /// Rulesets that the policies became.
    pub rulesets: u64,
    /// Rows that these have.
    pub rows: u64,
}

/// Policies, and what became of them on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// Every policy of the cluster, sorted.
    pub policies: Vec<Policy>,
    /// Pods of this node, sorted by name.
    pub pods: Vec<PolicyPod>,
}

/// A policy, and what became of it on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// `NetworkPolicy` or `ClusterNetworkPolicy`.
    pub kind: String,
    /// `namespace/name`, or `name`.
    pub name: String,
    /// `Admin`, `NetworkPolicy` or `Baseline`.
    pub tier: String,
    /// Its place in the tier; `None` if that has no order.
    pub priority: Option<u16>,
    /// `enforced` or `audited`.
    pub enforcement: String,
    /// Pods of this node that it selects.
    pub pods: Vec<String>,
    /// Numbers of the rulesets that it is part of.
    pub rulesets: Vec<u32>,
    /// Rows that these have.
    pub rows: u64,
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyPod {
    /// `namespace/name`.
    pub name: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// The interface that leads to it; `None` if there is none.
    pub interface: Option<Interface>,
    /// Policies that select it.
    pub policies: u64,
    /// Why it is not programmed, or not as its policies say; `None` if it is.
    pub problem: Option<String>,
}

/// A pod's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// Something that the programs count, and one peer of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// What the packets have in common.
    pub key: DenialKey,
    /// The peer of the last one.
    pub peer: IpAddr,
}

/// The names of a [`Denial`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedDenial {
    /// The pod; `None` if it is gone.
    pub pod: Option<String>,
    /// The peer; `None` if it is no pod and no node.
    pub peer: Option<String>,
    /// What gave the verdict.
    pub cause: Cause,
}

/// Who answers to a name or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// `namespace/name` of a pod, or a node's name; `None` if nobody is known.
    pub name: Option<String>,
    /// The addresses; empty if there is no pod of the name.
    pub ips: Vec<IpAddr>,
    /// What it is.
    pub kind: PartyKind,
}

/// What a [`Party`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartyKind {
    /// A pod of this node, which is judged here.
    LocalPod,
    /// A pod of another node.
    RemotePod,
    /// This node, whose packets pods always take.
    OwnNode,
    /// Another node.
    OtherNode,
    /// Nobody that policies know by name.
    #[default]
    Other,
}

/// A connection, on the side of one pod of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// An address of the pod.
    pub pod: IpAddr,
    /// The direction, as the pod sees it.
    pub direction: Direction,
    /// The other side.
    pub peer: IpAddr,
    /// `TCP`, `UDP` or `SCTP`; `None` for ICMP and others, which have no ports.
    pub protocol: Option<Protocol>,
    /// Port of the server.
    pub port: u16,
}

/// What policies say of a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The pod; `None` if there is none of this node behind the address.
    pub pod: Option<String>,
    /// Number of its ruleset.
    pub ruleset: u32,
    /// Class of the peer.
    pub class: u32,
    /// Port class.
    pub port_class: u8,
    /// It passes.
    pub is_allowed: bool,
    /// What decides.
    pub cause: Cause,
    /// What would deny it if audited policies were enforced; `None` if nothing would, or it is
    /// denied anyway.
    pub would_deny: Option<Cause>,
}

/// What gives a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Cause {
    /// A rule of a policy.
    Rule {
        /// `Admin`, `NetworkPolicy` or `Baseline`.
        tier: String,
        /// The policy.
        policy: String,
        /// The list of rules.
        direction: Direction,
        /// The rule's place in its list, from 0.
        index: usize,
        /// The rule's name.
        name: Option<String>,
    },
    /// No rule of these NetworkPolicies, which isolate the pod.
    Isolation {
        /// The policies.
        policies: Vec<String>,
    },
    /// The pod dials itself, which NetworkPolicies cannot keep it from.
    Itself,
    /// No policy has anything to say.
    NoPolicy,
    /// The peer is this node.
    OwnNode,
    /// The pod's policies could not be written, so it is closed.
    Closed {
        /// Why, if that is known.
        reason: Option<String>,
    },
    /// The ruleset has no row for the peer's class.
    RowMissing,
    /// Nothing is known of the pod.
    NotProgrammed,
    /// The pod used a source that is not its own.
    Spoofed,
    /// Policies that have changed since.
    Changed,
}

impl From<Explanation> for Cause {
    fn from(explanation: Explanation) -> Self {
        match explanation.why {
            Why::Rule { tier, policy, index, name, action: _ } => Self::Rule {
                tier: tier.as_str().to_owned(),
                policy: policy.to_string(),
                direction: explanation.direction,
                index,
                name: name.as_deref().map(str::to_owned),
            },
            Why::Isolated(policies) => {
                Self::Isolation { policies: policies.iter().map(ToString::to_string).collect() }
            }
            Why::Itself => Self::Itself,
            Why::NoPolicy => Self::NoPolicy,
        }
    }
}

impl Cause {
    /// The tier, if policies gave the verdict.
    pub fn tier(&self) -> Option<&str> {
        match self {
            Self::Rule { tier, .. } => Some(tier),
            Self::Isolation { .. } => Some("NetworkPolicy"),
            _ => None,
        }
    }

    /// The policies that gave the verdict.
    pub fn policies(&self) -> &[String] {
        match self {
            Self::Rule { policy, .. } => std::slice::from_ref(policy),
            Self::Isolation { policies } => policies,
            _ => &[],
        }
    }

    /// The rule by its name or its place in the policy, or what stands for a rule.
    pub fn rule(&self) -> String {
        match self {
            Self::Rule { name: Some(name), .. } => name.clone(),
            Self::Rule { direction, index, name: None, .. } => {
                format!("{}[{index}]", direction.as_str())
            }
            Self::Isolation { .. } => "default-deny".to_owned(),
            Self::Itself => "itself".to_owned(),
            Self::NoPolicy => "no-policy".to_owned(),
            Self::OwnNode => "own-node".to_owned(),
            Self::Closed { .. } => "closed".to_owned(),
            Self::RowMissing => "row-missing".to_owned(),
            Self::NotProgrammed => "not-programmed".to_owned(),
            Self::Spoofed => "own-source".to_owned(),
            Self::Changed => "changed-since".to_owned(),
        }
    }
}

/// The word for whether a policy decides.
pub fn enforcement_word(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Enforced => "enforced",
        Enforcement::Audited => "audited",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        name::ObjectName,
        policy::{Action, Tier},
    };

    #[test]
    fn a_rule_is_named_by_its_name_or_its_place() {
        let rule = |name: Option<&str>| {
            Cause::from(Explanation {
                direction: Direction::Ingress,
                is_allowed: false,
                why: Why::Rule {
                    tier: Tier::Admin,
                    policy: ObjectName::cluster("guard"),
                    index: 2,
                    name: name.map(Into::into),
                    action: Action::Deny,
                },
            })
        };
        assert_eq!(rule(None).rule(), "ingress[2]");
        assert_eq!(rule(Some("no-ssh")).rule(), "no-ssh");
        assert_eq!(
            (rule(None).tier(), rule(None).policies()),
            (Some("Admin"), &["guard".into()][..])
        );
    }

    #[test]
    fn a_default_deny_is_named_by_the_policies_that_isolate() {
        let policies = ["a", "b"].map(|name| ObjectName::namespaced("shop", name));
        let cause = Cause::from(Explanation {
            direction: Direction::Ingress,
            is_allowed: false,
            why: Why::Isolated(policies.into()),
        });
        assert_eq!(cause.policies(), ["shop/a", "shop/b"]);
        assert_eq!((cause.rule().as_str(), cause.tier()), ("default-deny", Some("NetworkPolicy")));
    }
}
