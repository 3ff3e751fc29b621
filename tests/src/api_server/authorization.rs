// SPDX-License-Identifier: Apache-2.0
//! Who may do what: a bearer token that must be the right one or a certificate, and a ClusterRole's rules.
//!
//! Without either, everybody may do everything.

use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

use super::failure::Failure;
use super::request::Request;

/// What a request does, in the words of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads a collection.
    List,
    /// Follows a collection.
    Watch,
    /// Makes an object.
    Create,
    /// Replaces an object.
    Update,
    /// Changes parts of an object.
    Patch,
    /// Removes an object.
    Delete,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a request is about, as an authorizer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// What is done.
    pub verb: Verb,
    /// The API group, empty for the core group.
    pub group: String,
    /// The plural name.
    pub resource: String,
    /// The namespace; `None` for all of them and for what has none.
    pub namespace: Option<String>,
    /// The one object; of a collection, the one that a field selector names.
    pub name: Option<String>,
}

/// What requests need.
#[derive(Default)]
pub(super) struct Authorization {
    /// The only token that is good.
    pub token: Option<String>,
    /// What is allowed, if not everything.
    pub rules: Option<Vec<Rule>>,
    /// What is forbidden although a rule allows it.
    pub forbidden: Vec<(Verb, String)>,
}

impl Authorization {
    /// Refuses requests with another token, or with none, whose client has shown no certificate.
    pub fn authenticate(&self, request: &Request) -> Result<(), Failure> {
        let is_known = |good| request.token.as_ref() == Some(good) || request.certificate.is_some();
        let is_good = self.token.as_ref().is_none_or(is_known);
        is_good.then_some(()).ok_or_else(Failure::unauthorized)
    }

    /// Refuses what no rule allows.
    pub fn authorize(&self, asked: &Attributes) -> Result<(), Failure> {
        let is_it =
            |(verb, resource): &(Verb, String)| *verb == asked.verb && *resource == asked.resource;
        let is_forbidden = self.forbidden.iter().any(is_it);
        let allows = |rules: &Vec<Rule>| rules.iter().any(|rule| rule.allows(asked));
        let is_allowed = self.rules.as_ref().is_none_or(allows);
        if is_forbidden || !is_allowed { Err(Failure::forbidden(asked)) } else { Ok(()) }
    }
}

/// One rule of a ClusterRole.
pub(super) struct Rule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
}

impl Rule {
    /// The rules of a ClusterRole.
    pub fn of_role(role: &Value) -> Result<Vec<Rule>> {
        let rules = role["rules"].as_array().context("a role without rules")?;
        Ok(rules.iter().map(Rule::new).collect())
    }

    fn new(rule: &Value) -> Rule {
        let words = |field: &str| {
            let words = rule[field].as_array().into_iter().flatten();
            words.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Rule {
            verbs: words("verbs"),
            groups: words("apiGroups"),
            resources: words("resources"),
            names: words("resourceNames"),
        }
    }

    fn allows(&self, asked: &Attributes) -> bool {
        let has = |words: &[String], word: &str| words.iter().any(|it| it == word || it == "*");
        // A rule with names does not allow a request that names nothing.
        let is_named = asked.name.as_ref().is_some_and(|name| self.names.contains(name));
        has(&self.verbs, asked.verb.name())
            && has(&self.groups, &asked.group)
            && has(&self.resources, &asked.resource)
            && (self.names.is_empty() || is_named)
    }
}
