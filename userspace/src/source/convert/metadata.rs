// SPDX-License-Identifier: Apache-2.0
//! What every conversion yields, and the checks that all kinds share.

use std::{net::IpAddr, sync::Arc};

use thiserror::Error;

use super::api::{ObjectMeta, Text};
use crate::model::{
    cidr::Cidr,
    intern::Interner,
    ip,
    name::{Kind, ObjectName, ObjectRef},
    object::Object,
    policy::Labels,
    rejection::RejectReason,
};

/// The outcome for one API object.
#[derive(Debug)]
pub struct Converted {
    /// Which object.
    pub object: ObjectRef,
    /// Its valid part; `None` if Pintle is to behave as if it did not exist.
    pub value: Option<Object>,
    /// What was left out of it.
    pub reasons: Vec<RejectReason>,
}

impl Converted {
    /// An object that is none of a service proxy's business.
    pub(super) fn absent(kind: Kind, name: ObjectName) -> Self {
        Self { object: ObjectRef::new(kind, name), value: None, reasons: Vec::new() }
    }

    pub(super) fn present(value: Object, reasons: Vec<RejectReason>) -> Self {
        Self { object: value.object_ref(), value: Some(value), reasons }
    }
}

/// An object that cannot be named, so nothing more can be said about it.
#[derive(Debug, Error)]
#[error("'{0}' is not a name")]
pub struct NameError(pub String);

/// `namespace/name`; an object without namespace is in `default`, as kubectl has it.
pub(super) fn namespaced(meta: &ObjectMeta<'_>) -> Result<ObjectName, NameError> {
    let namespace = match meta.namespace.as_deref() {
        None | Some("") => "default",
        Some(namespace) => checked(namespace)?,
    };
    Ok(ObjectName::namespaced(namespace, checked(meta.name.as_deref().unwrap_or_default())?))
}

/// `name` of a cluster-scoped object.
pub(super) fn cluster_scoped(meta: &ObjectMeta<'_>) -> Result<ObjectName, NameError> {
    Ok(ObjectName::cluster(checked(meta.name.as_deref().unwrap_or_default())?))
}

/// Names end up in `namespace/name` and on terminals; the API server allows much less than this.
fn checked(name: &str) -> Result<&str, NameError> {
    let valid = !name.is_empty()
        && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
    valid.then_some(name).ok_or_else(|| NameError(name.to_owned()))
}

/// A label's value; `None` if the label is absent.
pub(super) fn label<'a>(meta: &'a ObjectMeta<'_>, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(|value| &**value)
}

/// The texts of a list.
pub(super) fn texts<'a>(list: &'a Option<Vec<Text<'_>>>) -> impl Iterator<Item = &'a str> + Clone {
    list.iter().flatten().map(|text| &**text)
}

/// The labels of an object, strings shared.
pub(super) fn labels(meta: &ObjectMeta<'_>, interner: &Interner) -> Labels {
    Labels::new(label_pairs(meta, interner))
}

/// Keys and values of an object's labels, strings shared.
pub(super) fn label_pairs(
    meta: &ObjectMeta<'_>,
    interner: &Interner,
) -> impl Iterator<Item = (Arc<str>, Arc<str>)> {
    let pairs = meta.labels.iter().flatten();
    pairs.map(|(key, value)| (interner.name(key), interner.name(value)))
}

/// Parses an address that other hosts can reach.
pub(super) fn address(field: &'static str, text: &str) -> Result<IpAddr, RejectReason> {
    let ip =
        ip::parse(text).ok_or_else(|| RejectReason::BadAddress { field, text: text.to_owned() })?;
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
        return Err(RejectReason::UnusableAddress { field, text: text.to_owned() });
    }
    Ok(ip)
}

/// Parses a range of addresses.
pub(super) fn range(field: &'static str, text: &str) -> Result<Cidr, RejectReason> {
    Cidr::parse(text).ok_or_else(|| RejectReason::BadRange { field, text: text.to_owned() })
}

/// What of some texts is good; what is bad is told.
pub(super) fn all_good<'a, T>(
    field: &'static str,
    texts: impl Iterator<Item = &'a str>,
    parse: fn(&'static str, &str) -> Result<T, RejectReason>,
    reasons: &mut Vec<RejectReason>,
) -> Box<[T]> {
    let mut found = Vec::new();
    for text in texts.map(str::trim).filter(|text| !text.is_empty()) {
        match parse(field, text) {
            Ok(value) => found.push(value),
            Err(reason) => reasons.push(reason),
        }
    }
    found.into()
}

/// A port number that fits; `name` is for the message.
pub(super) fn port_number(name: &str, number: i32) -> Result<u16, RejectReason> {
    match u16::try_from(number) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(RejectReason::PortOutOfRange { name: name.to_owned(), number }),
    }
}
