// SPDX-License-Identifier: Apache-2.0
//! Rulesets: what applies, its port classes and its verdicts.

use std::{collections::BTreeMap, sync::Arc};

use thiserror::Error;

use super::{
    class::Signature,
    column::{self, Column, Columns, Entry, When},
    content::id_of,
    explain::Reading,
    lower::{Content, LoweredPeers, LoweredPorts, LoweredRule, NamespaceRules},
    predicate::{PredicateId, Predicates},
    shared::Shared,
    table::{ClassId, PortPrefix, Row, RulesetId},
};
use crate::model::policy::{Action, Enforcement, Tier};

/// A ruleset that is in use, or was until lately.
#[derive(Debug)]
pub(super) struct Ruleset {
    pub content: Arc<Content>,
    pub columns: Vec<Column>,
    pub ports: Vec<(PortPrefix, u8)>,
    /// Those that are in the tables.
    pub rows: BTreeMap<ClassId, Arc<Row>>,
    /// Its port classes are in the tables.
    pub has_ports: bool,
    pub standing: Standing,
    /// What it keeps in use, one for each time that it was asked for.
    pub predicates: Vec<PredicateId>,
    /// Rulesets are numbered as they come.
    pub age: u64,
}

/// What of a ruleset is in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Perhaps not all of it: it is new, or classes have come while nobody needed it.
    Waiting,
    /// All of it.
    Whole,
    /// Pods that should have it are closed, and what there is of it goes.
    Closed(ClosedReason),
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
                    && is_named(&entry.when, &rules[entry.rule], class)
            };
            let first = column.tiers[tier].iter().find(applies).map(|entry| &rules[entry.rule]);
            match first.map(|rule| (rule, rule.action)) {
                Some((rule, Action::Accept | Action::Deny)) => {
                    return Decision::Rule(TIERS[tier], rule);
                }
                // Whom it is about cannot be said, so it cannot be left to other rules.
                Some((rule, Action::Pass)) if class.hides_peers && asks_who(rule) => {
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
        LoweredPeers::Only { predicates, with_unknown_pods, .. } => {
            predicates.iter().any(|id| class.has(*id))
                || (*with_unknown_pods && class.is_unknown_pod)
                || (class.hides_peers && asks_who(rule))
        }
    }
}

fn is_named(when: &When, rule: &LoweredRule, class: &Signature) -> bool {
    match when {
        When::Always => true,
        When::Named(ports) => {
            ports.iter().any(|port| class.names(port)) || (class.hides_peers && asks_who(rule))
        }
    }
}

/// It keeps something from peers by what they are. Such a rule holds where that cannot be known;
/// one that allows does not.
fn asks_who(rule: &LoweredRule) -> bool {
    if rule.action == Action::Accept {
        return false;
    }
    let names = match &rule.ports {
        LoweredPorts::Any => false,
        LoweredPorts::Only { named, .. } => !named.is_empty(),
    };
    match &rule.peers {
        LoweredPeers::Any => names,
        LoweredPeers::Only { asks_who, .. } => names || *asks_who,
    }
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
    /// The table of ranges would be too full.
    #[error("{needed} ranges of addresses would be needed, there is room for {room}")]
    NoRoomForRanges {
        /// Of all rulesets together, and of pods.
        needed: usize,
        /// The room.
        room: usize,
    },
}

/// All rulesets.
#[derive(Debug, Default)]
pub(super) struct Rulesets {
    known: Shared<RulesetId, Content, Ruleset>,
    next: u64,
}

impl Rulesets {
    /// The ruleset of a content, for one more user; and what the content held, if it is not new.
    pub fn acquire(
        &mut self,
        content: Content,
        held: Vec<PredicateId>,
        predicates: &Predicates,
    ) -> (RulesetId, Option<Vec<PredicateId>>) {
        if let Some(id) = self.known.find(&content) {
            self.known.acquire(id);
            return (id, Some(held));
        }
        let (columns, standing) = match column::columns(&content) {
            Ok(columns) => (columns, Standing::Waiting),
            Err(count) => {
                let nothing = Columns { columns: Vec::new(), ports: Vec::new() };
                (nothing, Standing::Closed(ClosedReason::TooManyPortClasses(count)))
            }
        };
        let is_taken = |id| self.known.has(RulesetId(id));
        let id = RulesetId(id_of(content.number(predicates), RulesetId::RESERVED, is_taken));
        let content = Arc::new(content);
        let age = self.next;
        self.next += 1;
        let Columns { columns, ports } = columns;
        let ruleset = Ruleset {
            content: content.clone(),
            columns,
            ports,
            rows: BTreeMap::new(),
            has_ports: false,
            standing,
            predicates: held,
            age,
        };
        self.known.insert(id, content, ruleset);
        (id, None)
    }

    /// One user less.
    pub fn release(&mut self, id: RulesetId) {
        self.known.release(id);
    }

    /// Somebody uses it.
    pub fn is_in_use(&self, id: RulesetId) -> bool {
        self.known.users(id) > 0
    }

    /// The rulesets without users.
    pub fn unused(&self) -> Vec<RulesetId> {
        self.known.unused()
    }

    /// The rulesets of which there is something in the tables that goes.
    pub fn closed(&self) -> Vec<RulesetId> {
        let is_closed = |one: &Ruleset| {
            matches!(one.standing, Standing::Closed(_)) && (one.has_ports || !one.rows.is_empty())
        };
        let closed = self.iter().filter(|(_, ruleset)| is_closed(ruleset));
        closed.map(|(id, _)| id).collect()
    }

    /// Forgets a ruleset, if it has no users.
    pub fn forget(&mut self, id: RulesetId) -> Option<Ruleset> {
        self.known.forget(id).map(|(_, ruleset)| ruleset)
    }

    /// What endpoints are to have in place of a ruleset.
    pub fn effective(&self, id: RulesetId) -> RulesetId {
        match self.get(id).map(|ruleset| ruleset.standing) {
            Some(Standing::Closed(_)) => RulesetId::CLOSED,
            Some(Standing::Waiting | Standing::Whole) | None => id,
        }
    }

    /// The rulesets, those first that are in the tables, then by age.
    pub fn by_standing(&self) -> Vec<RulesetId> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_by_key(|(_, one)| (one.standing != Standing::Whole, one.age));
        all.into_iter().map(|(id, _)| id).collect()
    }

    /// Some ruleset is closed.
    pub fn has_closed(&self) -> bool {
        self.iter().any(|(_, ruleset)| matches!(ruleset.standing, Standing::Closed(_)))
    }

    /// How many port classes and rows are in the tables.
    pub fn entries(&self) -> (usize, usize) {
        self.iter().fold((0, 0), |(ports, rows), (_, ruleset)| {
            let own = if ruleset.has_ports { ruleset.ports.len() } else { 0 };
            (ports + own, rows + ruleset.rows.len())
        })
    }

    pub fn get(&self, id: RulesetId) -> Option<&Ruleset> {
        self.known.get(id)
    }

    pub fn get_mut(&mut self, id: RulesetId) -> Option<&mut Ruleset> {
        self.known.get_mut(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (RulesetId, &Ruleset)> {
        self.known.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (RulesetId, &mut Ruleset)> {
        self.known.values_mut()
    }
}
