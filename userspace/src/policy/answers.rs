// SPDX-License-Identifier: Apache-2.0
//! Rows for many classes at once.
//!
//! A ruleset asks few of the questions that tell classes apart, so most classes are alike to it and
//! share a row.

use std::{collections::HashMap, sync::Arc};

use super::{
    class::Signature,
    predicate::PredicateId,
    ruleset::Ruleset,
    table::{ClassId, Row},
};
use crate::model::policy::NamedPort;

/// What classes answer, by question: places in the list of classes.
pub(super) struct Answers<'a> {
    classes: Vec<(ClassId, &'a Signature)>,
    holding: HashMap<PredicateId, Vec<usize>>,
    naming: HashMap<&'a NamedPort, Vec<usize>>,
    /// Those of addresses whose pods we do not know, and of those that may hide pods.
    special: [Vec<usize>; 2],
}

impl<'a> Answers<'a> {
    /// Of classes that come in the order of their ids.
    pub fn new(classes: impl Iterator<Item = (ClassId, &'a Signature)>) -> Self {
        let mut answers = Self {
            classes: classes.collect(),
            holding: HashMap::new(),
            naming: HashMap::new(),
            special: Default::default(),
        };
        for (place, (_, signature)) in answers.classes.iter().enumerate() {
            for predicate in &signature.holds {
                answers.holding.entry(*predicate).or_default().push(place);
            }
            for port in &signature.ports {
                answers.naming.entry(port).or_default().push(place);
            }
            if signature.is_unknown_pod {
                answers.special[0].push(place);
            }
            if signature.hides_peers {
                answers.special[1].push(place);
            }
        }
        answers
    }

    /// The rows of a ruleset for all the classes.
    pub fn rows(&self, ruleset: &Ruleset) -> impl Iterator<Item = (ClassId, Arc<Row>)> {
        let groups = self.groups(ruleset);
        let mut rows: Vec<Option<Arc<Row>>> = Vec::new();
        self.classes.iter().zip(groups).map(move |((class, signature), group)| {
            if rows.len() <= group {
                rows.resize(group + 1, None);
            }
            let row = rows[group].get_or_insert_with(|| Arc::new(ruleset.row(signature)));
            (*class, row.clone())
        })
    }

    /// For each class the number of a group: to the ruleset, all classes of a group are alike.
    fn groups(&self, ruleset: &Ruleset) -> Vec<usize> {
        let mut groups = vec![0; self.classes.len()];
        let mut count = 1;
        let mut split = |places: &[usize]| {
            let mut parts: HashMap<usize, usize> = HashMap::new();
            for place in places {
                let part = parts.entry(groups[*place]).or_insert_with(|| {
                    count += 1;
                    count - 1
                });
                groups[*place] = *part;
            }
        };
        let asked = ruleset.content.predicates();
        asked.iter().filter_map(|id| self.holding.get(id)).for_each(|places| split(places));
        let names = ruleset.content.named_ports();
        names.into_iter().filter_map(|port| self.naming.get(port)).for_each(|places| split(places));
        self.special.iter().for_each(|places| split(places));
        groups
    }
}
