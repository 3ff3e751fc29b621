// SPDX-License-Identifier: Apache-2.0
//! Lists and changes against what is told of them.

use std::time::Duration;

use proptest::{prelude::*, sample::select};
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::{model::name::ObjectName, source::text::say};

const SERVICE: DocumentKind = DocumentKind::Service;
const SLICE: DocumentKind = DocumentKind::EndpointSlice;

fn step(kind: DocumentKind, heard: Heard) -> Step {
    Step { kind, at: Instant::now(), heard }
}

/// A Service as a watch would hear of it.
fn service(name: &str, ip: &str) -> Heard {
    document(&json!({"metadata": {"name": name}, "spec": {"clusterIP": ip}}))
}

fn document(object: &serde_json::Value) -> Heard {
    let document: Document = serde_json::from_str(&object.to_string()).unwrap();
    Heard::of(&document, SERVICE, &Converter::default()).unwrap()
}

fn gone(name: &str) -> Heard {
    Heard::Gone(ObjectRef::new(Kind::Service, ObjectName::namespaced("default", name)))
}

/// A ledger of Services alone, and what it tells.
struct Services(Ledger);

impl Services {
    fn new() -> Self {
        Self(Ledger::new([SERVICE].into_iter()))
    }

    /// What is told after a watch has heard this.
    fn hear(&mut self, heard: impl IntoIterator<Item = Heard>) -> Vec<String> {
        heard.into_iter().for_each(|heard| self.0.take(step(SERVICE, heard)));
        let delivery = self.0.delivery();
        delivery.map(|told| told.batch.iter().map(say).collect()).unwrap_or_default()
    }

    /// One that has listed these and told of them.
    fn with(listed: impl IntoIterator<Item = Heard>) -> Self {
        let mut services = Self::new();
        services.list(listed);
        services
    }

    fn list(&mut self, listed: impl IntoIterator<Item = Heard>) -> Vec<String> {
        let listed = [Heard::ListBegins].into_iter().chain(listed).chain([Heard::ListEnds]);
        self.hear(listed)
    }
}

#[test]
fn everything_is_told_once_each_kind_is_listed() {
    let mut ledger = Ledger::new([SERVICE, SLICE].into_iter());
    let mut tell = |kind, heard: Vec<Heard>| -> Vec<String> {
        heard.into_iter().for_each(|heard| ledger.take(step(kind, heard)));
        ledger.delivery().map(|told| told.batch.iter().map(say).collect()).unwrap_or_default()
    };
    let listed = vec![Heard::ListBegins, service("a", "10.96.0.1"), Heard::ListEnds];
    assert_eq!(tell(SERVICE, listed), ["apply default/a 10.96.0.1"]);
    assert_eq!(tell(SLICE, vec![Heard::ListBegins]), [""; 0]);
    assert_eq!(tell(SLICE, vec![Heard::ListEnds]), ["synced"]);
    // Only once.
    assert_eq!(tell(SLICE, vec![Heard::ListBegins, Heard::ListEnds]), [""; 0]);
}

#[test]
fn a_kind_that_the_server_does_not_have_is_not_waited_for() {
    let mut services = Services::new();
    assert_eq!(services.hear([Heard::Absent]), ["synced"]);
    // It appears, and disappears: what it said stays.
    assert_eq!(services.list([service("a", "10.96.0.1")]), ["apply default/a 10.96.0.1"]);
    assert_eq!(services.hear([Heard::Absent]), [""; 0]);
    assert_eq!(services.list([]), ["delete Service default/a"]);
}

#[test]
fn a_later_list_takes_away_what_it_does_not_name_and_only_at_its_end() {
    let (a, b, c) = (("a", "10.96.0.1"), ("b", "10.96.0.2"), ("c", "10.96.0.3"));
    let mut services = Services::with([service(a.0, a.1), service(b.0, b.1)]);
    let told = services.hear([Heard::ListBegins, service(c.0, c.1)]);
    assert_eq!(told, ["apply default/c 10.96.0.3"]);
    // The connection is cut: a new list begins.
    assert_eq!(services.hear([Heard::ListBegins, service(b.0, b.1)]), [""; 0]);
    let told = services.hear([Heard::ListEnds]);
    assert_eq!(told, ["delete Service default/a", "delete Service default/c"]);
}

#[test]
fn what_is_as_it_was_is_not_told() {
    let mut services = Services::with([service("a", "10.96.0.1")]);
    assert_eq!(services.list([service("a", "10.96.0.1")]), [""; 0]);
    assert_eq!(services.hear([service("a", "10.96.0.1")]), [""; 0]);
    let there_and_back = [service("a", "10.96.0.2"), gone("a"), service("a", "10.96.0.1")];
    assert_eq!(services.hear(there_and_back), [""; 0]);
    assert_eq!(services.hear([gone("nobody")]), [""; 0]);
}

#[test]
fn an_object_that_cannot_be_decoded_stays_as_it_was() {
    let mut services = Services::with([service("a", "10.96.0.1")]);
    let broken = || document(&json!({"metadata": {"name": "a"}, "spec": "a string"}));
    let told = services.hear([broken()]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("Service default/a: invalid type: string"), "{told:?}");
    // Nor is it gone because a list has it in that form.
    assert_eq!(services.list([broken()]), [""; 0]);
    let told = services.hear([service("a", "10.96.0.2")]);
    assert_eq!(told, ["apply default/a 10.96.0.2", "cleared Service default/a"]);
}

#[test]
fn a_watch_that_fails_is_told_until_it_works() {
    let mut services = Services::with([service("a", "10.96.0.1")]);
    let watch = || ObjectRef::new(Kind::Watch, ObjectName::cluster("services"));
    let reason = || RejectReason::WatchFails { message: "connection refused".to_owned() };
    let told = services.hear([Heard::Fails(watch(), reason())]);
    let what = "connection refused; what was read before stays in force";
    assert_eq!(told, [format!("Watch services: {what}")]);
    // Lists of objects are none of its business.
    assert_eq!(services.list([service("a", "10.96.0.1")]), [""; 0]);
    assert_eq!(services.hear([Heard::Works(watch())]), ["cleared Watch services"]);
}

/// How long a change took is counted from when it was heard of.
#[test]
fn what_changes_nothing_starts_no_clock() {
    let mut services = Services::with([]);
    let start = Instant::now();
    let later = start + Duration::from_secs(3600);
    for heard in [Heard::Absent, Heard::ListBegins, Heard::ListEnds] {
        services.0.take(Step { kind: SERVICE, at: start, heard });
    }
    services.0.take(Step { kind: SERVICE, at: later, heard: service("a", "10.96.0.1") });
    let much_later = later + Duration::from_secs(1);
    services.0.take(Step { kind: SERVICE, at: much_later, heard: service("b", "10.96.0.2") });
    assert_eq!(services.0.delivery().unwrap().noticed, later);
}

#[test]
fn a_document_without_a_name_is_an_error() {
    for text in ["\"a string\"", "{}", r#"{"metadata": 7}"#, r#"{"metadata": {"name": ""}}"#] {
        let document: Document = serde_json::from_str(text).unwrap();
        assert!(document.object(SERVICE).is_err(), "{text}");
        assert!(document.read(SERVICE, &Converter::default()).is_err(), "{text}");
    }
}

#[tokio::test]
async fn changes_pile_up_while_the_receiver_is_busy() {
    const PATIENCE: Duration = Duration::from_secs(20);
    let (heard, steps) = mpsc::channel(8);
    let (sender, mut batches) = mpsc::channel(1);
    let (_announcements, announced) = mpsc::channel(1);
    let (poster, _posted) = mpsc::channel(1);
    let ledger = Ledger::new([SERVICE].into_iter()).run(steps, sender, (announced, poster));
    let ledger = tokio::spawn(ledger);
    let send = async |told| heard.send(step(SERVICE, told)).await.unwrap();
    send(Heard::ListBegins).await;
    send(Heard::ListEnds).await;
    // One batch is on its way; nobody takes it, and all the same everything is taken in.
    for number in 1..=200 {
        send(service("a", &format!("10.96.0.{number}"))).await;
    }
    let mut last = Vec::new();
    let mut count = 0;
    while last != ["apply default/a 10.96.0.200"] {
        let delivery = timeout(PATIENCE, batches.recv()).await.unwrap().unwrap();
        last = delivery.batch.iter().map(say).collect();
        count += 1;
    }
    assert!(count <= 4, "{count} batches");
    drop(batches);
    timeout(PATIENCE, ledger).await.unwrap().unwrap();
}

#[test]
fn an_announcement_is_about_the_object_that_has_the_name_now() {
    let web =
        |uid| json!({"metadata": {"name": "web", "uid": uid}, "spec": {"clusterIP": "10.96.0.1"}});
    let mut services = Services::with([document(&web("u-1"))]);
    let object = ObjectRef::new(Kind::Service, ObjectName::namespaced("default", "web"));
    let whose = crate::source::event::Whose::Everybody;
    let announcement = Announcement { object, reason: "Rejected", note: "bad".into(), whose };
    let uid = |services: &Services| Some(services.0.address(announcement.clone())?.uid);
    assert_eq!(uid(&services).as_deref(), Some("u-1"));
    services.hear([document(&web("u-2"))]);
    assert_eq!(uid(&services).as_deref(), Some("u-2"));
    services.hear([gone("web")]);
    assert_eq!(uid(&services), None);
}

/// What the server may do next.
#[derive(Clone, Debug)]
enum Deed {
    Put(&'static str, &'static str),
    Delete(&'static str),
    /// The watch is cut, and lists again; so many objects of the list come before it is cut again.
    Relist(usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let name = || select(vec!["a", "b", "c", "d"]);
    let ip = select(vec!["10.96.0.1", "10.96.0.2"]);
    let deed = prop_oneof![
        4 => (name(), ip).prop_map(|(name, ip)| Deed::Put(name, ip)),
        2 => name().prop_map(Deed::Delete),
        1 => (0..5_usize).prop_map(Deed::Relist),
    ];
    prop::collection::vec(deed, 1..40)
}

proptest! {
    /// Whatever was missed while a watch was cut: after the list that follows, who has listened
    /// knows what the server has.
    #[test]
    fn who_listens_ends_with_what_the_server_has(
        deeds in deeds(),
        missed in prop::collection::vec(any::<bool>(), 40),
    ) {
        let mut server: HashMap<&str, &str> = HashMap::new();
        let mut known: HashMap<ObjectRef, crate::model::object::Object> = HashMap::new();
        let mut ledger = Ledger::new([SERVICE].into_iter());
        let mut steps = vec![Heard::ListBegins, Heard::ListEnds];
        for (deed, missed) in deeds.into_iter().zip(missed) {
            match deed {
                Deed::Put(name, ip) => {
                    server.insert(name, ip);
                    steps.extend((!missed).then(|| service(name, ip)));
                }
                Deed::Delete(name) => {
                    server.remove(name);
                    steps.extend((!missed).then(|| gone(name)));
                }
                Deed::Relist(count) => {
                    steps.push(Heard::ListBegins);
                    steps.extend(server.iter().take(count).map(|(name, ip)| service(name, ip)));
                }
            }
        }
        steps.push(Heard::ListBegins);
        steps.extend(server.iter().map(|(name, ip)| service(name, ip)));
        steps.push(Heard::ListEnds);
        for heard in steps {
            ledger.take(step(SERVICE, heard));
            for event in ledger.delivery().into_iter().flat_map(|told| told.batch) {
                match event {
                    Event::Apply(object) => drop(known.insert(object.object_ref(), object)),
                    Event::Delete(object) => prop_assert!(known.remove(&object).is_some()),
                    Event::Rejected(..) | Event::Synced => {}
                }
            }
        }
        let mut expected = Ledger::new([SERVICE].into_iter());
        for (name, ip) in server {
            expected.take(step(SERVICE, service(name, ip)));
        }
        let expected: HashMap<_, _> = expected
            .objects
            .into_iter()
            .filter_map(|(object, entry)| Some((object, entry.told.0?)))
            .collect();
        prop_assert_eq!(known, expected);
    }
}
