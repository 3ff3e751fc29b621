// SPDX-License-Identifier: Apache-2.0
//! The API source: watches the API server and tells what changes.
//!
//! Each kind has a [`watch`] of its own, which follows it through lists, disconnects and expired
//! resource versions and sends what it hears to one [`ledger`]. That knows every object, tells what
//! really changed, and tells the end of the start once each kind was listed. Nothing is taken away
//! because a watch was lost: only what a later, complete list does not name is gone.

mod announce;
mod client;
mod contact;
mod document;
mod ledger;
mod resource;
mod watch;

use std::sync::Arc;

use tokio::{sync::mpsc, task::JoinSet};
use tracing::error;

use super::{
    event::{
        Announcement, Announcements, BATCHES_IN_FLIGHT, Batches, Delivery, Source, SourceError,
    },
    thread,
};
use crate::config::resolved::Api;
use announce::Poster;
use client::Way;
use ledger::Ledger;
pub use resource::{RESOURCES, Resource};
use watch::{Hearer, Watch};

/// What watches may have heard and the ledger has not taken in yet.
const STEPS_IN_FLIGHT: usize = 1024;

/// Announcements that may wait to be posted; those that find no room are not.
const ANNOUNCEMENTS: usize = 64;

/// Watches the API server.
#[derive(Debug)]
pub struct KubeSource {
    api: Api,
    interest: Interest,
    announcements: (Announcements, mpsc::Receiver<Announcement>),
}

/// Which objects are needed.
#[derive(Clone, Debug)]
pub struct Interest {
    /// The node that asks.
    pub node_name: String,
    /// Whether policies hold, so that it matters where everything runs.
    pub policies: bool,
}

impl KubeSource {
    /// A source that asks the API server that `api` leads to.
    pub fn new(api: Api, interest: Interest) -> Self {
        Self { api, interest, announcements: mpsc::channel(ANNOUNCEMENTS) }
    }

    /// Where it is told what it shall post as Kubernetes Events.
    pub fn announcements(&self) -> Announcements {
        self.announcements.0.clone()
    }
}

impl Source for KubeSource {
    fn start(self) -> Result<Batches, SourceError> {
        let (sender, batches) = mpsc::channel(BATCHES_IN_FLIGHT);
        let (ready, prepared) = std::sync::mpsc::sync_channel(1);
        let run = async move {
            let told = match self.prepare(sender).await {
                Ok(run) => (ready.send(Ok(())), Some(run)),
                Err(error) => (ready.send(Err(error)), None),
            };
            if let (Ok(()), Some(run)) = told {
                run.await;
            }
        };
        thread::spawn("source-kube", run)?;
        prepared.recv().unwrap_or_else(|gone| Err(SourceError::api(gone)))?;
        Ok(batches)
    }
}

impl KubeSource {
    /// Everything that can go wrong before the first request, none of which asks anybody; returns what
    /// is to run then.
    async fn prepare(
        self,
        sender: mpsc::Sender<Delivery>,
    ) -> Result<impl Future<Output = ()> + Send + use<>, SourceError> {
        let way = Arc::new(Way::find(&self.api).await?);
        let (heard, steps) = mpsc::channel(STEPS_IN_FLIGHT);
        let hearer = Hearer { heard, converter: Arc::default() };
        let watch = |resource| Watch::new(resource, way.clone(), &self.interest, hearer.clone());
        let watches: Vec<_> = Resource::wanted(&self.interest).map(watch).collect();
        let poster = Poster::new(way)?;
        let kinds = Resource::wanted(&self.interest).map(|resource| resource.kind);
        let ledger = Ledger::new(kinds);
        let (announce, addressed) = mpsc::channel(ANNOUNCEMENTS);
        let announcements = (self.announcements.1, announce);
        let posting = announce::run(poster, self.interest.node_name, addressed);
        Ok(async move {
            let mut tasks = JoinSet::new();
            for watch in watches {
                tasks.spawn(watch.run());
            }
            tasks.spawn(posting);
            until_one_ends(ledger.run(steps, sender, announcements), tasks).await;
        })
    }
}

/// Runs the ledger as long as all tasks do. After that nobody would follow some resource any more: who
/// listens shall know, and start again.
async fn until_one_ends(ledger: impl Future<Output = ()>, mut tasks: JoinSet<()>) {
    tokio::select! {
        () = ledger => {}
        Some(ended) = tasks.join_next() => error!(?ended, "a watch has ended"),
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_ends_the_source() {
        let mut tasks = JoinSet::new();
        tasks.spawn(pending());
        let ledger = pending();
        let quiet = timeout(Duration::from_millis(50), until_one_ends(ledger, tasks)).await;
        assert!(quiet.is_err(), "it goes on while all do");

        let mut tasks = JoinSet::new();
        tasks.spawn(pending());
        tasks.spawn(async { panic!("a test wants it") });
        let (sender, mut batches) = mpsc::channel::<Delivery>(1);
        let ledger = async move {
            sender.closed().await;
        };
        until_one_ends(ledger, tasks).await;
        assert!(batches.recv().await.is_none(), "who listens is told");
    }
}
