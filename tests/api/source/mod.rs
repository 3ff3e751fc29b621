// SPDX-License-Identifier: Apache-2.0
//! The agent's API source against the API server of the tests: what it makes of lists, changes and
//! faults. No agent, no kernel, no privileges.

mod announcements;
mod changes;
mod equality;
mod outages;
mod refusals;
mod requests;
mod role;
mod tls;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pintle::config::resolved::Api;
use pintle::model::{
    name::{Kind as ModelKind, ObjectRef},
    object::Object,
};
use pintle::source::{
    dir::DirSource,
    event::{Announcements, Batches, Event, Source as _},
    kube::{Interest, KubeSource},
};
use pintle_tests::api_server::ApiServer;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Longer than anything takes on a busy machine, waits between attempts included.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for what should not come.
pub const QUIET: Duration = Duration::from_millis(300);
/// The node that asks.
pub const NODE: &str = "node-1";

/// What somebody who listens to a source knows.
#[derive(Debug, Default, PartialEq)]
pub struct Known {
    /// Objects in force.
    pub objects: BTreeMap<ObjectRef, Object>,
    /// What is wrong, in words.
    pub rejected: BTreeMap<ObjectRef, Vec<String>>,
    /// Whether everything that existed at the start was told.
    pub is_synced: bool,
}

impl Known {
    fn note(&mut self, event: Event) {
        match event {
            Event::Apply(object) => drop(self.objects.insert(object.object_ref(), object)),
            Event::Delete(object) => {
                assert!(self.objects.remove(&object).is_some(), "{object} was not there");
            }
            Event::Rejected(object, reasons) if reasons.is_empty() => {
                assert!(self.rejected.remove(&object).is_some(), "{object} was not rejected");
            }
            Event::Rejected(object, reasons) => {
                let reasons = reasons.iter().map(ToString::to_string).collect();
                self.rejected.insert(object, reasons);
            }
            Event::Synced => {
                assert!(!self.is_synced, "told twice");
                self.is_synced = true;
            }
        }
    }

    /// The names of the objects of a kind in force.
    pub fn names(&self, kind: &ModelKind) -> Vec<&str> {
        let of_kind = self.objects.keys().filter(|object| object.kind == *kind);
        of_kind.map(|object| object.name.as_str()).collect()
    }

    /// The first ClusterIP of a service; empty if it is not in force.
    pub fn cluster_ip(&self, name: &str) -> String {
        let found = self.objects.iter().find_map(|(object, value)| match value {
            Object::Service(service) if object.name.as_str() == name => {
                service.cluster_ips.iter().next()
            }
            _ => None,
        });
        found.map(|ip| ip.to_string()).unwrap_or_default()
    }

    /// Watches that fail.
    pub fn failing_watches(&self) -> Vec<&str> {
        let watches = self.rejected.keys().filter(|object| object.kind == ModelKind::Watch);
        watches.map(|object| object.name.as_str()).collect()
    }
}

/// Somebody who listens to a source.
pub struct Listener {
    batches: Batches,
    runtime: Runtime,
    pub known: Known,
    /// Batches so far.
    pub deliveries: usize,
    /// What holds after every batch.
    pub invariant: fn(&Known) -> bool,
}

impl Listener {
    /// Listens to what a source tells.
    pub fn new(batches: Batches) -> Listener {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Listener { batches, runtime, known: Known::default(), deliveries: 0, invariant: |_| true }
    }

    /// Listens until that holds.
    #[track_caller]
    pub fn until(&mut self, holds: impl Fn(&Known) -> bool) -> &Known {
        let end = Instant::now() + PATIENCE;
        while !holds(&self.known) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(self.listen(left), "it does not come about: {:#?}", self.known);
        }
        &self.known
    }

    /// Listens for a while; nothing may be told.
    #[track_caller]
    pub fn hears_nothing(&mut self) {
        assert!(!self.listen(QUIET), "{:#?}", self.known);
    }

    /// Takes in the next batch; false if none comes in time.
    fn listen(&mut self, time: Duration) -> bool {
        let next = async { timeout(time, self.batches.recv()).await };
        let Ok(delivery) = self.runtime.block_on(next) else { return false };
        let delivery = delivery.expect("the source has ended");
        self.deliveries += 1;
        delivery.batch.into_iter().for_each(|event| self.known.note(event));
        assert!((self.invariant)(&self.known), "{:#?}", self.known);
        true
    }

    /// Listens for a while, to whatever comes.
    pub fn listen_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while self.listen(end.saturating_duration_since(Instant::now())) {}
    }
}

/// A server and a source that listens to it.
pub struct Scene {
    pub server: ApiServer,
    /// Holds kubeconfig and token.
    pub directory: TempDir,
    kubeconfig: PathBuf,
}

impl Scene {
    /// A server without objects.
    pub fn new() -> Scene {
        let server = ApiServer::start().expect("an API server");
        Scene::of(server, |server, directory| server.write_kubeconfig(directory))
    }

    /// A server, and somebody who writes its kubeconfig.
    pub fn of(
        server: ApiServer,
        write: impl FnOnce(&ApiServer, &Path) -> anyhow::Result<PathBuf>,
    ) -> Scene {
        let directory = tempfile::tempdir().expect("a directory");
        let kubeconfig = write(&server, directory.path()).expect("a kubeconfig");
        Scene { server, directory, kubeconfig }
    }

    /// Puts the documents of a YAML text.
    pub fn put(&self, text: &str) {
        self.server.put_yaml(text).expect("put objects");
    }

    /// Starts a source for policies and services.
    pub fn listen(&self) -> Listener {
        self.listen_for(true).0
    }

    /// One that has told everything.
    pub fn synced(&self) -> Listener {
        let mut listener = self.listen();
        listener.until(|known| known.is_synced);
        listener
    }

    /// Starts a source with or without an interest in policies.
    pub fn listen_for(&self, policies: bool) -> (Listener, Announcements) {
        self.listen_as(NODE, policies)
    }

    /// The same on another node.
    pub fn listen_as(&self, node: &str, policies: bool) -> (Listener, Announcements) {
        listen_at(&self.kubeconfig, node, policies)
    }
}

/// Starts a source on a node that asks where a kubeconfig leads.
pub fn listen_at(kubeconfig: &Path, node: &str, policies: bool) -> (Listener, Announcements) {
    let kubeconfig = Some(kubeconfig.to_owned());
    let api = Api { kubeconfig, master: None, qps: 1000.0, burst: 1000 };
    let source = KubeSource::new(api, Interest { node_name: node.into(), policies });
    let announcements = source.announcements();
    (Listener::new(source.start().expect("the source starts")), announcements)
}

/// Listens to a directory with this text in it.
pub fn listen_to_directory(text: &str) -> (TempDir, Listener) {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("objects.yaml"), text).expect("write it");
    let batches = DirSource::new(directory.path()).start().expect("the source starts");
    (directory, Listener::new(batches))
}

/// A Service with a port.
pub fn service(name: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: {ip}, clusterIPs: [{ip}], ports: [{{name: http, port: 80}}]}}\n"
    )
}
