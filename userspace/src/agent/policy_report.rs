// SPDX-License-Identifier: Apache-2.0
//! What the agent tells about policies, computed when it is asked.

use std::{collections::BTreeMap, net::IpAddr};

use super::{lock, node_agent::NodeAgent, report::Reporter};
use crate::{
    model::{
        name::ObjectName,
        policy::{Direction, Enforcement},
    },
    node::IfIndex,
    policy::{self, AllowedKey, Judgement, Outcome, RulesetId},
    reconcile::policies::Subject,
    server::policy::{
        Answer, Cause, Denial, Interface, NamedDenial, Party, PartyKind, Policies, Policy,
        PolicyPod, PolicySource, PolicySummary, Question, enforcement_word,
    },
};

impl PolicySource for Reporter {
    fn policies(&self) -> Policies {
        let agent = lock(&self.agent);
        let uses = agent.policies.planner.policies();
        let pods = pods(&agent, &uses);
        Policies { policies: uses.into_iter().map(policy).collect(), pods }
    }

    fn name_denials(&self, denials: &[Denial]) -> Vec<NamedDenial> {
        let known: Vec<_> = denials.iter().map(|denial| self.denials.name(&denial.key)).collect();
        let agent = lock(&self.agent);
        let pods = agent.policies.reconciler.bound();
        let mut found = Vec::with_capacity(denials.len());
        let mut fresh = Vec::new();
        for (denial, known) in denials.iter().zip(known) {
            let named = known.or_else(|| {
                let named = name(&agent, &pods, denial)?;
                fresh.push((denial.key, named.clone()));
                Some(named)
            });
            // The peer is the one that was seen last, and not the one that it was named for.
            found.push(NamedDenial {
                peer: peer(&agent, denial.peer),
                ..named.unwrap_or_else(|| NamedDenial {
                    pod: pod_at(&pods, denial.key.ifindex),
                    peer: None,
                    cause: Cause::Changed,
                })
            });
        }
        drop(pods);
        drop(agent);
        self.denials.remember(fresh);
        found
    }

    fn name_allowed(&self, keys: &[AllowedKey]) -> Vec<Cause> {
        let names = &self.denials.allowed;
        let fresh: Vec<_> = keys.iter().filter(|key| names.name(key).is_none()).collect();
        let agent = lock(&self.agent);
        names.remember(fresh.into_iter().filter_map(|key| Some((*key, allowed_by(&agent, key)?))));
        keys.iter().map(|key| names.name(key).unwrap_or(Cause::Changed)).collect()
    }

    fn find(&self, words: &[String]) -> Vec<Party> {
        let pods: Vec<(IpAddr, String)> = lock(&self.pods).names().collect();
        let agent = lock(&self.agent);
        words.iter().map(|word| known_otherwise(party(&agent, word), word, &pods)).collect()
    }

    fn judge(&self, questions: &[Question]) -> Vec<Answer> {
        let agent = lock(&self.agent);
        questions.iter().map(|question| answer(&agent, question)).collect()
    }
}

/// Policies in brief.
pub(super) fn summary(agent: &NodeAgent) -> PolicySummary {
    let planner = &agent.policies.planner;
    let (counts, sizes) = (planner.counts(), planner.sizes());
    PolicySummary {
        audited: planner.node_enforcement() == Enforcement::Audited,
        known: (counts.network_policies + counts.cluster_policies) as u64,
        policed: planner.endpoints().filter(|(_, endpoint)| endpoint.is_policed()).count() as u64,
        rulesets: counts.rulesets as u64,
        rows: sizes.rows as u64,
    }
}

/// Which pod is behind which interface.
pub(super) type Bound<'a> = BTreeMap<IfIndex, &'a ObjectName>;

/// The names of a denial; `None` if they are not known now.
pub(super) fn name(agent: &NodeAgent, pods: &Bound<'_>, denial: &Denial) -> Option<NamedDenial> {
    let key = &denial.key;
    let pod = pod_at(pods, key.ifindex);
    let cause = match key.outcome {
        Outcome::Denied | Outcome::WouldDeny => {
            Cause::from(agent.policies.planner.explain_denial(key)?)
        }
        Outcome::Closed => {
            let pod = pod.as_deref();
            Cause::Closed { reason: pod.and_then(|pod| why_closed(agent, pod, key.direction)) }
        }
        Outcome::RowMissing => Cause::RowMissing,
        Outcome::NotProgrammed => Cause::NotProgrammed,
        Outcome::Spoofed => Cause::Spoofed,
    };
    Some(NamedDenial { pod, peer: peer(agent, denial.peer), cause })
}

/// What allows connections, if the compiler knows it now.
pub(super) fn allowed_by(agent: &NodeAgent, key: &AllowedKey) -> Option<Cause> {
    agent.policies.planner.explain_allowed(key).map(Cause::from)
}

/// The name of a peer, if it is a pod or a node.
pub(super) fn peer(agent: &NodeAgent, ip: IpAddr) -> Option<String> {
    party_at(agent, ip).name
}

fn pod_at(pods: &Bound<'_>, index: u32) -> Option<String> {
    pods.get(&IfIndex(index)).map(ToString::to_string)
}

/// Why a pod is closed in a direction: by the compiler, or because of a write that failed.
fn why_closed(agent: &NodeAgent, pod: &str, direction: Direction) -> Option<String> {
    let problems = agent.policies.planner.problems();
    let is_its = |problem: &&policy::Problem| {
        problem.direction == direction && problem.pods.iter().any(|name| name.as_str() == pod)
    };
    let compiled = problems.iter().find(is_its).map(|problem| problem.reason.to_string());
    compiled.or_else(|| unwritten(agent, pod))
}

/// What could not be written of a pod.
fn unwritten(agent: &NodeAgent, pod: &str) -> Option<String> {
    let planner = &agent.policies.planner;
    let endpoint = planner.endpoints().find(|(name, _)| name.as_str() == pod);
    let rulesets = endpoint.map_or([RulesetId::OPEN; 4], |(_, endpoint)| endpoint.rulesets());
    let is_its = |subject: &Subject| match subject {
        Subject::Pod(name) => name.as_str() == pod,
        Subject::Ruleset(id) => rulesets.contains(id),
        _ => false,
    };
    let mut failures = agent.policies.reconciler.failures();
    let found = failures.find(|(subject, _)| is_its(subject));
    found.map(|(subject, failure)| format!("{subject}: {failure}"))
}

fn policy(one: policy::PolicyUse) -> Policy {
    Policy {
        kind: one.policy.kind.as_str().to_owned(),
        name: one.policy.name.to_string(),
        tier: one.tier.as_str().to_owned(),
        priority: one.priority,
        enforcement: enforcement_word(one.enforcement).to_owned(),
        pods: one.pods.iter().map(ToString::to_string).collect(),
        rulesets: one.rulesets.iter().map(|id| id.0).collect(),
        rows: one.rows as u64,
    }
}

fn pods(agent: &NodeAgent, uses: &[policy::PolicyUse]) -> Vec<PolicyPod> {
    let mut counts: BTreeMap<&ObjectName, u64> = BTreeMap::new();
    for pod in uses.iter().flat_map(|one| &one.pods) {
        *counts.entry(pod).or_default() += 1;
    }
    let bound = agent.policies.reconciler.bound().into_iter();
    let interfaces: BTreeMap<&ObjectName, Interface> = bound
        .filter_map(|(index, pod)| {
            let name = agent.network.interfaces.get(&index)?.name.clone();
            Some((pod, Interface { index: index.0, name }))
        })
        .collect();
    let pod = |(name, endpoint): (&ObjectName, &policy::Endpoint)| {
        let interface = interfaces.get(name).cloned();
        let closed = Direction::ALL
            .into_iter()
            .filter_map(|direction| {
                let reason = why_closed(agent, name.as_str(), direction)?;
                Some(format!("{}: {reason}", direction.as_str()))
            })
            .next();
        let unbound = || interface.is_none().then(|| "it has no interface here".to_owned());
        PolicyPod {
            name: name.to_string(),
            ips: endpoint.ips.to_vec(),
            policies: counts.get(name).copied().unwrap_or(0),
            problem: closed.or_else(unbound),
            interface: interface.clone(),
        }
    };
    agent.policies.planner.endpoints().map(pod).collect()
}

fn party(agent: &NodeAgent, word: &str) -> Party {
    if let Ok(ip) = word.parse() {
        return party_at(agent, ip);
    }
    let planner = &agent.policies.planner;
    let Some((namespace, name)) = word.split_once('/') else {
        let node = ObjectName::cluster(word);
        let is_own = word == agent.node_name;
        let mut ips = planner.addresses_of_node(&node).unwrap_or_default();
        if is_own && ips.is_empty() {
            let (v4, v6) = agent.network.node_addresses();
            ips.extend(v4.map(IpAddr::from).into_iter().chain(v6.map(IpAddr::from)));
        }
        let kind = if is_own { PartyKind::OwnNode } else { PartyKind::OtherNode };
        return Party { name: Some(word.to_owned()), ips, kind };
    };
    let name = ObjectName::namespaced(namespace, name);
    match planner.addresses_of(&name) {
        Some(ips) => {
            Party { ips: ips.to_vec(), kind: kind_of(agent, &name), name: Some(name.to_string()) }
        }
        None => Party::default(),
    }
}

/// Who is a pod of this node although policies do not know it, because they are off.
fn known_otherwise(party: Party, word: &str, pods: &[(IpAddr, String)]) -> Party {
    if party.name.is_some() {
        return party;
    }
    let is_meant = |(ip, name): &&(IpAddr, String)| name == word || party.ips.contains(ip);
    let found: Vec<_> = pods.iter().filter(is_meant).collect();
    let Some((_, name)) = found.first() else { return party };
    let mut ips: Vec<IpAddr> = found.iter().map(|(ip, _)| *ip).collect();
    ips.sort_unstable();
    Party { name: Some(name.clone()), ips, kind: PartyKind::LocalPod }
}

fn party_at(agent: &NodeAgent, ip: IpAddr) -> Party {
    let ips = vec![ip];
    match agent.policies.planner.owner_of(ip) {
        Some(policy::Party::Pod(name)) => {
            Party { kind: kind_of(agent, &name), name: Some(name.to_string()), ips }
        }
        Some(policy::Party::Node(name)) if name.name() != agent.node_name => {
            Party { name: Some(name.to_string()), ips, kind: PartyKind::OtherNode }
        }
        owner => match owner.is_some() || agent.network.addresses().contains(&ip) {
            true => Party { name: Some(agent.node_name.clone()), ips, kind: PartyKind::OwnNode },
            false => Party { ips, ..Party::default() },
        },
    }
}

fn kind_of(agent: &NodeAgent, pod: &ObjectName) -> PartyKind {
    match agent.policies.planner.endpoints().any(|(name, _)| name == pod) {
        true => PartyKind::LocalPod,
        false => PartyKind::RemotePod,
    }
}

fn answer(agent: &NodeAgent, question: &Question) -> Answer {
    let planner = &agent.policies.planner;
    let pod = match planner.owner_of(question.pod) {
        Some(policy::Party::Pod(name)) => Some(name),
        Some(policy::Party::Node(_)) | None => None,
    };
    let port = question.protocol.map(|protocol| (protocol, question.port));
    let verdict =
        pod.as_ref().and_then(|pod| planner.verdict(pod, question.direction, question.peer, port));
    let Some(verdict) = verdict else {
        return Answer {
            pod: None,
            ruleset: RulesetId::OPEN.0,
            class: 0,
            port_class: 0,
            is_allowed: false,
            cause: Cause::NotProgrammed,
            would_deny: None,
        };
    };
    let (is_allowed, cause, would_deny) = match verdict.judgement {
        Judgement::Explained { enforced, staged } => {
            let would_deny = enforced.is_allowed && !staged.is_allowed;
            (enforced.is_allowed, enforced.into(), would_deny.then(|| staged.into()))
        }
        Judgement::Closed(reason) => {
            (false, Cause::Closed { reason: reason.map(|reason| reason.to_string()) }, None)
        }
    };
    Answer {
        pod: pod.map(|name| name.to_string()),
        ruleset: verdict.ruleset.0,
        class: verdict.class.0,
        port_class: verdict.port_class,
        is_allowed,
        cause,
        would_deny,
    }
}
