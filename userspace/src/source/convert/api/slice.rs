// SPDX-License-Identifier: Apache-2.0
//! discovery.k8s.io/v1 EndpointSlice.

use serde::Deserialize;

use super::{Fields, List, ObjectMeta, Text};

/// discovery.k8s.io/v1 EndpointSlice.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct EndpointSlice<'a> {
    pub metadata: Fields<ObjectMeta<'a>>,
    pub address_type: Option<Text<'a>>,
    pub ports: List<EndpointPort<'a>>,
    pub endpoints: List<Endpoint<'a>>,
}

/// A port that all endpoints of the slice have.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct EndpointPort<'a> {
    pub name: Option<Text<'a>>,
    pub port: Option<i32>,
    pub protocol: Option<Text<'a>>,
}

/// One endpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct Endpoint<'a> {
    pub addresses: Option<Vec<Text<'a>>>,
    pub conditions: Option<Fields<EndpointConditions>>,
    pub hints: Option<Fields<EndpointHints<'a>>>,
    pub node_name: Option<Text<'a>>,
    pub target_ref: Option<Fields<ObjectReference<'a>>>,
}

/// What state it is in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

/// Who is to use it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct EndpointHints<'a> {
    pub for_zones: List<Hint<'a>>,
    pub for_nodes: List<Hint<'a>>,
}

/// A zone or node that is to use an endpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Hint<'a> {
    pub name: Option<Text<'a>>,
}

/// What an endpoint is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct ObjectReference<'a> {
    pub kind: Option<Text<'a>>,
    pub name: Option<Text<'a>>,
}
