// SPDX-License-Identifier: Apache-2.0
//! Label selectors, and what both kinds of policies share.

use super::{
    api::{LabelSelector, ObjectMeta},
    metadata::texts,
};
use crate::model::{
    intern::Interner,
    policy::{Enforcement, Requirement, Selector},
    rejection::{ClosedEffect, RejectReason},
};

/// With the value `true`, a policy reports what it would drop, and drops nothing.
pub const AUDIT_ANNOTATION: &str = "pintle.dev/audit";

/// Converts a selector, or says what is wrong with it.
pub(super) fn selector(
    selector: &LabelSelector<'_>,
    interner: &Interner,
) -> Result<Selector, String> {
    let mut requirements = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        requirements.push(Requirement::In(interner.name(key), [interner.name(value)].into()));
    }
    for expression in selector.match_expressions.iter().flatten() {
        // What no pod has would be missing from each, and so admit everybody.
        let Some(key) = expression.key.as_deref().filter(|key| !key.is_empty()) else {
            return Err("a requirement without key".to_owned());
        };
        let key = interner.name(key);
        let values: Box<[_]> =
            texts(&expression.values).map(|value| interner.name(value)).collect();
        let operator = expression.operator.as_deref().unwrap_or_default();
        requirements.push(match (operator, values.is_empty()) {
            ("In", false) => Requirement::In(key, values),
            ("NotIn", false) => Requirement::NotIn(key, values),
            ("Exists", true) => Requirement::Exists(key),
            ("DoesNotExist", true) => Requirement::DoesNotExist(key),
            ("In" | "NotIn", true) => {
                return Err(format!("operator '{operator}' without values"));
            }
            ("Exists" | "DoesNotExist", false) => {
                return Err(format!("operator '{operator}' with values"));
            }
            (other, _) => return Err(format!("operator '{other}' is unknown")),
        });
    }
    Ok(Selector::new(requirements))
}

/// What the audit annotation says.
pub(super) fn enforcement(meta: &ObjectMeta<'_>, reasons: &mut Vec<RejectReason>) -> Enforcement {
    let value = meta.annotations.as_ref().and_then(|annotations| annotations.get(AUDIT_ANNOTATION));
    match value.map(|value| &**value) {
        None | Some("false") => Enforcement::Enforced,
        Some("true") => Enforcement::Audited,
        Some(other) => {
            reasons.push(RejectReason::UnknownValue {
                field: AUDIT_ANNOTATION,
                value: other.to_owned(),
                used: "false",
            });
            Enforcement::Enforced
        }
    }
}

/// A part of a policy and how it fails closed.
pub(super) fn closed(field: String, message: String, effect: ClosedEffect) -> RejectReason {
    RejectReason::PolicyPart { field, message, effect }
}
