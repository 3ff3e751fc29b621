// SPDX-License-Identifier: Apache-2.0
//! The two ends between the store and one open watch: a queue, read in order, and a way to
//! interrupt the watch wherever it is.
//!
//! The queue has no limit: a slow client is served late, not cut off as kube-apiserver would do.

use std::sync::Arc;

use hyper::body::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::history::Change;

/// What a watch is told.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Change(Arc<Change>),
    /// Everything up to this revision has been said.
    Bookmark(u64),
    /// Bytes to send as they are.
    Line(Bytes),
}

/// What may happen to a watch at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    /// Its connection is cut, in the middle of a response.
    Cut,
    /// It says nothing more, and does not end.
    Silence,
}

/// The store's end. Dropped, the watch ends in order once the queue is empty.
pub(super) struct Subscriber {
    pub id: usize,
    queue: mpsc::UnboundedSender<Message>,
    interrupt: oneshot::Sender<Interruption>,
}

/// The watch's end.
pub(super) struct Subscription {
    pub queue: mpsc::UnboundedReceiver<Message>,
    pub interrupted: oneshot::Receiver<Interruption>,
}

impl Subscriber {
    pub fn new(id: usize) -> (Subscriber, Subscription) {
        let (queue, messages) = mpsc::unbounded_channel();
        let (interrupt, interrupted) = oneshot::channel();
        let subscription = Subscription { queue: messages, interrupted };
        (Subscriber { id, queue, interrupt }, subscription)
    }

    /// Puts a message into the queue. A client that has just left needs none.
    pub fn tell(&self, message: Message) {
        let _ = self.queue.send(message);
    }

    /// Interrupts the watch and returns its number.
    pub fn interrupt(self, interruption: Interruption) -> usize {
        let _ = self.interrupt.send(interruption);
        self.id
    }
}
