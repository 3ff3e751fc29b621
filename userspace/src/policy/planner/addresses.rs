// SPDX-License-Identifier: Apache-2.0
//! Whose an address is and in which class, ranges included; and the endpoints of this node.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use super::{Address, KnownNode, KnownPod, Order, Planner, ProfileId};
use crate::{
    model::{cidr::Cidr, ip::Family, name::ObjectName, policy::NamedPort},
    policy::{
        class::Signature,
        predicate::{Predicate, PredicateId},
        prefix::{PrefixMap, index, span},
        range::{hide, regions},
        table::{Changes, ClassId, Endpoint, RulesetId},
    },
};

/// Who has an address.
pub(super) enum Owner<'a> {
    Node(&'a KnownNode),
    Pod(&'a KnownPod),
}

/// Pairs of classes that an address went from and to.
pub(super) type Flips = BTreeSet<(ClassId, ClassId)>;

impl Planner {
    /// Brings the ranges up to date; returns those of before. `hidden` are addresses of peers that
    /// have no entry of their own.
    pub(super) fn update_ranges(
        &mut self,
        changes: &mut Changes,
        hidden: &BTreeSet<IpAddr>,
        flips: &mut Flips,
    ) -> Option<PrefixMap<ClassId>> {
        if !std::mem::take(&mut self.dirty.ranges) {
            return None;
        }
        let fitting = self.fitting_ranges();
        let blocks = self.predicates.iter().filter_map(|(id, predicate)| match predicate {
            Predicate::Block(block) if fitting.blocks.contains(&id) => Some((id, block)),
            Predicate::Block(_) | Predicate::Pods(..) | Predicate::Nodes(_) => None,
        });
        let found = regions(blocks, fitting.pods.into_iter());
        let found = hide(found, hidden.iter().copied(), &fitting.lost);
        let mut ranges = BTreeMap::new();
        for (cidr, region) in &found {
            let signature = Signature {
                holds: region.blocks.clone(),
                ports: Vec::new(),
                is_unknown_pod: region.is_for_pods,
                hides_peers: region.hides_peers,
            };
            ranges.insert(*cidr, self.classes.acquire(signature, &self.predicates));
        }
        self.regions = PrefixMap::new(found);
        let before = std::mem::replace(&mut self.ranges, PrefixMap::new(ranges));
        before.entries().values().for_each(|class| self.classes.release(*class));
        self.tell_ranges(&before, changes, flips);
        Some(before)
    }

    fn tell_ranges(
        &mut self,
        before: &PrefixMap<ClassId>,
        changes: &mut Changes,
        flips: &mut Flips,
    ) {
        let (old, new) = (before.entries(), self.ranges.entries());
        let set = new.iter().filter(|(cidr, class)| old.get(cidr) != Some(class));
        changes.ranges = set.map(|(cidr, class)| (*cidr, *class)).collect();
        // A shorter prefix must not take addresses that a longer one is about to have.
        changes.ranges.sort_by_key(|(cidr, _)| std::cmp::Reverse(cidr.prefix()));
        let gone = old.keys().filter(|cidr| !new.contains_key(cidr));
        changes.gone_ranges = gone.copied().collect();
        // Nor must addresses fall back to one that is about to go.
        changes.gone_ranges.sort_by_key(|cidr| cidr.prefix());

        let set = changes.ranges.iter().map(|(cidr, _)| *cidr);
        for cidr in set.chain(changes.gone_ranges.iter().copied()) {
            let class =
                |of: &PrefixMap<ClassId>| of.covering(cidr).copied().unwrap_or(ClassId::NOTHING);
            flips.insert((class(before), class(&self.ranges)));
            let (first, last) = span(cidr);
            self.dirty.addresses.extend(self.addresses.range(first..=last).map(|(ip, _)| *ip));
        }
        flips.retain(|(old, new)| old != new);
    }

    /// Brings the classes of addresses up to date. `before` are the ranges if they have changed.
    pub(super) fn update_peers(
        &mut self,
        changes: &mut Changes,
        before: &Option<PrefixMap<ClassId>>,
        flips: &mut Flips,
    ) {
        let mut found = HashMap::new();
        for ip in std::mem::take(&mut self.dirty.addresses) {
            if self.unplaced.contains(&ip) {
                continue;
            }
            let old = self.addresses.get(&ip).and_then(|address| address.class);
            let new = self.acquire_class(ip, &mut found);
            old.into_iter().for_each(|class| self.classes.release(class));
            match (self.addresses.get_mut(&ip), new) {
                (Some(address), Some(_)) => address.class = new,
                (_, None) => drop(self.addresses.remove(&ip)),
                (None, Some(_)) => {}
            }
            if old == new {
                continue;
            }
            let placed = &mut self.placed[index(Family::of(ip))];
            *placed = *placed + usize::from(new.is_some()) - usize::from(old.is_some());
            match new {
                Some(class) => changes.peers.push((ip, class)),
                None => changes.gone_peers.push(ip),
            }
            let fallback = |of: &PrefixMap<ClassId>| of.get(ip).copied();
            let was = old.or_else(|| fallback(before.as_ref().unwrap_or(&self.ranges)));
            let is = new.or_else(|| fallback(&self.ranges));
            let (was, is) = (was.unwrap_or(ClassId::NOTHING), is.unwrap_or(ClassId::NOTHING));
            if was != is {
                flips.insert((was, is));
            }
        }
    }

    /// Brings the endpoints of this node up to date.
    pub(super) fn update_endpoints(&mut self, changes: &mut Changes, order: Order) {
        for name in std::mem::take(&mut self.dirty.endpoints) {
            let new = self.endpoint(&name);
            let old = self.endpoints.get(&name);
            if old == new.as_ref() {
                continue;
            }
            // What cannot be judged any more is closed before classes come that it has no rows for.
            let first = old.map(|old| old.with(|ruleset| self.rulesets.effective(ruleset)));
            if let Some(first) = first.filter(|first| Some(first) != old)
                && (order == Order::Late || new.is_none())
            {
                changes.early_endpoints.push((name.clone(), first));
            }
            match new {
                Some(endpoint) => {
                    // One that is new may have been passed until now.
                    let before = old.map_or([RulesetId::OPEN; 4], Endpoint::rulesets);
                    let flips = before.into_iter().zip(endpoint.rulesets());
                    changes.narrows |= flips.into_iter().any(|(old, new)| {
                        old != new && old != RulesetId::CLOSED && new != RulesetId::OPEN
                    });
                    let pods = match order {
                        Order::Early => &mut changes.early_endpoints,
                        Order::Late => &mut changes.endpoints,
                    };
                    pods.push((name.clone(), endpoint.clone()));
                    self.endpoints.insert(name, endpoint);
                }
                None => {
                    self.endpoints.remove(&name);
                    changes.gone_endpoints.push(name);
                }
            }
        }
    }

    fn endpoint(&self, name: &ObjectName) -> Option<Endpoint> {
        let known = self.pods.get(name)?;
        let profile = self.profiles.get(known.profile)?;
        if !profile.local.contains(name) {
            return None;
        }
        let applied = profile.rulesets?;
        let is_own = |ip: &&IpAddr| match self.addresses.get(ip).and_then(|at| self.owner(at)) {
            Some(Owner::Pod(owner)) => owner.pod.name == *name,
            Some(Owner::Node(_)) | None => false,
        };
        let ips: Box<[IpAddr]> = known.pod.ips.iter().filter(is_own).copied().collect();
        (!ips.is_empty()).then_some(Endpoint {
            ips,
            egress: self.rulesets.effective(applied.egress),
            ingress: self.rulesets.effective(applied.ingress),
            hairpin_egress: self.rulesets.effective(applied.hairpin_egress),
            hairpin_ingress: self.rulesets.effective(applied.hairpin_ingress),
        })
    }

    /// A node's address is the node's. Of pods, the newest has it that is not on its way out: its
    /// sandbox could not have got the address before the others' gave it up.
    pub(super) fn owner(&self, address: &Address) -> Option<Owner<'_>> {
        if let Some(node) = address.nodes.iter().find_map(|name| self.nodes.get(name)) {
            return Some(Owner::Node(node));
        }
        let pods = address.pods.iter().filter_map(|name| self.pods.get(name));
        let newest = pods.max_by(|a, b| {
            let rank = |pod: &KnownPod| (!pod.pod.is_terminating, pod.pod.created);
            rank(a).cmp(&rank(b)).then_with(|| a.pod.name.cmp(&b.pod.name))
        });
        newest.map(Owner::Pod)
    }

    /// The class of an address, for one more user; `None` if it is nobody's. Pods of a profile in one
    /// range have the same.
    fn acquire_class(
        &mut self,
        ip: IpAddr,
        found: &mut HashMap<(ProfileId, Option<Cidr>), ClassId>,
    ) -> Option<ClassId> {
        let range = self.regions.longest(ip);
        let (signature, place) = match self.owner(self.addresses.get(&ip)?)? {
            Owner::Node(known) => (self.signature(&known.truth, Vec::new(), range), None),
            Owner::Pod(known) => {
                let place = (known.profile, range);
                if let Some(class) = found.get(&place) {
                    self.classes.acquire_again(*class);
                    return Some(*class);
                }
                let profile = self.profiles.get(known.profile)?;
                let is_asked = |port: &&NamedPort| self.resolutions.is_in_use(&port.name);
                let ports = profile.key.ports.iter().filter(is_asked).cloned().collect();
                (self.signature(&profile.truth, ports, range), Some(place))
            }
        };
        let class = self.classes.acquire(signature, &self.predicates);
        found.extend(place.map(|place| (place, class)));
        Some(class)
    }

    fn signature(
        &self,
        truth: &[PredicateId],
        ports: Vec<NamedPort>,
        range: Option<Cidr>,
    ) -> Signature {
        let region = range.and_then(|range| self.regions.entries().get(&range));
        let blocks = region.map(|region| &*region.blocks).unwrap_or_default();
        let mut holds: Vec<PredicateId> = truth.iter().chain(blocks).copied().collect();
        holds.sort_unstable();
        Signature { holds, ports, is_unknown_pod: false, hides_peers: false }
    }
}
