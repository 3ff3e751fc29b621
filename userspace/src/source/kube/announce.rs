// SPDX-License-Identifier: Apache-2.0
//! Kubernetes Events for what users must know, at the object that they should look at.
//!
//! What is wrong with an object is wrong on every node, and all of them see it. So an Event's name is
//! made of what it says: the first node creates it, and the others, who ask at different times, are
//! told that it is there.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::{sync::mpsc::Receiver, time::sleep};
use tracing::{debug, warn};

use super::{Resource, client::Way};
use crate::source::event::{Announcement, SourceError, Whose};

/// Who reports.
const COMPONENT: &str = "pintle";
/// Nodes that see the same wait up to so long before they tell it, each its own time.
const SPREAD: Duration = Duration::from_secs(10);
/// Where Events about objects without a namespace go.
const CLUSTER_NAMESPACE: &str = "default";
/// The API's limits for a name, without what we append, and for a message.
const NAME_LENGTH: usize = 200;
const MESSAGE_LENGTH: usize = 1024;
/// How often a server is asked that does not answer, and after which time.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(20);

/// An announcement, and the identity of its object: `kubectl describe` goes by that.
#[derive(Debug)]
pub(super) struct Addressed {
    /// What is told.
    pub announcement: Announcement,
    /// `metadata.uid` of the object.
    pub uid: Box<str>,
}

/// Who posts.
pub(super) struct Poster {
    way: Arc<Way>,
    client: Client,
}

impl Poster {
    /// One with a client of its own. With bad credentials in the configuration this is where it shows.
    pub fn new(way: Arc<Way>) -> Result<Self, SourceError> {
        let client = way.client(Arc::default())?;
        Ok(Self { way, client })
    }
}

/// Posts what comes in, one after the other, until nothing can come any more.
pub(super) async fn run(mut poster: Poster, node: String, mut announcements: Receiver<Addressed>) {
    while let Some(addressed) = announcements.recv().await {
        let event = event(&addressed, &node, Timestamp::now());
        if addressed.announcement.whose == Whose::Everybody {
            sleep(own_time(&node, event.metadata.name.as_deref())).await;
        }
        poster.post(&event).await;
    }
}

impl Poster {
    async fn post(&mut self, event: &Event) {
        let namespace = event.metadata.namespace.as_deref().unwrap_or(CLUSTER_NAMESPACE);
        let mut has_read = false;
        for _ in 0..ATTEMPTS {
            let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
            match events.create(&PostParams::default(), event).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if status.code == 409 => return,
                Err(kube::Error::Api(status)) if status.code == 401 && !has_read => {
                    has_read = self.reads_again();
                    continue;
                }
                Err(kube::Error::Api(status)) => {
                    warn!(message = event.message, error = status.message, "an Event is refused");
                    return;
                }
                Err(error) => debug!(%error, "an Event cannot be posted"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Reads the credentials again. The library reads a token's file once a minute, by a clock that
    /// may be set back, and the token of last time may be good no more.
    fn reads_again(&mut self) -> bool {
        let client = self.way.client(Arc::default());
        client.map(|client| self.client = client).is_ok()
    }
}

fn event(addressed: &Addressed, node: &str, now: Timestamp) -> Event {
    let Addressed { announcement, uid } = addressed;
    let Announcement { object, reason, note, whose } = announcement;
    let resource = Resource::of(&object.kind);
    let own_namespace = Some(object.name.namespace()).filter(|name| !name.is_empty());
    let host = (*whose == Whose::ThisNode).then(|| node.to_owned());
    // Who makes the object again is told again.
    let name = name(object.name.name(), (uid, reason, note, host.as_deref()));
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(own_namespace.unwrap_or(CLUSTER_NAMESPACE).to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: resource.map(Resource::api_version),
            kind: Some(object.kind.as_str().to_owned()),
            name: Some(object.name.name().to_owned()),
            namespace: own_namespace.map(str::to_owned),
            uid: Some(uid.to_string()),
            ..ObjectReference::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some((*reason).to_owned()),
        message: Some(head(note, MESSAGE_LENGTH).to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host }),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    }
}

/// A name that the same words get on every node.
fn name(object: &str, words: impl Hash) -> String {
    format!("{}.{:016x}", head(object, NAME_LENGTH), hash(words))
}

/// When a node tells what all of them see.
fn own_time(node: &str, name: Option<&str>) -> Duration {
    let spread = SPREAD.as_millis() as u64;
    Duration::from_millis(hash((node, name)) % spread)
}

/// The keys of this hasher are fixed.
fn hash(words: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

/// As much of a text as fits.
fn head(text: &str, length: usize) -> &str {
    let end = (0..=length.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::{Kind, ObjectName, ObjectRef};

    fn addressed(whose: Whose, note: &str) -> Addressed {
        let object = ObjectRef::new(Kind::Service, ObjectName::namespaced("shop", "web"));
        let announcement = Announcement { object, reason: "Rejected", note: note.into(), whose };
        Addressed { announcement, uid: "u-1".into() }
    }

    #[test]
    fn an_event_stands_in_the_namespace_of_its_object_and_names_it() {
        let event = event(&addressed(Whose::Everybody, "bad port"), "n1", Timestamp::UNIX_EPOCH);
        let object = &event.involved_object;
        let words = (object.api_version.as_deref(), object.kind.as_deref(), object.uid.as_deref());
        assert_eq!(words, (Some("v1"), Some("Service"), Some("u-1")));
        assert_eq!(
            (object.name.as_deref(), object.namespace.as_deref()),
            (Some("web"), Some("shop"))
        );
        assert_eq!(event.metadata.namespace.as_deref(), Some("shop"));
        assert_eq!(event.message.as_deref(), Some("bad port"));
    }

    #[test]
    fn nodes_that_see_the_same_give_it_the_same_name_and_tell_it_at_different_times() {
        let name = |whose, node, note| {
            event(&addressed(whose, note), node, Timestamp::now()).metadata.name.unwrap()
        };
        let of = |node| name(Whose::Everybody, node, "bad port");
        assert_eq!(of("n1"), of("n2"));
        assert_ne!(of("n1"), name(Whose::Everybody, "n1", "another port"));
        let own = |node| name(Whose::ThisNode, node, "bad port");
        assert_ne!(own("n1"), own("n2"));
        let times: std::collections::HashSet<_> =
            (0..100).map(|node| own_time(&format!("n{node}"), Some("web.1"))).collect();
        assert!(times.len() > 90 && times.iter().all(|time| *time < SPREAD), "{}", times.len());
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let event = event(&addressed(Whose::Everybody, &"ä".repeat(600)), "n1", Timestamp::now());
        assert_eq!(event.message, Some("ä".repeat(512)));
        assert_eq!(head("äöü", 3), "ä");
        assert_eq!(head("", 3), "");
    }
}
