// SPDX-License-Identifier: Apache-2.0
//! What the server was asked, and what it answered: tests look here for what a client did.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::authorization::{Attributes, Verb};
use super::kind::Kind;
use super::request::Request;

/// One request.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it came.
    pub at: Instant,
    /// `GET`, `POST`, …
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// Its query, as it was sent.
    pub query: String,
    /// Its bearer token.
    pub token: Option<String>,
    /// The certificate that its client has shown.
    pub certificate: Option<Arc<[u8]>>,
    /// What it is about; `None` for discovery and health.
    pub attributes: Option<Attributes>,
    /// The status of the answer; `None` while there is none.
    pub status: Option<u16>,
    /// Whether it is a watch that is told of changes.
    pub is_open: bool,
}

impl Record {
    fn is_watch_of(&self, kind: Kind) -> bool {
        self.attributes.as_ref().is_some_and(|about| {
            about.verb == Verb::Watch
                && about.group == kind.group()
                && about.resource == kind.plural()
        })
    }
}

/// All requests so far. A request's number is its place.
#[derive(Default)]
pub(super) struct Journal {
    records: Mutex<Vec<Record>>,
    changed: Condvar,
}

impl Journal {
    /// Notes a request and returns its number.
    pub fn note(&self, request: &Request) -> usize {
        let mut records = self.lock();
        records.push(Record {
            at: Instant::now(),
            method: request.method.to_string(),
            path: request.path.clone(),
            query: request.query.clone(),
            token: request.token.clone(),
            certificate: request.certificate.clone(),
            attributes: request.attributes(),
            status: None,
            is_open: false,
        });
        records.len() - 1
    }

    /// Notes the status of the answer.
    pub fn answered(&self, id: usize, status: u16) {
        self.change(id, |record| record.status = Some(status));
    }

    /// Notes that a watch has begun.
    pub fn opened(&self, id: usize) {
        self.change(id, |record| record.is_open = true);
    }

    /// Notes that a watch is over.
    pub fn closed(&self, id: usize) {
        self.change(id, |record| record.is_open = false);
    }

    /// All requests so far, in the order they came.
    pub fn records(&self) -> Vec<Record> {
        self.lock().clone()
    }

    /// Waits until a watch of the kind is open.
    pub fn wait_for_watch(&self, kind: Kind, within: Duration) -> Result<()> {
        let is_none = |records: &mut Vec<Record>| {
            !records.iter().any(|record| record.is_open && record.is_watch_of(kind))
        };
        let waited = self.changed.wait_timeout_while(self.lock(), within, is_none);
        let (records, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            let asked: Vec<String> = records
                .iter()
                .map(|it| format!("{} {}?{}", it.method, it.path, it.query))
                .collect();
            bail!("no watch of {} within {within:?} among {asked:#?}", kind.plural());
        }
        Ok(())
    }

    fn change(&self, id: usize, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.lock().get_mut(id) {
            change(record);
        }
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
