// SPDX-License-Identifier: Apache-2.0
//! Labels, and what selects by them.
//!
//! Invariant: equal selections have equal selectors as far as order and repetition go, so that a
//! selector can be a key.

use std::sync::Arc;

/// The label that every namespace has, with its own name.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The labels of an object, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// Labels of keys and values; of a repeated key, the last value counts.
    pub fn new(pairs: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) -> Self {
        let sorted: std::collections::BTreeMap<_, _> = pairs.into_iter().collect();
        Self(sorted.into_iter().collect())
    }

    /// The labels of a namespace: `kubernetes.io/metadata.name` is always among them.
    pub fn of_namespace(name: &str, pairs: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) -> Self {
        let own = (Arc::from(NAMESPACE_NAME), Arc::from(name));
        Self::new(pairs.into_iter().chain([own]))
    }

    /// The value of a label; `None` if the object does not have it.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&self.0[found].1)
    }
}

/// One condition on labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// The label is there, with one of the values.
    In(Arc<str>, Box<[Arc<str>]>),
    /// The label is absent, or has another value.
    NotIn(Arc<str>, Box<[Arc<str>]>),
    /// The label is there.
    Exists(Arc<str>),
    /// The label is absent.
    DoesNotExist(Arc<str>),
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let among = |key: &str, values: &[Arc<str>]| {
            labels.get(key).is_some_and(|value| values.iter().any(|one| **one == *value))
        };
        match self {
            Self::In(key, values) => among(key, values),
            Self::NotIn(key, values) => !among(key, values),
            Self::Exists(key) => labels.get(key).is_some(),
            Self::DoesNotExist(key) => labels.get(key).is_none(),
        }
    }

    fn normalize(&mut self) {
        match self {
            Self::In(_, values) | Self::NotIn(_, values) => {
                let mut sorted = std::mem::take(values).into_vec();
                sorted.sort_unstable();
                sorted.dedup();
                *values = sorted.into();
            }
            Self::Exists(_) | Self::DoesNotExist(_) => {}
        }
    }
}

/// Conditions that must all hold. None at all: every object is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(Box<[Requirement]>);

impl Selector {
    /// Selects every object.
    pub fn any() -> Self {
        Self::default()
    }

    /// Selects what meets all requirements.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let mut sorted: Vec<Requirement> = requirements.into_iter().collect();
        sorted.iter_mut().for_each(Requirement::normalize);
        sorted.sort_unstable();
        sorted.dedup();
        Self(sorted.into())
    }

    /// It selects every object whatever its labels.
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// It selects an object with these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())))
    }

    fn values(list: &[&str]) -> Box<[Arc<str>]> {
        list.iter().map(|value| (*value).into()).collect()
    }

    #[test]
    fn an_empty_selector_selects_everything() {
        assert!(Selector::any().matches(&labels(&[])));
        assert!(Selector::any().matches(&labels(&[("a", "1")])));
    }

    #[test]
    fn not_in_is_satisfied_when_the_key_is_absent() {
        let not_in = Selector::new([Requirement::NotIn("a".into(), values(&["1", "2"]))]);
        assert!(not_in.matches(&labels(&[])));
        assert!(not_in.matches(&labels(&[("a", "3")])));
        assert!(!not_in.matches(&labels(&[("a", "2")])));
    }

    #[test]
    fn requirements_are_anded() {
        let both = Selector::new([
            Requirement::In("a".into(), values(&["1"])),
            Requirement::Exists("b".into()),
            Requirement::DoesNotExist("c".into()),
        ]);
        assert!(both.matches(&labels(&[("a", "1"), ("b", "")])));
        assert!(!both.matches(&labels(&[("a", "1")])));
        assert!(!both.matches(&labels(&[("a", "2"), ("b", "")])));
        assert!(!both.matches(&labels(&[("a", "1"), ("b", ""), ("c", "")])));
    }

    #[test]
    fn order_and_repetition_make_no_other_selector() {
        let one = |list| Requirement::In("a".into(), values(list));
        let exists = || Requirement::Exists("b".into());
        let first = Selector::new([one(&["1", "2"]), exists()]);
        let second = Selector::new([exists(), one(&["2", "1", "1"]), exists()]);
        assert_eq!(first, second);
    }

    #[test]
    fn a_namespace_always_has_its_name_as_a_label() {
        let pairs = [("kubernetes.io/metadata.name".into(), "other".into())];
        assert_eq!(Labels::of_namespace("shop", pairs).get(NAMESPACE_NAME), Some("shop"));
    }
}
