// SPDX-License-Identifier: Apache-2.0
//! What a source tells: objects that changed, objects that went, objects that were not accepted.

use std::{io, path::PathBuf, sync::Arc};

use thiserror::Error;
use tokio::sync::mpsc;

use crate::model::{name::ObjectRef, object::Object, rejection::RejectReason};

/// A change of what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The object is new or differs from what was told before.
    Apply(Object),
    /// The object is gone.
    Delete(ObjectRef),
    /// What is wrong with an object from now on; replaces what was said about it before, and an
    /// empty list says that nothing is wrong any more.
    ///
    /// Independent of `Apply`: an object with one bad port is applied without that port.
    Rejected(ObjectRef, Arc<[RejectReason]>),
    /// Everything that existed at the start has been told. Comes once.
    Synced,
}

/// Changes that arrived together; the order within a batch carries no meaning beyond per object.
pub type Batch = Vec<Event>;

/// The receiving end of a source. It ends only when the source cannot go on.
pub type Batches = mpsc::Receiver<Batch>;

/// Batches that may wait for the receiver before the source stops reading; what changes meanwhile
/// is coalesced by the source's own queue.
pub(super) const BATCHES_IN_FLIGHT: usize = 16;

/// A place that objects come from.
pub trait Source {
    /// Starts to watch. The first batches hold what exists, then comes [`Event::Synced`].
    ///
    /// The source stops when the receiver is dropped.
    fn start(self) -> Result<Batches, SourceError>;
}

/// Why a source could not start.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The directory is missing or may not be read.
    #[error("watching the directory {path}: {error}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// No inotify instance or thread could be had.
    #[error("starting the directory watcher: {0}")]
    Watcher(io::Error),
}
