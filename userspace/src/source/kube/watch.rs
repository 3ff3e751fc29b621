// SPDX-License-Identifier: Apache-2.0
//! Follows one resource: the first list, the changes after it, and whatever stands between.
//!
//! The client library's watcher resumes after a disconnect where it was, and lists again when the
//! server has forgotten that place. What is left to do here: wait between failures, begin a list that
//! broke off again and in pages, ask again for a resource that a server does not have yet, and tell
//! whether the watch works.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use backon::ExponentialBuilder;
use futures_util::StreamExt;
use kube::{
    Api, Client,
    core::Status,
    runtime::{
        utils::ResetTimerBackoff,
        watcher::{self, Error, Event, ExponentialBackoff, watcher},
    },
};
use tokio::{
    select,
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
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
    source::{convert::Converter, event::SourceError},
};

/// Objects of a page, where lists are not streamed.
const PAGE: u32 = 500;
/// Waits after failures grow between these (and jitter, which at most doubles them), and are short again
/// after such a time without one.
const SHORTEST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
const CALM: Duration = Duration::from_secs(60);
/// A list that brings nothing for so long is begun again; a page may take a server a minute.
const LIST_PATIENCE: Duration = Duration::from_secs(90);
/// So many streamed lists may break off before pages are asked for.
const STREAMED_ATTEMPTS: u32 = 2;
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
pub(super) struct Watch {
    resource: &'static Resource,
    fields: String,
    way: Arc<Way>,
    /// One that the server has not refused.
    client: Option<Client>,
    contact: Arc<Contact>,
    hearer: Hearer,
    /// Whether the server sends lists as a stream, as far as we know.
    streams_lists: bool,
    /// Streamed lists that broke off, one after the other.
    broken_lists: u32,
    /// Whether a list has come to its end.
    has_listed: bool,
    waits: ResetTimerBackoff<ExponentialBackoff>,
    absence: ExponentialBackoff,
    /// It was told that the watch fails, with this message.
    failure: Option<String>,
}

/// Nobody listens any more.
struct Unheard;

/// What becomes of a watcher that met an error.
enum Fate {
    /// It goes on, after a wait.
    GoesOn,
    /// It cannot go on: another takes its place, after a wait.
    Replaced,
    /// The same, and with another client: we are not who we were, and the token is read again.
    Refused,
    /// The server streams no lists: another takes its place that asks for pages.
    Paged,
    /// The server does not have the resource.
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
            fields: resource.fields(interest).into_owned(),
            way,
            client: None,
            contact: Arc::default(),
            hearer,
            streams_lists: true,
            broken_lists: 0,
            has_listed: false,
            waits: ResetTimerBackoff::new(backoff(LONGEST_WAIT), CALM),
            absence: backoff(LONGEST_ABSENCE),
            failure: None,
        }
    }

    /// Follows it until nobody listens.
    pub async fn run(mut self) {
        while let Ok(pause) = self.follow().await {
            sleep(pause).await;
        }
    }

    /// Lists the resource, and follows it as long as one watcher can. Returns when another may begin.
    async fn follow(&mut self) -> Result<Duration, Unheard> {
        let contact = self.contact.clone();
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => {
                self.fails(error.to_string()).await?;
                return Ok(self.wait());
            }
        };
        let api = Api::<Document>::all_with(client, &self.resource);
        let mut events = pin!(watcher(api, self.config()));
        // Until when the list has to bring something, while there is one.
        let mut list = Some(Instant::now() + LIST_PATIENCE);
        let mut has_begun = false;
        // When the library went on after a list for the last time.
        let mut resumed = None;
        loop {
            let event = select! {
                event = events.next() => event,
                () = contact.granted() => {
                    if list.is_none() {
                        self.works().await?;
                        self.slow_down(resumed.replace(Instant::now())).await;
                    }
                    continue;
                }
                () = until(list) => return self.break_off("the list does not go on").await,
            };
            match event {
                Some(Ok(Event::Init)) if has_begun => {
                    return self.break_off("the list broke off").await;
                }
                Some(Ok(event)) => {
                    has_begun = has_begun || matches!(event, Event::Init);
                    let ends = matches!(event, Event::InitDone);
                    if ends {
                        (list, has_begun) = (None, false);
                    }
                    list = list.map(|_| Instant::now() + LIST_PATIENCE);
                    self.tell(event).await?;
                    if ends {
                        self.note_list().await?;
                    }
                }
                Some(Err(error)) => {
                    if let Some(pause) = self.meet(error, list.is_some()).await? {
                        return Ok(pause);
                    }
                }
                None => return Ok(Duration::ZERO),
            }
        }
    }

    /// Somebody may end watches as soon as they have begun, and the library begins the next one at once.
    async fn slow_down(&mut self, last: Option<Instant>) {
        if last.is_some_and(|last| last.elapsed() < SHORTEST_WAIT) {
            sleep(self.wait()).await;
        }
    }

    /// A list has come to its end.
    async fn note_list(&mut self) -> Result<(), Unheard> {
        self.has_listed = true;
        self.broken_lists = 0;
        self.absence = backoff(LONGEST_ABSENCE);
        self.works().await
    }

    /// Gives a list up. Where the server cannot send it as a stream, pages may do.
    async fn break_off(&mut self, message: &str) -> Result<Duration, Unheard> {
        self.fails(message.to_owned()).await?;
        self.broken_lists += 1;
        self.streams_lists &= self.broken_lists < STREAMED_ATTEMPTS;
        Ok(self.wait())
    }

    /// Deals with an error. If the watcher has come to its end: when another may begin.
    async fn meet(&mut self, error: Error, is_listing: bool) -> Result<Option<Duration>, Unheard> {
        let fate = self.fate(&error);
        debug!(resource = self.resource.plural, %error, "watch");
        match fate {
            Fate::Paged => {
                info!(resource = self.resource.plural, "the server streams no lists; using pages");
                self.streams_lists = false;
                return Ok(Some(Duration::ZERO));
            }
            Fate::Absent => {
                self.hear(Instant::now(), Heard::Absent).await?;
                self.works().await?;
                return Ok(Some(self.absence.next().unwrap_or(LONGEST_ABSENCE)));
            }
            Fate::Refused => self.client = None,
            Fate::GoesOn | Fate::Replaced => {}
        }
        self.fails(words(&error)).await?;
        let pause = self.wait();
        // What a list was before an error is nothing that another could go on with.
        if is_listing || !matches!(fate, Fate::GoesOn) {
            return Ok(Some(pause));
        }
        sleep(pause).await;
        Ok(None)
    }

    fn wait(&mut self) -> Duration {
        self.waits.next().unwrap_or(LONGEST_WAIT)
    }

    fn client(&mut self) -> Result<Client, SourceError> {
        match &self.client {
            Some(client) => Ok(client.clone()),
            None => {
                let client = self.way.client(self.contact.clone())?;
                Ok(self.client.insert(client).clone())
            }
        }
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
            Some(401) => Fate::Refused,
            // The place where we were is forgotten.
            Some(410) => Fate::Replaced,
            _ => Fate::GoesOn,
        }
    }

    fn config(&self) -> watcher::Config {
        let config = watcher::Config::default().page_size(PAGE);
        // A streamed list may be of any age, which takes away what a newer one had; pages never are.
        let streams = self.streams_lists && !self.has_listed;
        let config = if streams { config.streaming_lists() } else { config };
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
        let at = Instant::now();
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
            Ok(heard) => self.hear(at, heard).await,
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
        self.hear(Instant::now(), Heard::Fails(self.object(), reason)).await
    }

    /// Tells that the watch works, if it was told that it does not.
    async fn works(&mut self) -> Result<(), Unheard> {
        match self.failure.take() {
            Some(_) => self.hear(Instant::now(), Heard::Works(self.object())).await,
            None => Ok(()),
        }
    }

    async fn hear(&self, at: Instant, heard: Heard) -> Result<(), Unheard> {
        let step = Step { kind: self.resource.kind, at: at.into_std(), heard };
        self.hearer.heard.send(step).await.map_err(|_| Unheard)
    }

    /// How messages name the watch.
    fn object(&self) -> ObjectRef {
        ObjectRef::new(Kind::Watch, ObjectName::cluster(&self.resource.full_name()))
    }
}

fn backoff(longest: Duration) -> ExponentialBackoff {
    let builder = ExponentialBuilder::default()
        .with_min_delay(SHORTEST_WAIT)
        .with_max_delay(longest)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times();
    builder.into()
}

/// Waits for a time, for ever if there is none.
async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => pending().await,
    }
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
