// SPDX-License-Identifier: Apache-2.0
//! Lists: the objects of a kind at one revision, whole or in pages.
//!
//! All pages of a list show the same revision; the continue token says which, and after what.

use std::fmt::Write as _;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::answer::Answer;
use super::failure::Failure;
use super::history::Objects;
use super::kind::{Kind, Origin};
use super::object::{Key, Object};
use super::request::Parameters;
use super::selector::Selection;
use super::store::Store;

/// The revision in a token that gives up consistency: "the newest one".
const ANY_REVISION: i64 = -1;

/// What a list shows.
struct ListOptions {
    selection: Selection,
    limit: usize,
    page: PageStart,
}

/// At which revision, and after which object, a page begins.
enum PageStart {
    Newest,
    /// The newest, if the server has come that far.
    NotOlderThan(u64),
    Exactly(u64),
    Continue {
        revision: i64,
        after: Key,
    },
}

/// A page that is ready to be written.
struct Page {
    revision: u64,
    objects: Vec<Arc<Object>>,
    remaining: usize,
}

/// Answers a list.
pub(super) fn answer(
    store: &Store,
    kind: Kind,
    namespace: Option<&str>,
    parameters: &Parameters,
) -> Result<Answer, Failure> {
    let options = ListOptions::parse(kind, namespace, parameters)?;
    let page = options.read(store, kind)?;
    Ok(Answer::json(200, page.write(kind, &options.selection)))
}

impl ListOptions {
    fn parse(
        kind: Kind,
        namespace: Option<&str>,
        parameters: &Parameters,
    ) -> Result<ListOptions, Failure> {
        validate(parameters)?;
        let (labels, fields) = (parameters.get("labelSelector"), parameters.get("fieldSelector"));
        let selection = Selection::parse(kind, namespace, labels, fields)?;
        // "Any revision" is served from the watch cache, which knows no pages.
        let is_any = parameters.get("resourceVersion") == "0";
        let limit = parameters.number("limit")?.filter(|limit| *limit > 0 && !is_any);
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let page = PageStart::parse(parameters)?;
        Ok(ListOptions { selection, limit, page })
    }

    fn read(&self, store: &Store, kind: Kind) -> Result<Page, Failure> {
        let (revision, after) = self.page.find(store.revision())?;
        let objects = store.at(kind, revision).map_err(|_| match &self.page {
            PageStart::Continue { after, .. } => {
                Failure::continue_expired(&token(ANY_REVISION, after))
            }
            PageStart::Newest | PageStart::NotOlderThan(_) | PageStart::Exactly(_) => {
                Failure::list_expired()
            }
        })?;
        let mut selected = self.select(&objects, after);
        let objects: Vec<_> = selected.by_ref().take(self.limit).cloned().collect();
        Ok(Page { revision, objects, remaining: selected.count() })
    }

    fn select<'a>(
        &'a self,
        objects: &'a Objects,
        after: Option<&'a Key>,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let start = after.map_or(Unbounded, Excluded);
        let rest = objects.range((start, Unbounded)).map(|(_, object)| object);
        rest.filter(|object| self.selection.matches(object))
    }
}

impl PageStart {
    fn parse(parameters: &Parameters) -> Result<PageStart, Failure> {
        let no_revision = |_| Failure::list_of_no_revision(parameters.get("resourceVersion"));
        let revision = parameters.number("resourceVersion").map_err(no_revision)?.unwrap_or(0);
        let continued = parameters.get("continue");
        if !continued.is_empty() {
            if revision > 0 {
                let message = "specifying resource version is not allowed when using continue";
                return Err(Failure::bad_request(message));
            }
            return parse_token(continued);
        }
        // Without a match, a page of a given revision is of exactly that one.
        let is_page = parameters.number("limit")?.is_some_and(|limit| limit > 0);
        Ok(match (revision, parameters.get("resourceVersionMatch")) {
            (0, _) => PageStart::Newest,
            (revision, "Exact") => PageStart::Exactly(revision),
            (revision, "") if is_page => PageStart::Exactly(revision),
            (revision, _) => PageStart::NotOlderThan(revision),
        })
    }

    /// The revision to show, and the last object that has been shown before.
    fn find(&self, newest: u64) -> Result<(u64, Option<&Key>), Failure> {
        match self {
            PageStart::Newest => Ok((newest, None)),
            PageStart::NotOlderThan(asked) | PageStart::Exactly(asked) if *asked > newest => {
                Err(Failure::too_large_revision(*asked, newest))
            }
            PageStart::NotOlderThan(_) => Ok((newest, None)),
            PageStart::Exactly(revision) => Ok((*revision, None)),
            PageStart::Continue { revision, after } => {
                Ok((u64::try_from(*revision).unwrap_or(newest), Some(after)))
            }
        }
    }
}

impl Page {
    fn write(&self, kind: Kind, selection: &Selection) -> Vec<u8> {
        let Page { revision, objects, remaining } = self;
        let mut head = format!(
            "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{{\
             \"resourceVersion\":\"{revision}\"",
            kind.description().kind,
            kind.api_version()
        );
        if let (Some(last), true) = (objects.last(), *remaining > 0) {
            let revision = i64::try_from(*revision).unwrap_or(ANY_REVISION);
            let _ = write!(head, ",\"continue\":\"{}\"", token(revision, &last.key));
            // What selectors leave is not known without reading all of it.
            if !selection.has_selectors() {
                let _ = write!(head, ",\"remainingItemCount\":{remaining}");
            }
        } else if kind.description().origin == Origin::CustomResourceDefinition {
            head += ",\"continue\":\"\"";
        }
        let mut text = head.into_bytes();
        text.extend_from_slice(b"},\"items\":[");
        for (number, object) in objects.iter().enumerate() {
            if number > 0 {
                text.push(b',');
            }
            write_item(&mut text, kind, object);
        }
        text.extend_from_slice(b"]}\n");
        text
    }
}

/// Items of built-in kinds do not say their kind; those of other kinds do.
fn write_item(text: &mut Vec<u8>, kind: Kind, object: &Object) {
    match kind.description().origin {
        Origin::BuiltIn => text.extend_from_slice(&object.json),
        Origin::CustomResourceDefinition => write_with_kind(text, kind, &object.json),
    }
}

/// Writes an object with `kind` and `apiVersion` in front of what it is stored as.
pub(super) fn write_with_kind(text: &mut Vec<u8>, kind: Kind, json: &[u8]) {
    let (name, version) = (kind.description().kind, kind.api_version());
    text.extend_from_slice(
        format!("{{\"kind\":\"{name}\",\"apiVersion\":\"{version}\",").as_bytes(),
    );
    // An object has metadata, so something follows its opening brace.
    text.extend_from_slice(json.get(1..).unwrap_or_default());
}

fn token(revision: i64, after: &Key) -> String {
    format!("{revision}.{}", after.as_str())
}

fn parse_token(text: &str) -> Result<PageStart, Failure> {
    let parts = text.split_once('.');
    let parsed = parts.and_then(|(revision, after)| Some((revision.parse().ok()?, after)));
    let Some((revision, after)) = parsed else {
        let why = "continue key is not valid: illegal base64 data at input byte 0";
        return Err(Failure::bad_request(format!("invalid continue token: {why}")));
    };
    Ok(PageStart::Continue { revision, after: Key::from_token(after) })
}

fn validate(parameters: &Parameters) -> Result<(), Failure> {
    let wanted = parameters.get("resourceVersionMatch");
    let mut causes = Vec::new();
    let mut forbid = |field, why: &str| causes.push((field, format!("Forbidden: {why}")));
    if !wanted.is_empty() {
        let field = "resourceVersionMatch";
        if parameters.get("resourceVersion").is_empty() {
            forbid(field, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if !parameters.get("continue").is_empty() {
            forbid(field, "resourceVersionMatch is forbidden when continue is provided");
        }
        if wanted == "Exact" && parameters.get("resourceVersion") == "0" {
            forbid(field, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        if !matches!(wanted, "Exact" | "NotOlderThan") {
            let values = "\"Exact\", \"NotOlderThan\", \"\"";
            let why = format!("Unsupported value: \"{wanted}\": supported values: {values}");
            causes.push((field, why));
        }
    }
    if parameters.has("sendInitialEvents") {
        let why = "Forbidden: sendInitialEvents is forbidden for list";
        causes.push(("sendInitialEvents", why.to_owned()));
    }
    refuse_if_any(&causes)
}

/// The answer to options that contradict each other.
pub(super) fn refuse_if_any(causes: &[(&str, String)]) -> Result<(), Failure> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(Failure::invalid(("ListOptions", "meta.k8s.io"), "", causes))
}
