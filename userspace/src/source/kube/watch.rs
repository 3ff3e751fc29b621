// SPDX-License-Identifier: Apache-2.0
//! Follows one resource: the first list, the changes after it, and whatever stands between.
//!
//! The client library's watcher resumes after a disconnect where it was, and lists again when the
//! server has forgotten that place. What is left to do here: wait between failures, fall back to
//! paged lists where the server streams none, ask again for a resource that a server does not have
//! yet, and tell whether the watch works.

use std::{pin::pin, sync::Arc, time::Duration};

use backon::ExponentialBuilder;
use futures_util::StreamExt;
use kube::{
    Api,
    core::Status,
    runtime::{
        utils::ResetTimerBackoff,
        watcher::{self, Error, Event, ExponentialBackoff, watcher},
    },
};
use tokio::{
    select,
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

use super::{
    Interest, Resource,
    client::Way,
    contact::Contact,
    document::Document,
    ledger::{Heard, Step},
};
use crate::{
    model::{
        name::{Kind, ObjectName, ObjectRef},
        rejection::RejectReason,
    },
    source::convert::Converter,
};

/// Objects of a page, where lists are not streamed.
const PAGE: u32 = 2000;
/// Waits after failures grow between these, and are short again after such a time without one.
const SHORTEST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
const CALM: Duration = Duration::from_secs(60);
/// A list that brings nothing for so long is begun again, in pages.
const LIST_PATIENCE: Duration = Duration::from_secs(30);
/// The longest wait until a resource is asked for again that the server does not have.
const LONGEST_ABSENCE: Duration = Duration::from_secs(60);

/// Where a watch tells what it hears.
#[derive(Clone, Debug)]
pub(super) struct Hearer {
    /// The ledger.
    pub heard: mpsc::Sender<Step>,
    /// What turns documents into objects.
    pub converter: Arc<Converter>,
}

/// A resource that is followed.
#[derive(Debug)]
pub(super) struct Watch {
    resource: &'static Resource,
    way: Arc<Way>,
    fields: String,
    /// Whether the server sends lists as a stream, as far as we know.
    streams_lists: bool,
    contact: Arc<Contact>,
    hearer: Hearer,
    /// It was told that the watch fails, with this message.
    failure: Option<String>,
}

/// Nobody listens any more.
struct Unheard;

/// How a run of the library's watcher ended.
enum End {
    /// Another may be begun at once.
    Again,
    /// The server does not have the resource.
    Absent,
}

/// What becomes of a watcher that met an error.
enum Fate {
    /// It goes on, after a wait.
    GoesOn,
    /// It cannot go on: another takes its place, after a wait.
    Replaced,
    /// The server streams no lists: another takes its place that asks for pages.
    Paged,
    Absent,
}

impl Watch {
    /// Prepares to follow a resource.
    pub fn new(
        resource: &'static Resource,
        way: Arc<Way>,
        interest: &Interest,
        hearer: Hearer,
    ) -> Self {
        Self {
            resource,
            way,
            fields: resource.fields(interest).into_owned(),
            streams_lists: true,
            contact: Arc::default(),
            hearer,
            failure: None,
        }
    }

    /// Follows it until nobody listens.
    pub async fn run(mut self) {
        let mut absence = backoff(SHORTEST_WAIT, LONGEST_ABSENCE);
        let mut waits = backoff(SHORTEST_WAIT, LONGEST_WAIT);
        while let Ok(end) = self.follow(&mut waits).await {
            if let End::Absent = end {
                sleep(absence.next().unwrap_or(LONGEST_ABSENCE)).await;
            }
        }
    }

    /// Lists the resource, and follows it as long as one watcher can.
    async fn follow(&mut self, waits: &mut impl Iterator<Item = Duration>) -> Result<End, Unheard> {
        let contact = self.contact.clone();
        let api = match self.way.client(contact.clone()) {
            Ok(client) => Api::<Document>::all_with(client, &self.resource),
            Err(error) => {
                self.fails(error.to_string()).await?;
                sleep(waits.next().unwrap_or(LONGEST_WAIT)).await;
                return Ok(End::Again);
            }
        };
        let mut events = pin!(watcher(api, self.config()));
        let mut list_ends = Some(Instant::now() + LIST_PATIENCE);
        loop {
            let stalls = async {
                match list_ends {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            let event = select! {
                event = events.next() => event,
                () = contact.granted() => {
                    self.works().await?;
                    continue;
                }
                () = stalls => {
                    self.fails("the list does not end".to_owned()).await?;
                    self.streams_lists = false;
                    return Ok(End::Again);
                }
            };
            match event {
                Some(Ok(event)) => {
                    let is_listing = matches!(event, Event::Init | Event::InitApply(_));
                    list_ends = is_listing.then(|| Instant::now() + LIST_PATIENCE);
                    self.tell(event).await?;
                }
                Some(Err(error)) => {
                    if let Some(end) = self.meet(error, waits).await? {
                        return Ok(end);
                    }
                    list_ends = list_ends.map(|_| Instant::now() + LIST_PATIENCE);
                }
                None => return Ok(End::Again),
            }
        }
    }

    /// Deals with an error; `Some` if the watcher has come to its end.
    async fn meet(
        &mut self,
        error: Error,
        waits: &mut impl Iterator<Item = Duration>,
    ) -> Result<Option<End>, Unheard> {
        let fate = self.fate(&error);
        debug!(resource = self.resource.plural, %error, "watch");
        match fate {
            Fate::Paged => {
                info!(resource = self.resource.plural, "the server streams no lists; using pages");
                self.streams_lists = false;
                return Ok(Some(End::Again));
            }
            Fate::Absent => {
                self.hear(Heard::Absent).await?;
                self.works().await?;
                return Ok(Some(End::Absent));
            }
            Fate::GoesOn | Fate::Replaced => self.fails(words(&error)).await?,
        }
        sleep(waits.next().unwrap_or(LONGEST_WAIT)).await;
        Ok(matches!(fate, Fate::Replaced).then_some(End::Again))
    }

    fn fate(&self, error: &Error) -> Fate {
        if let Error::WatchFailed(kube::Error::SerdeError(_) | kube::Error::Api(_)) = error {
            // Somebody's change was in what nobody understands: only a list can tell it.
            return Fate::Replaced;
        }
        let starts = matches!(error, Error::WatchStartFailed(_));
        match status(error).map(|status| status.code) {
            Some(404) if self.resource.is_optional() => Fate::Absent,
            Some(400 | 422) if starts && self.streams_lists => Fate::Paged,
            // The place where we were is forgotten, which the library expects in the stream only; or
            // we are not who we were, and a new client reads the token again.
            Some(401 | 410) => Fate::Replaced,
            _ => Fate::GoesOn,
        }
    }

    fn config(&self) -> watcher::Config {
        let config = watcher::Config::default().page_size(PAGE);
        let config = if self.streams_lists { config.streaming_lists() } else { config };
        let config = match self.resource.labels {
            "" => config,
            labels => config.labels(labels),
        };
        match self.fields.as_str() {
            "" => config,
            fields => config.fields(fields),
        }
    }

    async fn tell(&mut self, event: Event<Document>) -> Result<(), Unheard> {
        let kind = self.resource.kind;
        let heard = match event {
            Event::Init => Ok(Heard::ListBegins),
            Event::InitDone => Ok(Heard::ListEnds),
            Event::Delete(document) => document.object(kind).map(Heard::Gone),
            Event::Apply(document) | Event::InitApply(document) => {
                Heard::of(&document, kind, &self.hearer.converter)
            }
        };
        match heard {
            Ok(heard) => self.hear(heard).await,
            Err(error) => {
                warn!(resource = self.resource.plural, %error, "an object without a name");
                Ok(())
            }
        }
    }

    /// Tells that the watch fails, unless that is known.
    async fn fails(&mut self, message: String) -> Result<(), Unheard> {
        if self.failure.as_ref() == Some(&message) {
            return Ok(());
        }
        let reason = RejectReason::WatchFails { message: message.clone() };
        self.failure = Some(message);
        self.hear(Heard::Fails(self.object(), reason)).await
    }

    /// Tells that the watch works, if it was told that it does not.
    async fn works(&mut self) -> Result<(), Unheard> {
        match self.failure.take() {
            Some(_) => self.hear(Heard::Works(self.object())).await,
            None => Ok(()),
        }
    }

    async fn hear(&self, heard: Heard) -> Result<(), Unheard> {
        let step = Step { kind: self.resource.kind, at: std::time::Instant::now(), heard };
        self.hearer.heard.send(step).await.map_err(|_| Unheard)
    }

    /// How messages name the watch.
    fn object(&self) -> ObjectRef {
        ObjectRef::new(Kind::Watch, ObjectName::cluster(&self.resource.full_name()))
    }
}

fn backoff(shortest: Duration, longest: Duration) -> ResetTimerBackoff<ExponentialBackoff> {
    let builder = ExponentialBuilder::default()
        .with_min_delay(shortest)
        .with_max_delay(longest)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times();
    ResetTimerBackoff::new(builder.into(), CALM)
}

/// What the server has answered, if it has.
fn status(error: &Error) -> Option<&Status> {
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status))
        | Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// An error with what led to it, each part once: outer ones often repeat what is inside.
fn words(error: &Error) -> String {
    if let Some(Status { code, reason, message, .. }) = status(error).filter(|s| s.code != 0) {
        return format!("the API server answers {code} {reason}: {message}");
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let part = cause.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = cause.source();
    }
    text
}
