// SPDX-License-Identifier: Apache-2.0
//! What a source is: something that starts, or says why not, and then delivers batches of events.

use std::{io, path::PathBuf, time::Instant};

use thiserror::Error;
use tokio::sync::mpsc;

use crate::model::name::ObjectRef;

pub use crate::model::event::{Batch, Event};

/// The receiving end of a source. It ends only when the source cannot go on.
pub type Batches = mpsc::Receiver<Delivery>;

/// A batch on its way, with the time at which the source learned that something had changed.
#[derive(Debug)]
pub struct Delivery {
    /// Before anything was read or parsed.
    pub noticed: Instant,
    /// What changed.
    pub batch: Batch,
}

/// Batches that may wait for the receiver before the source stops reading; what changes meanwhile
/// is coalesced by the source's own queue.
pub(super) const BATCHES_IN_FLIGHT: usize = 16;

/// Where a source that can is told what the users of its objects must know.
pub type Announcements = mpsc::Sender<Announcement>;

/// Something that the users of an object must know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Announcement {
    /// What they should look at.
    pub object: ObjectRef,
    /// In a word, in camel case.
    pub reason: &'static str,
    /// In a sentence.
    pub note: String,
    /// Who sees it.
    pub whose: Whose,
}

/// On which nodes something is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// It is in the object: each node sees it.
    Everybody,
    /// On this one.
    ThisNode,
}

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
    /// No thread or event loop could be had.
    #[error("starting the source's thread: {0}")]
    Thread(io::Error),
    /// There is no way to the API server: no kubeconfig, no service account, a bad address.
    #[error("the way to the API server: {0}")]
    Api(Box<dyn std::error::Error + Send + Sync>),
}

impl SourceError {
    /// What stands between us and the API server.
    pub(super) fn api(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Api(error.into())
    }
}
