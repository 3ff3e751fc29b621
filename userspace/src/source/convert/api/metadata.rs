// SPDX-License-Identifier: Apache-2.0
//! What objects of all kinds have.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, de::IgnoredAny};

use super::{List, Text};

/// meta/v1 ObjectMeta.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct ObjectMeta<'a> {
    pub name: Option<Text<'a>>,
    pub namespace: Option<Text<'a>>,
    pub labels: Option<BTreeMap<Text<'a>, Text<'a>>>,
    pub annotations: Option<BTreeMap<Text<'a>, Text<'a>>>,
    pub creation_timestamp: Option<Time>,
    /// That it is being deleted is all that matters.
    pub deletion_timestamp: Option<IgnoredAny>,
}

/// meta/v1 LabelSelector.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct LabelSelector<'a> {
    pub match_labels: Option<BTreeMap<Text<'a>, Text<'a>>>,
    pub match_expressions: List<LabelSelectorRequirement<'a>>,
}

/// meta/v1 LabelSelectorRequirement.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct LabelSelectorRequirement<'a> {
    pub key: Option<Text<'a>>,
    pub operator: Option<Text<'a>>,
    pub values: Option<Vec<Text<'a>>>,
}
