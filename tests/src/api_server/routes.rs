// SPDX-License-Identifier: Apache-2.0
//! From a request to its answer: what tests want to go wrong first, then who asks, then what for.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Response};
use serde_json::Value;

use super::Shared;
use super::answer::{Answer, Content};
use super::events::EventsApi;
use super::failure::Failure;
use super::faults::Answering;
use super::kind::Kind;
use super::object::Key;
use super::protection::Certificate;
use super::request::{Request, Target, read_body};
use super::{discovery, list, watch};

/// Answers one request; or does not, if tests want that.
pub(super) async fn handle(
    shared: Arc<Shared>,
    certificate: Certificate,
    request: hyper::Request<Incoming>,
) -> Result<Response<Content>, Infallible> {
    let (head, body) = request.into_parts();
    let request = Request::new(&head, certificate);
    let id = shared.journal.note(&request);
    let answering = shared.faults().answering;
    if answering == Answering::Nothing {
        pending::<()>().await;
    }
    let body = read_body(body).await.unwrap_or_default();
    let answer = dispatch(&shared, &request, &body, id).unwrap_or_else(Answer::from);
    shared.journal.answered(id, answer.status);
    Ok(answer.paced(&shared).into())
}

fn dispatch(
    shared: &Arc<Shared>,
    request: &Request,
    body: &[u8],
    id: usize,
) -> Result<Answer, Failure> {
    if let Some(refusal) = admit(shared, request)? {
        return Ok(refusal);
    }
    let method = &request.method;
    match &request.target {
        Target::Collection { kind, namespace } => {
            read(shared, request, (*kind, namespace.as_deref()), id)
        }
        Target::Object { kind, namespace, name } => get(shared, method, *kind, namespace, name),
        Target::Events { api, namespace } => create_event(shared, method, *api, namespace, body),
        Target::Event { api, namespace, name } => {
            patch_event(shared, request, *api, (namespace, name), body)
        }
        Target::Discovery => Ok(discovery::answer(&shared.store(), &request.path)),
        Target::Health => Ok(Answer::text(200, "ok")),
        Target::Version => Ok(discovery::version()),
        Target::Unknown if Kind::is_group_path(&request.path) => Err(Failure::no_kind()),
        Target::Unknown => Ok(discovery::unknown()),
    }
}

/// Who may not ask gets a failure; who may can still be refused.
fn admit(shared: &Arc<Shared>, request: &Request) -> Result<Option<Answer>, Failure> {
    let mut faults = shared.faults();
    faults.authorization.authenticate(request)?;
    let Some(attributes) = request.attributes() else { return Ok(None) };
    faults.authorization.authorize(&attributes)?;
    let refusal = faults.take_refusal(attributes.verb);
    Ok(refusal.map(|refusal| refusal.answer(attributes.verb)))
}

/// A list or a watch.
fn read(
    shared: &Arc<Shared>,
    request: &Request,
    (kind, namespace): (Kind, Option<&str>),
    id: usize,
) -> Result<Answer, Failure> {
    let mut store = shared.store();
    if !store.offers(kind) {
        return Ok(discovery::unknown());
    }
    if request.method != Method::GET {
        return Err(Failure::method_not_allowed());
    }
    // Protobuf, tables and partial objects are not served.
    let accepts_json = request.accept.is_empty()
        || request.accept.contains("*/*")
        || request.accept.contains("application/json");
    if !accepts_json || request.accept.contains("as=") {
        return Err(Failure::not_acceptable());
    }
    if request.parameters.is_set("watch") {
        return watch::answer(shared, &mut store, kind, namespace, &request.parameters, id);
    }
    list::answer(&store, kind, namespace, &request.parameters)
}

/// One object.
fn get(
    shared: &Arc<Shared>,
    method: &Method,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Result<Answer, Failure> {
    let store = shared.store();
    if !store.offers(kind) {
        return Ok(discovery::unknown());
    }
    if method != Method::GET {
        return Err(Failure::method_not_allowed());
    }
    let object = store.get(kind, &Key::new(kind, namespace, name));
    let object = object.ok_or_else(|| Failure::no_object(kind, name))?;
    let mut text = Vec::new();
    list::write_with_kind(&mut text, kind, &object.json);
    Ok(Answer::json(200, text))
}

fn create_event(
    shared: &Arc<Shared>,
    method: &Method,
    api: EventsApi,
    namespace: &str,
    body: &[u8],
) -> Result<Answer, Failure> {
    if method != Method::POST {
        return Err(Failure::method_not_allowed());
    }
    let revision = shared.store().next_revision();
    let event: Value = shared.events().create(api, namespace, body, revision)?;
    Ok(Answer::value(201, &event))
}

fn patch_event(
    shared: &Arc<Shared>,
    request: &Request,
    api: EventsApi,
    place: (&str, &str),
    body: &[u8],
) -> Result<Answer, Failure> {
    if request.method != Method::PATCH {
        return Err(Failure::method_not_allowed());
    }
    // Events have no lists that strategic merge would treat differently.
    let types = ["application/merge-patch+json", "application/strategic-merge-patch+json"];
    if !types.contains(&&*request.content_type) {
        return Err(Failure::unsupported_media_type());
    }
    let revision = shared.store().next_revision();
    let event = shared.events().patch(api, place, body, revision)?;
    Ok(Answer::value(200, &event))
}
