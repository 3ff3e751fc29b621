// SPDX-License-Identifier: Apache-2.0
//! What the server says when it does not do what it was asked: a `Status` object, worded as
//! kube-apiserver words it, because clients look into reasons and messages.

use serde_json::{Value, json};

use super::authorization::Attributes;
use super::kind::Kind;

/// Why a page cannot be continued, with the offer to go on without consistency.
const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a \
    consistent list result. You can start a new list without the continue parameter, or use the \
    continue token in this response to retrieve the remainder of the results. Continuing with the \
    provided token results in an inconsistent list - objects that were created, modified, or \
    deleted between the time the first chunk was returned and now may show up in the list.";

/// An unsuccessful answer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub code: u16,
    reason: &'static str,
    message: String,
    metadata: Value,
    details: Option<Value>,
}

impl Failure {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, reason, message: message.into(), metadata: json!({}), details: None }
    }

    /// The object.
    pub fn status(&self) -> Value {
        let Failure { code, reason, message, metadata, details } = self;
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        });
        if let (true, Some(fields)) = (reason.is_empty(), status.as_object_mut()) {
            fields.remove("reason");
        }
        if let (Some(details), Some(fields)) = (details, status.as_object_mut()) {
            fields.insert("details".into(), details.clone());
        }
        status
    }

    pub fn bad_request(message: impl Into<String>) -> Failure {
        Failure::new(400, "BadRequest", message)
    }

    /// A watch from a revision that is none, which the real server does not take for the client's mistake.
    pub fn watch_of_no_revision(text: &str) -> Failure {
        Failure::new(500, "", no_revision(text))
    }

    /// A list of a revision that is none.
    pub fn list_of_no_revision(text: &str) -> Failure {
        Failure::bad_request(format!("invalid resource version: {}", no_revision(text)))
    }

    /// A kind that a group of the server's own does not have.
    pub fn no_kind() -> Failure {
        let message = "the server could not find the requested resource";
        Failure { details: Some(json!({})), ..Failure::new(404, "NotFound", message) }
    }

    pub fn unauthorized() -> Failure {
        Failure::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn forbidden(attributes: &Attributes) -> Failure {
        let Attributes { verb, group, resource, namespace, name } = attributes;
        let place = match namespace {
            Some(namespace) => format!("in the namespace \"{namespace}\""),
            None => "at the cluster scope".into(),
        };
        let subject = match name {
            Some(name) => format!("{} \"{name}\"", qualified(resource, group)),
            None => qualified(resource, group),
        };
        let message = format!(
            "{subject} is forbidden: User \"system:serviceaccount:kube-system:pintle\" cannot \
             {verb} resource \"{resource}\" in API group \"{group}\" {place}",
        );
        let details = details(group, resource, name.as_deref());
        Failure { details: Some(details), ..Failure::new(403, "Forbidden", message) }
    }

    pub fn not_found(group: &str, resource: &str, name: &str) -> Failure {
        let message = format!("{} \"{name}\" not found", qualified(resource, group));
        let details = details(group, resource, Some(name));
        Failure { details: Some(details), ..Failure::new(404, "NotFound", message) }
    }

    pub fn method_not_allowed() -> Failure {
        let message = "the server does not allow this method on the requested resource";
        Failure::new(405, "MethodNotAllowed", message)
    }

    pub fn not_acceptable() -> Failure {
        let message = "only the following media types are accepted: application/json";
        Failure::new(406, "NotAcceptable", message)
    }

    pub fn already_exists(group: &str, resource: &str, name: &str) -> Failure {
        let message = format!("{} \"{name}\" already exists", qualified(resource, group));
        let details = details(group, resource, Some(name));
        Failure { details: Some(details), ..Failure::new(409, "AlreadyExists", message) }
    }

    pub fn unsupported_media_type() -> Failure {
        let message = "the body of the request was in an unknown format - accepted media types \
                       include: application/merge-patch+json";
        Failure::new(415, "UnsupportedMediaType", message)
    }

    /// A watch that would start before what the server still knows.
    pub fn watch_expired(from: u64, oldest: u64) -> Failure {
        Failure::new(410, "Expired", format!("too old resource version: {from} ({oldest})"))
    }

    /// A list of a state before what the server still knows.
    pub fn list_expired() -> Failure {
        let message = "The resourceVersion for the provided list is too old.";
        Failure::new(410, "Expired", message)
    }

    /// The same for the next page of a list; `next` leads to the rest of today's list.
    pub fn continue_expired(next: &str) -> Failure {
        let metadata = json!({ "continue": next });
        Failure { metadata, ..Failure::new(410, "Expired", CONTINUE_EXPIRED) }
    }

    /// The older word for an expired version, still sent by some servers as the answer to a watch.
    pub fn gone() -> Failure {
        Failure::new(410, "Gone", "The resourceVersion for the provided watch is too old.")
    }

    /// Fields or options that the API does not accept; of an object or of a query.
    pub fn invalid((kind, group): (&str, &str), name: &str, causes: &[(&str, String)]) -> Failure {
        let what = format!("{} \"{name}\"", qualified(kind, group));
        let all: Vec<String> =
            causes.iter().map(|(field, why)| format!("{field}: {why}")).collect();
        let message = match &all[..] {
            [one] => format!("{what} is invalid: {one}"),
            several => format!("{what} is invalid: [{}]", several.join(", ")),
        };
        let mut details = details(group, kind, Some(name).filter(|name| !name.is_empty()));
        details["causes"] = causes.iter().map(|(field, why)| cause(field, why)).collect();
        Failure { details: Some(details), ..Failure::new(422, "Invalid", message) }
    }

    pub fn internal(message: &str) -> Failure {
        let details = json!({ "causes": [{ "message": message }] });
        let message = format!("Internal error occurred: {message}");
        Failure { details: Some(details), ..Failure::new(500, "InternalError", message) }
    }

    pub fn unavailable() -> Failure {
        let message = "the server is currently unable to handle the request";
        Failure::new(503, "ServiceUnavailable", message)
    }

    /// A version that the server has not reached: it was restored, or another one is ahead.
    pub fn too_large_revision(asked: u64, current: u64) -> Failure {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let cause = json!({
            "reason": "ResourceVersionTooLarge", "message": "Too large resource version",
        });
        let details = json!({ "causes": [cause], "retryAfterSeconds": 1 });
        Failure { details: Some(details), ..Failure::new(504, "Timeout", message) }
    }

    /// `not_found` of a kind's object.
    pub fn no_object(kind: Kind, name: &str) -> Failure {
        Failure::not_found(kind.group(), kind.plural(), name)
    }
}

fn no_revision(text: &str) -> String {
    let why = format!("strconv.ParseUint: parsing \"{text}\": invalid syntax");
    format!("resourceVersion: Invalid value: \"{text}\": {why}")
}

/// One thing that is wrong, with the reason that its words begin with.
fn cause(field: &str, why: &str) -> Value {
    let reason = match why.split(':').next() {
        Some("Forbidden") => "FieldValueForbidden",
        Some("Required value") => "FieldValueRequired",
        Some("Unsupported value") => "FieldValueNotSupported",
        _ => "FieldValueInvalid",
    };
    json!({ "reason": reason, "message": why, "field": field })
}

fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn details(group: &str, resource: &str, name: Option<&str>) -> Value {
    let mut details = json!({ "kind": resource });
    if !group.is_empty() {
        details["group"] = group.into();
    }
    if let Some(name) = name {
        details["name"] = name.into();
    }
    details
}
