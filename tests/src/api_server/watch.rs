// SPDX-License-Identifier: Apache-2.0
//! Watches: what is there, if asked for, then every change that the selection sees, as lines of
//! JSON until the time is over.
//!
//! Events are in the order of revisions. A bookmark comes after everything up to its revision.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, interval_at, sleep_until};

use super::Shared;
use super::answer::{Answer, Left, Outlet};
use super::failure::Failure;
use super::faults::StreamingLists;
use super::history::EventType;
use super::kind::Kind;
use super::list::{refuse_if_any, write_with_kind};
use super::request::Parameters;
use super::selector::Selection;
use super::store::{Beginning, Start, Store};
use super::subscription::{Interruption, Message, Subscription};

/// How long a watch lasts if its client does not say.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// How often a quiet watch is told how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// What a client wants to follow.
struct WatchOptions {
    selection: Selection,
    start: Start,
    /// How far the server must be for a streaming list.
    not_older_than: u64,
    bookmarks: Bookmarks,
    timeout: Duration,
}

/// Which bookmarks a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bookmarks {
    No,
    Yes,
    /// Also one at the end of the initial events, which says so.
    EndOfInitialEvents,
}

/// An open watch. Dropped, it is no longer told of anything.
struct Watch {
    shared: Arc<Shared>,
    kind: Kind,
    id: usize,
    options: WatchOptions,
    outlet: Outlet,
}

/// Begins a watch under the number of its request, and answers with its stream.
pub(super) fn answer(
    shared: &Arc<Shared>,
    store: &mut Store,
    kind: Kind,
    namespace: Option<&str>,
    parameters: &Parameters,
    id: usize,
) -> Result<Answer, Failure> {
    let lists = shared.faults().streaming_lists;
    let options = WatchOptions::parse(kind, namespace, parameters, lists)?;
    if options.not_older_than > store.revision() {
        return Err(Failure::too_large_revision(options.not_older_than, store.revision()));
    }
    let beginning = match store.watch(kind, options.start, id) {
        Ok(beginning) => beginning,
        Err(oldest) => return Ok(expired(options.start, oldest.0)),
    };
    // While the store is locked, nobody can end the watch: it is opened before it is closed.
    shared.journal.opened(id);
    let (answer, outlet) = Answer::stream(shared);
    let watch = Watch { shared: shared.clone(), kind, id, options, outlet };
    tokio::spawn(watch.run(beginning));
    Ok(answer)
}

/// A stream with nothing but an error: past authorization, a watch fails no other way.
pub(super) fn error(failure: &Failure) -> Answer {
    Answer::json(200, raw_line("ERROR", failure.status().to_string().as_bytes()))
}

fn expired(start: Start, oldest: u64) -> Answer {
    error(&Failure::watch_expired(start.revision(), oldest))
}

impl WatchOptions {
    fn parse(
        kind: Kind,
        namespace: Option<&str>,
        parameters: &Parameters,
        lists: StreamingLists,
    ) -> Result<WatchOptions, Failure> {
        validate(parameters, lists)?;
        let (labels, fields) = (parameters.get("labelSelector"), parameters.get("fieldSelector"));
        let wants_initial = parameters.is_set("sendInitialEvents");
        let refuses_initial = parameters.has("sendInitialEvents") && !wants_initial;
        let no_revision = |_| Failure::watch_of_no_revision(parameters.get("resourceVersion"));
        let asked = parameters.number("resourceVersion").map_err(no_revision)?.unwrap_or(0);
        let start = match asked {
            _ if wants_initial => Start::Objects,
            0 if refuses_initial => Start::Now,
            0 => Start::Objects,
            revision => Start::After(revision),
        };
        // Who takes bookmarks and begins anywhere is told the end without asking, where lists are streamed.
        let is_streamed = lists == StreamingLists::Offered && start == Start::Objects;
        let bookmarks = match parameters.is_set("allowWatchBookmarks") {
            false => Bookmarks::No,
            true if wants_initial || is_streamed => Bookmarks::EndOfInitialEvents,
            true => Bookmarks::Yes,
        };
        let timeout = parameters.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
        Ok(WatchOptions {
            selection: Selection::parse(kind, namespace, labels, fields)?,
            start,
            not_older_than: if wants_initial { asked } else { 0 },
            bookmarks,
            timeout: timeout.map_or(TIMEOUT, Duration::from_secs),
        })
    }
}

fn validate(parameters: &Parameters, lists: StreamingLists) -> Result<(), Failure> {
    let wanted = parameters.get("resourceVersionMatch");
    let mut causes = Vec::new();
    if parameters.has("sendInitialEvents") {
        if wanted != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            causes.push(("resourceVersionMatch", format!("Forbidden: {why}")));
        }
        if !matches!(wanted, "" | "NotOlderThan") {
            let why =
                format!("Unsupported value: \"{wanted}\": supported values: \"NotOlderThan\"");
            causes.push(("resourceVersionMatch", why));
        }
        if lists == StreamingLists::Refused {
            let why = "sendInitialEvents is forbidden for watch unless the WatchList feature gate \
                       is enabled";
            causes.push(("sendInitialEvents", format!("Forbidden: {why}")));
        }
    } else if !wanted.is_empty() {
        let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is \
                   provided";
        causes.push(("resourceVersionMatch", format!("Forbidden: {why}")));
    }
    refuse_if_any(&causes)
}

impl Watch {
    /// Sends what there is to send until the time is over, the client leaves, or a test interrupts.
    async fn run(self, beginning: Beginning) {
        let Beginning { revision, objects, changes, subscription } = beginning;
        let Subscription { mut queue, mut interrupted } = subscription;
        let deliver = async {
            for object in objects.iter().filter(|object| self.options.selection.matches(object)) {
                self.send(EventType::Added, &object.json).await?;
            }
            if self.options.bookmarks == Bookmarks::EndOfInitialEvents {
                let end = json!({ "k8s.io/initial-events-end": "true" });
                self.send_bookmark(revision, Some(end)).await?;
            }
            for change in changes {
                self.tell(Message::Change(change)).await?;
            }
            self.follow(&mut queue).await
        };
        let interruption = tokio::select! {
            biased;
            Ok(interruption) = &mut interrupted => Some(interruption),
            () = self.outlet.left() => None,
            // An interruption closes the queue, too, and may be noticed there first.
            _ = deliver => interrupted.try_recv().ok(),
        };
        match interruption {
            Some(Interruption::Cut) => self.outlet.cut().await,
            Some(Interruption::Silence) => self.outlet.left().await,
            None => {}
        }
    }

    async fn follow(&self, queue: &mut UnboundedReceiver<Message>) -> Result<(), Left> {
        let end = Instant::now() + self.options.timeout;
        let mut bookmarks = interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
        loop {
            tokio::select! {
                message = queue.recv() => match message {
                    Some(message) => self.tell(message).await?,
                    None => return Ok(()),
                },
                _ = bookmarks.tick() => self.shared.store().bookmark(self.kind, self.id),
                () = sleep_until(end), if !queue.is_closed() => {
                    self.shared.store().end(self.kind, self.id);
                }
            }
        }
    }

    async fn tell(&self, message: Message) -> Result<(), Left> {
        match message {
            // From a revision that is still to come, a watch waits for the one after it.
            Message::Change(change) if change.revision <= self.options.start.revision() => Ok(()),
            Message::Change(change) => match change.seen_by(&self.options.selection) {
                Some((event, json)) => self.send(event, json).await,
                None => Ok(()),
            },
            Message::Bookmark(_) if self.options.bookmarks == Bookmarks::No => Ok(()),
            Message::Bookmark(revision) => self.send_bookmark(revision, None).await,
            Message::Line(line) => self.outlet.send(line).await,
        }
    }

    async fn send(&self, event: EventType, json: &Bytes) -> Result<(), Left> {
        let name = match event {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        };
        self.outlet.send(event_line(name, self.kind, json)).await
    }

    /// A bookmark is an object of the kind with nothing in it but a revision.
    async fn send_bookmark(&self, revision: u64, marks: Option<Value>) -> Result<(), Left> {
        let mut metadata =
            json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if let Some(marks) = marks {
            metadata["annotations"] = marks;
        }
        let empty = self.kind.description().empty;
        let json = format!("{{\"metadata\":{metadata}{empty}}}");
        self.outlet.send(event_line("BOOKMARK", self.kind, json.as_bytes())).await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.store().forget(self.kind, self.id);
        self.shared.journal.closed(self.id);
    }
}

/// One event of a watch, around an object as it is stored.
fn event_line(event: &str, kind: Kind, json: &[u8]) -> Bytes {
    let mut object = Vec::with_capacity(json.len() + 64);
    write_with_kind(&mut object, kind, json);
    raw_line(event, &object)
}

/// One event of a watch, around anything. The type comes first, as kube-apiserver has it: clients
/// may rely on knowing it before they read the object.
pub(super) fn raw_line(event: &str, object: &[u8]) -> Bytes {
    let mut line = format!("{{\"type\":\"{event}\",\"object\":").into_bytes();
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}
