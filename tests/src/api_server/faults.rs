// SPDX-License-Identifier: Apache-2.0
//! What tests do to clients: the server goes away, refuses, slows down, says nonsense, falls
//! silent, or forgets. Everything else it goes on doing right.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::body::Bytes;
use serde_json::Value;

use super::ApiServer;
use super::answer::Answer;
use super::authorization::{Authorization, Rule, Verb};
use super::failure::Failure;
use super::kind::Kind;
use super::listener::Command;
use super::subscription::Interruption;
use super::watch;

/// How fast bodies are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the client reads.
    AtOnce,
    /// After a pause: each event of a watch, and each other body as a whole.
    PauseBefore(Duration),
    /// In pieces.
    Trickle {
        /// Bytes in a piece.
        bytes: usize,
        /// Time after a piece.
        every: Duration,
    },
}

/// What a request gets instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Status 410, reason `Gone`.
    Gone,
    /// For a watch, status 200 and an ERROR event with code 410, reason `Expired`; for all others
    /// status 410 with that reason.
    Expired,
    /// Status 500.
    InternalError,
    /// Status 503.
    Unavailable,
    /// Status 429 as plain text, with `Retry-After`.
    TooManyRequests {
        /// Seconds.
        retry_after: u32,
    },
}

/// Whether watches may begin with initial events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamingLists {
    /// As on servers with the WatchList feature.
    Offered,
    /// As on servers without it: 422.
    Refused,
}

/// What is wrong with the server at the moment.
pub(super) struct Faults {
    pub pace: Pace,
    pub streaming_lists: StreamingLists,
    pub authorization: Authorization,
    pub answering: Answering,
    refusals: Vec<(Verb, usize, Refusal)>,
}

/// Whether requests are answered at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answering {
    Requests,
    Nothing,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            pace: Pace::AtOnce,
            streaming_lists: StreamingLists::Offered,
            authorization: Authorization::default(),
            answering: Answering::Requests,
            refusals: Vec::new(),
        }
    }
}

impl Faults {
    /// The refusal that is due, which is then used up.
    pub fn take_refusal(&mut self, verb: Verb) -> Option<Refusal> {
        let place = self.refusals.iter().position(|(refused, _, _)| *refused == verb)?;
        let (_, left, refusal) = self.refusals.get_mut(place)?;
        let refusal = *refusal;
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.refusals.remove(place);
        }
        Some(refusal)
    }
}

impl Refusal {
    /// What the client gets.
    pub(super) fn answer(self, verb: Verb) -> Answer {
        match self {
            Refusal::Gone => Failure::gone().into(),
            Refusal::Expired if verb == Verb::Watch => watch::error(&Failure::watch_expired(1, 2)),
            Refusal::Expired => Failure::list_expired().into(),
            Refusal::InternalError => Failure::internal("a test wants it").into(),
            Refusal::Unavailable => Failure::unavailable().into(),
            Refusal::TooManyRequests { retry_after } => Answer::too_many_requests(retry_after),
        }
    }
}

/// Connections.
impl ApiServer {
    /// Closes the listener and cuts all connections. Objects can still be changed.
    pub fn go_away(&self) -> Result<()> {
        self.cut_watches();
        self.command(Command::GoAway)
    }

    /// Listens again, on the same port.
    pub fn come_back(&self) -> Result<()> {
        self.command(Command::ComeBack)
    }

    /// From now on requests are read and never answered, also those that wait when it ends.
    pub fn stop_answering(&self) {
        self.shared.faults().answering = Answering::Nothing;
    }

    /// Answers new requests again.
    pub fn answer_again(&self) {
        self.shared.faults().answering = Answering::Requests;
    }

    /// Sends bodies at another pace, also those that are being sent.
    pub fn set_pace(&self, pace: Pace) {
        self.shared.faults().pace = pace;
    }

    fn command(&self, command: fn(mpsc::SyncSender<std::io::Result<()>>) -> Command) -> Result<()> {
        let (done, wait) = mpsc::sync_channel(1);
        let sent = self.commands.send(command(done));
        sent.ok().context("the API server's thread has ended")?;
        wait.recv().context("the API server's thread has ended")?.context("listen again")
    }
}

/// Watches.
impl ApiServer {
    /// Ends all watches in order, as when their time is over.
    pub fn end_watches(&self) {
        self.close_all(|server, kind| server.shared.store().end_all(kind));
    }

    /// Cuts the connections of all watches, wherever in a line they are.
    pub fn cut_watches(&self) {
        let interruption = Interruption::Cut;
        self.close_all(|server, kind| server.shared.store().interrupt_all(kind, interruption));
    }

    /// The watches that are open now say nothing more and do not end. New ones are not concerned.
    pub fn silence_watches(&self) {
        let interruption = Interruption::Silence;
        self.close_all(|server, kind| server.shared.store().interrupt_all(kind, interruption));
    }

    /// Sends a bookmark to all watches that want some.
    pub fn send_bookmarks(&self) {
        let mut store = self.shared.store();
        Kind::ALL.into_iter().for_each(|kind| store.bookmark_all(kind));
    }

    /// Sends a line into all open watches of a kind, whatever it is.
    pub fn send_line(&self, kind: Kind, line: &str) {
        self.shared.store().tell_line(kind, Bytes::from(format!("{line}\n")));
    }

    /// Sends an event of any type, with any object, to all open watches of a kind.
    pub fn send_event(&self, kind: Kind, event: &str, object: &Value) {
        let line = watch::raw_line(event, object.to_string().as_bytes());
        self.shared.store().tell_line(kind, line);
    }

    /// Forgets what has happened: older watches, continue tokens and exact lists get 410.
    pub fn compact(&self) {
        self.shared.store().compact();
    }

    fn close_all(&self, close: impl Fn(&ApiServer, Kind) -> Vec<usize>) {
        for kind in Kind::ALL {
            close(self, kind).into_iter().for_each(|id| self.shared.journal.closed(id));
        }
    }
}

/// Refusals.
impl ApiServer {
    /// Refuses the next requests of a verb, before refusals of that verb that came later.
    pub fn refuse_next(&self, verb: Verb, number: usize, refusal: Refusal) {
        if number > 0 {
            self.shared.faults().refusals.push((verb, number, refusal));
        }
    }

    /// Takes back all refusals.
    pub fn refuse_nothing(&self) {
        self.shared.faults().refusals.clear();
    }

    /// Offers initial events, or refuses them.
    pub fn set_streaming_lists(&self, lists: StreamingLists) {
        self.shared.faults().streaming_lists = lists;
    }

    /// Answers 401 to all other tokens. Open watches go on, as with a token that expires.
    pub fn accept_only(&self, token: &str) {
        self.shared.faults().authorization.token = Some(token.to_owned());
    }

    /// Accepts every token, and none.
    pub fn accept_everybody(&self) {
        self.shared.faults().authorization.token = None;
    }

    /// Answers 403 to all that the ClusterRole does not allow.
    pub fn allow_only(&self, role: &Value) -> Result<()> {
        self.shared.faults().authorization.rules = Some(Rule::of_role(role)?);
        Ok(())
    }

    /// Answers 403 to a verb on a resource, like `services`.
    pub fn forbid(&self, verb: Verb, resource: &str) {
        self.shared.faults().authorization.forbidden.push((verb, resource.to_owned()));
    }

    /// Takes back what was forbidden.
    pub fn forbid_nothing(&self) {
        self.shared.faults().authorization.forbidden.clear();
    }

    /// Removes a kind from the API, as when its definition is deleted: its objects are deleted,
    /// its watches end, and then it is not found.
    pub fn withdraw(&self, kind: Kind) {
        let ended = self.shared.store().withdraw(kind);
        ended.into_iter().for_each(|id| self.shared.journal.closed(id));
    }

    /// Adds a kind that was withdrawn, without objects.
    pub fn offer(&self, kind: Kind) {
        self.shared.store().offer(kind);
    }
}
