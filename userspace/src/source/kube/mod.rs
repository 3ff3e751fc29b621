// SPDX-License-Identifier: Apache-2.0
//! The API source: watches the API server and tells what changes.
//!
//! Each kind has a [`watch`] of its own, which follows it through lists, disconnects and expired
//! resource versions and sends what it hears to one [`ledger`]. That knows every object, tells what
//! really changed, and tells the end of the start once each kind was listed. Nothing is taken away
//! because a watch was lost: only what a later, complete list does not name is gone.

mod client;
mod contact;
mod document;
mod ledger;
mod resource;
mod watch;

use std::{sync::Arc, thread};

use tokio::{runtime, sync::mpsc};

use super::{
    convert::Converter,
    event::{BATCHES_IN_FLIGHT, Batches, Source, SourceError},
};
use crate::config::resolved::Api;
use client::Pace;
use ledger::Ledger;
pub use resource::{RESOURCES, Resource};
use watch::{Hearer, Watch};

/// What watches may have heard and the ledger has not taken in yet.
const STEPS_IN_FLIGHT: usize = 1024;

/// Watches the API server.
#[derive(Debug)]
pub struct KubeSource {
    api: Api,
    interest: Interest,
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
        Self { api, interest }
    }
}

impl Source for KubeSource {
    fn start(self) -> Result<Batches, SourceError> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(SourceError::Thread)?;
        let config = runtime.block_on(client::config(&self.api))?;
        let pace = Pace::of(&self.api);
        let (sender, batches) = mpsc::channel(BATCHES_IN_FLIGHT);
        let (heard, steps) = mpsc::channel(STEPS_IN_FLIGHT);
        let converter = Arc::new(Converter::default());
        let resources: Vec<_> = Resource::wanted(&self.interest).collect();
        let ledger = Ledger::new(resources.iter().map(|resource| resource.kind));
        let mut watches = Vec::new();
        {
            let _context = runtime.enter();
            for resource in resources {
                let hearer = Hearer { heard: heard.clone(), converter: converter.clone() };
                watches.push(Watch::new(resource, (&config, pace), &self.interest, hearer)?);
            }
        }
        let run = async move {
            let watches: Vec<_> =
                watches.into_iter().map(|watch| tokio::spawn(watch.run())).collect();
            ledger.run(steps, sender).await;
            watches.iter().for_each(tokio::task::JoinHandle::abort);
        };
        thread::Builder::new()
            .name("source-kube".to_owned())
            .spawn(move || runtime.block_on(run))
            .map_err(SourceError::Thread)?;
        Ok(batches)
    }
}
