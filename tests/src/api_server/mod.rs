// SPDX-License-Identifier: Apache-2.0
//! A Kubernetes API server for tests: the kinds that the agent reads, with list and watch as
//! kube-apiserver has them, and faults at will. No etcd, no container, no privileges.
//!
//! A request's way: `listener` accepts, `request` takes it apart, `routes` decides, `list` and
//! `watch` read the `store`, `answer` goes back. A change's way: `put` → `store` → `history`, and
//! through a `subscription` into each open `watch`. Objects are serialized once, when they are put.
//!
//! Not there: admission, defaulting and validation of specs, owner references, deletion of what is
//! in a namespace, protobuf, tables. Clients can write Events, nothing else.

mod answer;
mod authorization;
mod beside;
mod discovery;
mod events;
mod failure;
mod faults;
mod history;
mod journal;
mod kind;
mod kubeconfig;
mod list;
mod listener;
mod mirror;
mod object;
mod protection;
mod request;
mod routes;
mod selector;
mod store;
mod subscription;
mod timestamp;
mod watch;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use pintle_lab::netns::NetNs;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use authorization::{Attributes, Verb};
pub use faults::{Pace, Refusal, StreamingLists};
pub use journal::Record;
pub use kind::Kind;
pub use kubeconfig::{Credentials, Embedding};
pub use mirror::Mirror;

use events::Events;
use faults::Faults;
use journal::Journal;
use listener::{Command, Port};
use object::Admission;
use protection::Protection;
use store::Store;

/// A running server. It stops when it is dropped.
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    commands: UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// What all requests share with the test.
struct Shared {
    store: Mutex<Store>,
    events: Mutex<Events>,
    faults: Mutex<Faults>,
    protection: Mutex<Option<Protection>>,
    journal: Journal,
}

impl ApiServer {
    /// Starts a server without objects, on a free port of 127.0.0.1.
    pub fn start() -> Result<ApiServer> {
        ApiServer::start_at(Ipv4Addr::LOCALHOST.into())
    }

    /// Starts a server without objects, on a free port of an address of ours.
    pub fn start_at(address: IpAddr) -> Result<ApiServer> {
        ApiServer::launch(None, (address, 0).into())
    }

    /// Starts a server inside a network namespace, on one of its addresses.
    pub fn start_in(ns: &NetNs, address: SocketAddr) -> Result<ApiServer> {
        ApiServer::launch(Some(ns.clone()), address)
    }

    /// Where it listens, `http://127.0.0.1:6443`; with `https` once it has a certificate.
    pub fn url(&self) -> String {
        let scheme = if self.shared.protection().is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn launch(ns: Option<NetNs>, address: SocketAddr) -> Result<ApiServer> {
        let shared = Arc::new(Shared {
            store: Mutex::new(Store::new()),
            events: Mutex::default(),
            faults: Mutex::default(),
            protection: Mutex::default(),
            journal: Journal::default(),
        });
        let (commands, told) = unbounded_channel();
        let (started, wait) = mpsc::sync_channel(1);
        let served = shared.clone();
        let thread = thread::Builder::new().name("api-server".into()).spawn(move || {
            if let Err(error) = serve(ns.as_ref(), address, served, told, &started) {
                // Nobody waits for an error that comes after the start.
                let _ = started.send(Err(error));
            }
        })?;
        let address = wait.recv().context("the API server's thread has ended")??;
        Ok(ApiServer { shared, address, commands, thread: Some(thread) })
    }
}

/// Objects.
impl ApiServer {
    /// Creates or replaces an object, tells the watches, and returns its resourceVersion. If that
    /// changes nothing, nothing happens, as in kube-apiserver.
    ///
    /// Only kind and metadata are looked at. The uid and the creationTimestamp are those of the
    /// object that is replaced; of a new one, those that it brings, or new ones.
    pub fn put(&self, object: Value) -> Result<u64> {
        self.shared.store().put(Admission::new(object)?)
    }

    /// Puts all documents of a YAML text; returns the last one's resourceVersion.
    pub fn put_yaml(&self, text: &str) -> Result<u64> {
        let documents = serde_yaml_ng::Deserializer::from_str(text);
        let mut revision = self.shared.store().revision();
        for document in documents {
            let object = Value::deserialize(document)?;
            if !object.is_null() {
                revision = self.put(object)?;
            }
        }
        Ok(revision)
    }

    /// Deletes an object, tells the watches, and returns the resourceVersion of that. The namespace
    /// of a kind that has none is empty.
    pub fn delete(&self, kind: Kind, namespace: &str, name: &str) -> Result<u64> {
        self.shared.store().delete(kind, namespace, name)
    }

    /// The newest resourceVersion.
    pub fn revision(&self) -> u64 {
        self.shared.store().revision()
    }

    /// The Events that clients have posted, as they are now.
    pub fn events(&self) -> Vec<Value> {
        self.shared.events().all()
    }
}

/// What clients did.
impl ApiServer {
    /// All requests so far, in the order they came.
    pub fn requests(&self) -> Vec<Record> {
        self.shared.journal.records()
    }

    /// Waits until a watch of the kind is open; a change is then told to it.
    pub fn wait_for_watch(&self, kind: Kind, within: Duration) -> Result<()> {
        self.shared.journal.wait_for_watch(kind, within)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // The thread ends when nobody can tell it anything more.
        self.commands = unbounded_channel().0;
        // A panic in it has been printed already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn protection(&self) -> MutexGuard<'_, Option<Protection>> {
        self.protection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of the server's thread.
fn serve(
    ns: Option<&NetNs>,
    address: SocketAddr,
    shared: Arc<Shared>,
    commands: UnboundedReceiver<Command>,
    started: &mpsc::SyncSender<Result<SocketAddr>>,
) -> Result<()> {
    ns.map_or(Ok(()), NetNs::enter)?;
    let port = Port::hold(address).with_context(|| format!("take {address}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = port.listen().with_context(|| format!("listen on {}", port.address()))?;
        started.send(Ok(port.address())).context("nobody waits for the API server")?;
        listener::run(shared, port, listener, commands).await;
        Ok(())
    })
}
