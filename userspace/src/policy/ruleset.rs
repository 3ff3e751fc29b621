// SPDX-License-Identifier: Apache-2.0
//! Rulesets: what applies, its port classes and its verdicts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use thiserror::Error;

use super::{
    class::Signature,
    column::{self, Column, Columns, Entry, When},
    content::id_of,
    explain::Reading,
    lower::{Content, LoweredPeers, LoweredRule, NamespaceRules},
    predicate::{PredicateId, Predicates},
    table::{ClassId, PortPrefix, Room, Row, RulesetId},
};
use crate::model::policy::{Action, Enforcement, Tier};

/// A ruleset that is in use, or was until lately.
#[derive(Debug)]
pub(super) struct Ruleset {
    pub content: Arc<Content>,
    pub columns: Vec<Column>,
    pub ports: Vec<(PortPrefix, u8)>,
    pub rows: BTreeMap<ClassId, Arc<Row>>,
    /// What it keeps in use, one for each time that it was asked for.
    pub predicates: Vec<PredicateId>,
    users: usize,
}

/// What decided.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decision<'a> {
    /// A rule.
    Rule(Tier, &'a LoweredRule),
    /// No rule of those policies that isolate the pod.
    Isolated,
    /// A pod cannot be kept from itself.
    Itself,
    /// No policy.
    Nothing,
}

impl Decision<'_> {
    pub fn is_allowed(self) -> bool {
        match self {
            Self::Rule(_, rule) => rule.action == Action::Accept,
            Self::Isolated => false,
            Self::Itself | Self::Nothing => true,
        }
    }
}

const TIERS: [Tier; 3] = [Tier::Admin, Tier::NetworkPolicy, Tier::Baseline];

impl Ruleset {
    /// The verdicts for a class.
    pub fn row(&self, class: &Signature) -> Row {
        let allow = self.verdicts(class, Reading::Enforced);
        let staged = match self.content.is_audited() {
            true => self.verdicts(class, Reading::Staged),
            false => allow,
        };
        Row { allow, staged }
    }

    fn verdicts(&self, class: &Signature, reading: Reading) -> [u64; 4] {
        let matching = self.matching(class);
        let mut bits = [0; 4];
        for (number, column) in self.columns.iter().enumerate() {
            if self.decide(column, &matching, class, reading).is_allowed() {
                bits[number / 64] |= 1 << (number % 64);
            }
        }
        bits
    }

    /// What decides of a port class.
    pub fn decision(&self, class: &Signature, port: u8, reading: Reading) -> Option<Decision<'_>> {
        let column = self.columns.get(usize::from(port))?;
        Some(self.decide(column, &self.matching(class), class, reading))
    }

    /// For each rule of each tier, whether its peers match.
    fn matching(&self, class: &Signature) -> [Vec<bool>; 3] {
        self.content.tiers().map(|rules| rules.iter().map(|rule| is_peer(rule, class)).collect())
    }

    fn decide(
        &self,
        column: &Column,
        matching: &[Vec<bool>; 3],
        class: &Signature,
        reading: Reading,
    ) -> Decision<'_> {
        for (tier, rules) in self.content.tiers().into_iter().enumerate() {
            let is_isolated = TIERS[tier] == Tier::NetworkPolicy && self.is_isolated(reading);
            if is_isolated && matches!(self.content.namespace, NamespaceRules::Itself(_)) {
                return Decision::Itself;
            }
            let applies = |entry: &&Entry| {
                matching[tier][entry.rule]
                    && is_read(rules[entry.rule].enforcement, reading)
                    && is_named(&entry.when, class)
            };
            let first = column.tiers[tier].iter().find(applies).map(|entry| &rules[entry.rule]);
            match first.map(|rule| (rule, rule.action)) {
                Some((rule, Action::Accept | Action::Deny)) => {
                    return Decision::Rule(TIERS[tier], rule);
                }
                Some((_, Action::Pass)) | None => {}
            }
            if is_isolated {
                return Decision::Isolated;
            }
        }
        Decision::Nothing
    }

    fn is_isolated(&self, reading: Reading) -> bool {
        match self.content.namespace {
            NamespaceRules::Union(_) => {
                self.content.isolating.iter().any(|(_, by)| is_read(*by, reading))
            }
            NamespaceRules::Itself(by) => by.is_some_and(|by| is_read(by, reading)),
        }
    }
}

/// A policy counts in this reading.
pub(super) fn is_read(enforcement: Enforcement, reading: Reading) -> bool {
    match enforcement {
        Enforcement::Enforced => true,
        Enforcement::Audited => reading == Reading::Staged,
    }
}

fn is_peer(rule: &LoweredRule, class: &Signature) -> bool {
    match &rule.peers {
        LoweredPeers::Any => true,
        LoweredPeers::Only { predicates, with_unknown_pods } => {
            predicates.iter().any(|id| class.has(*id))
                || (*with_unknown_pods && class.is_unknown_pod)
        }
    }
}

fn is_named(when: &When, class: &Signature) -> bool {
    match when {
        When::Always => true,
        When::Named(ports) => ports.iter().any(|port| class.names(port)),
    }
}

/// All rulesets.
#[derive(Debug, Default)]
pub(super) struct Rulesets {
    known: BTreeMap<RulesetId, Ruleset>,
    ids: HashMap<Arc<Content>, RulesetId>,
    fresh: Vec<RulesetId>,
}

/// Why a ruleset is [`RulesetId::CLOSED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClosedReason {
    /// A row has no bit for each of its port classes.
    #[error(
        "its policies tell {0} kinds of ports apart, there is room for {max}",
        max = column::MAX_PORT_CLASSES
    )]
    TooManyPortClasses(usize),
    /// The table of port classes would be too full.
    #[error("{needed} port classes would be needed, there is room for {room}")]
    NoRoomForPorts {
        /// Of all rulesets together.
        needed: usize,
        /// The room.
        room: usize,
    },
    /// The table of rows would be too full.
    #[error("{needed} rows would be needed, there is room for {room}")]
    NoRoomForRows {
        /// Of all rulesets together.
        needed: usize,
        /// The room.
        room: usize,
    },
}

/// What rulesets take from the tables, and what there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub room: Room,
    /// How many rows a ruleset has.
    pub classes: usize,
}

impl Budget {
    fn check(self, known: &BTreeMap<RulesetId, Ruleset>, new: usize) -> Result<(), ClosedReason> {
        let ports: usize = known.values().map(|ruleset| ruleset.ports.len()).sum();
        let (needed, room) = (ports + new, self.room.ports);
        if needed > room {
            return Err(ClosedReason::NoRoomForPorts { needed, room });
        }
        let (needed, room) = ((known.len() + 1) * self.classes, self.room.rows);
        match needed > room {
            true => Err(ClosedReason::NoRoomForRows { needed, room }),
            false => Ok(()),
        }
    }
}

impl Rulesets {
    /// The ruleset of a content, for one more user; `Err` with what the content held, if that is
    /// not needed.
    pub fn acquire(
        &mut self,
        content: Content,
        held: Vec<PredicateId>,
        predicates: &Predicates,
        budget: Budget,
    ) -> Acquired {
        if let Some(id) = self.ids.get(&content) {
            if let Some(ruleset) = self.known.get_mut(id) {
                ruleset.users += 1;
            }
            return Acquired::Shared(*id, held);
        }
        let Columns { columns, ports } = match column::columns(&content) {
            Ok(columns) => columns,
            Err(count) => {
                return Acquired::Refused(ClosedReason::TooManyPortClasses(count), held);
            }
        };
        // Before anything is written: what is there must stay whole.
        if let Err(reason) = budget.check(&self.known, ports.len()) {
            return Acquired::Refused(reason, held);
        }
        let is_taken = |id| self.known.contains_key(&RulesetId(id));
        let id = RulesetId(id_of(content.number(predicates), RulesetId::RESERVED, is_taken));
        let content = Arc::new(content);
        self.ids.insert(content.clone(), id);
        let rows = BTreeMap::new();
        let ruleset = Ruleset { content, columns, ports, rows, predicates: held, users: 1 };
        self.known.insert(id, ruleset);
        self.fresh.push(id);
        Acquired::New(id)
    }

    /// One user less.
    pub fn release(&mut self, id: RulesetId) {
        if let Some(ruleset) = self.known.get_mut(&id) {
            ruleset.users -= 1;
        }
    }

    /// Drops and returns the rulesets without users.
    pub fn collect(&mut self) -> Vec<(RulesetId, Ruleset)> {
        let unused: Vec<_> = self.known.extract_if(.., |_, ruleset| ruleset.users == 0).collect();
        for (_, ruleset) in &unused {
            self.ids.remove(&ruleset.content);
        }
        unused
    }

    /// The rulesets that are new since the last call.
    pub fn take_fresh(&mut self) -> Vec<RulesetId> {
        std::mem::take(&mut self.fresh)
    }

    pub fn get(&self, id: RulesetId) -> Option<&Ruleset> {
        self.known.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (RulesetId, &Ruleset)> {
        self.known.iter().map(|(id, ruleset)| (*id, ruleset))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (RulesetId, &mut Ruleset)> {
        self.known.iter_mut().map(|(id, ruleset)| (*id, ruleset))
    }
}

/// What became of a content. What it held is given back if nobody keeps it.
pub(super) enum Acquired {
    New(RulesetId),
    Shared(RulesetId, Vec<PredicateId>),
    Refused(ClosedReason, Vec<PredicateId>),
}
