// SPDX-License-Identifier: Apache-2.0
//! A request, taken apart: what it is about, with which parameters, on whose behalf.

use std::future::poll_fn;
use std::pin::pin;

use hyper::Method;
use hyper::body::{Body as _, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName};

use super::authorization::{Attributes, Verb};
use super::events::EventsApi;
use super::failure::Failure;
use super::kind::{Kind, Scope};
use super::protection::Certificate;
use super::selector::Selection;

/// A request.
pub(super) struct Request {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub parameters: Parameters,
    pub token: Option<String>,
    pub certificate: Certificate,
    pub accept: String,
    pub content_type: String,
    pub target: Target,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The objects of a kind, of all namespaces or of one.
    Collection { kind: Kind, namespace: Option<String> },
    /// One object; the namespace is empty for a kind without.
    Object { kind: Kind, namespace: String, name: String },
    /// Events of a namespace.
    Events { api: EventsApi, namespace: String },
    /// One event.
    Event { api: EventsApi, namespace: String, name: String },
    /// `/api`, `/apis`, and what is directly below.
    Discovery,
    /// `/readyz` and its like.
    Health,
    /// `/version`.
    Version,
    /// Nothing the server knows.
    Unknown,
}

impl Request {
    /// Takes the head of a request apart.
    pub fn new(head: &hyper::http::request::Parts, certificate: Certificate) -> Request {
        let text = |name: HeaderName| header(&head.headers, &name).to_owned();
        let query = head.uri.query().unwrap_or_default();
        let token = text(AUTHORIZATION).strip_prefix("Bearer ").map(str::to_owned);
        Request {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: query.to_owned(),
            parameters: Parameters::parse(query),
            token,
            certificate,
            accept: text(ACCEPT),
            content_type: text(CONTENT_TYPE),
            target: Target::parse(head.uri.path()),
        }
    }

    /// What it does, in the words of roles; `None` for what is no resource.
    pub fn attributes(&self) -> Option<Attributes> {
        let verb = self.verb()?;
        let (group, resource, namespace, name) = match &self.target {
            Target::Collection { kind, namespace } => {
                (kind.group(), kind.plural(), namespace.clone(), self.selected_name(*kind))
            }
            Target::Object { kind, namespace, name } => {
                let namespace = Some(namespace.clone()).filter(|it| !it.is_empty());
                (kind.group(), kind.plural(), namespace, Some(name.clone()))
            }
            Target::Events { api, namespace } => {
                (api.group(), "events", Some(namespace.clone()), None)
            }
            Target::Event { api, namespace, name } => {
                (api.group(), "events", Some(namespace.clone()), Some(name.clone()))
            }
            Target::Discovery | Target::Health | Target::Version | Target::Unknown => return None,
        };
        let (group, resource) = (group.to_owned(), resource.to_owned());
        Some(Attributes { verb, group, resource, namespace, name })
    }

    fn verb(&self) -> Option<Verb> {
        let is_one = matches!(self.target, Target::Object { .. } | Target::Event { .. });
        match self.method.as_str() {
            // One object is read, whatever the parameters say.
            "GET" if is_one => Some(Verb::Get),
            "GET" if self.parameters.is_set("watch") => Some(Verb::Watch),
            "GET" => Some(Verb::List),
            "POST" => Some(Verb::Create),
            "PUT" => Some(Verb::Update),
            "PATCH" => Some(Verb::Patch),
            "DELETE" => Some(Verb::Delete),
            _ => None,
        }
    }

    /// The name that the selectors of a collection leave.
    fn selected_name(&self, kind: Kind) -> Option<String> {
        let fields = self.parameters.get("fieldSelector");
        Selection::parse(kind, None, "", fields).ok()?.only_name().map(str::to_owned)
    }
}

impl Target {
    fn parse(path: &str) -> Target {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let (group, version, rest) = match &segments[..] {
            ["version"] => return Target::Version,
            ["healthz" | "livez" | "readyz", ..] => return Target::Health,
            ["api" | "apis"] | ["api", _] | ["apis", _] | ["apis", _, _] => {
                return Target::Discovery;
            }
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Target::Unknown,
        };
        let in_group = |plural: &str| Kind::at(group, version, plural);
        Target::of_events(group, version, rest)
            .or_else(|| Target::of_kinds(&in_group, rest))
            .unwrap_or(Target::Unknown)
    }

    fn of_events(group: &str, version: &str, rest: &[&str]) -> Option<Target> {
        let api = EventsApi::at(group, version)?;
        match rest {
            ["namespaces", namespace, "events"] => {
                Some(Target::Events { api, namespace: (*namespace).into() })
            }
            ["namespaces", namespace, "events", name] => {
                let (namespace, name) = ((*namespace).into(), (*name).into());
                Some(Target::Event { api, namespace, name })
            }
            _ => None,
        }
    }

    fn of_kinds(kind_of: &dyn Fn(&str) -> Option<Kind>, rest: &[&str]) -> Option<Target> {
        let is_namespaced = |kind: &Kind| kind.description().scope == Scope::Namespaced;
        match rest {
            [plural] => Some(Target::Collection { kind: kind_of(plural)?, namespace: None }),
            [plural, name] => {
                let kind = kind_of(plural).filter(|kind| !is_namespaced(kind))?;
                Some(Target::Object { kind, namespace: String::new(), name: (*name).into() })
            }
            ["namespaces", namespace, plural] => {
                let kind = kind_of(plural).filter(is_namespaced)?;
                Some(Target::Collection { kind, namespace: Some((*namespace).into()) })
            }
            ["namespaces", namespace, plural, name] => {
                let kind = kind_of(plural).filter(is_namespaced)?;
                Some(Target::Object { kind, namespace: (*namespace).into(), name: (*name).into() })
            }
            _ => None,
        }
    }
}

/// The parameters of a query.
#[derive(Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn parse(query: &str) -> Parameters {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Parameters(decoded.map(|(name, value)| (decode(name), decode(value))).collect())
    }

    /// A parameter's text; one that is not there is empty, as for kube-apiserver.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether a parameter is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// Whether a parameter that is a question is answered with yes.
    pub fn is_set(&self, name: &str) -> bool {
        self.has(name) && !matches!(self.get(name), "false" | "False" | "FALSE" | "f" | "F" | "0")
    }

    /// A parameter that is a number, if it is there.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        match self.get(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Failure::bad_request(format!("invalid value for {name}: \"{text}\" is no number"))
            }),
        }
    }
}

/// Undoes percent-encoding, and `+` for a space.
fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let escaped = || {
            let digits = [bytes.next()?, bytes.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
        };
        match byte {
            b'%' => decoded.extend({ escaped }()),
            b'+' => decoded.push(b' '),
            other => decoded.push(other),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The whole body of a request.
pub(super) async fn read_body(body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        bytes.extend(frame?.into_data().unwrap_or_default());
    }
    Ok(bytes)
}
