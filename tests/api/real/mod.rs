// SPDX-License-Identifier: Apache-2.0
//! The agent's API source, the manifests and the API server of the tests, beside a real
//! kube-apiserver: from the folder that `KUBEBUILDER_ASSETS` names. Without it each test says that it
//! did not run, and passes.
//!
//! One after the other: a server takes all of a small machine while it starts.

mod changes;
mod equality;
mod manifests;
mod outages;
mod protocol;
mod role;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pintle_tests::kustomize::documents;
use pintle_tests::real_api_server::{ASSETS, RealApiServer, WatchCache, assets};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::source::{Listener, NODE, PATIENCE, listen_at};

/// The definition of ClusterNetworkPolicy, as far as it matters here.
const DEFINITION: &str = include_str!("definition.yaml");

/// A real server and a place for kubeconfigs.
pub struct Real {
    pub server: RealApiServer,
    pub directory: TempDir,
    kubeconfig: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

/// Starts a server for a test; nothing where there is none, which is said past the harness.
pub fn real(watch_cache: WatchCache) -> Option<Real> {
    static TURN: Mutex<()> = Mutex::new(());
    let Some(folder) = assets() else {
        let test = thread::current();
        let name = test.name().unwrap_or_default();
        let _ = writeln!(io::stderr(), "test {name} ... NOT RUN: {ASSETS} is not set");
        return None;
    };
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = RealApiServer::start(&folder, watch_cache).expect("a real API server");
    let kubeconfig = server.administrator_kubeconfig();
    let directory = tempfile::tempdir().expect("a directory");
    Some(Real { server, directory, kubeconfig, _turn: turn })
}

impl Real {
    /// A source that has told everything.
    pub fn synced(&self) -> Listener {
        let (mut listener, _) = listen_at(&self.kubeconfig, NODE, true);
        listener.until(|known| known.is_synced);
        listener
    }

    /// Makes the objects of a YAML text.
    pub fn create_all(&self, text: &str) {
        for object in documents(text).expect("YAML") {
            self.server.create(&object).expect("it is made");
        }
    }

    /// Makes ClusterNetworkPolicies known to the server.
    pub fn define_policies(&self) {
        self.create_all(DEFINITION);
        let end = Instant::now() + PATIENCE;
        while let Err(error) = self.server.list(POLICIES) {
            assert!(Instant::now() < end, "{error:#}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Where ClusterNetworkPolicies are.
pub const POLICIES: &str = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";

/// The namespace of the tests.
pub fn shop() -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "shop", "labels": { "team": "a" } } })
}

/// A Service with a port and an address.
pub fn service(name: &str, ip: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "clusterIP": ip, "ports": [{ "name": "http", "port": 80 }] } })
}

/// Where a Service of the tests is.
pub fn at(name: &str) -> String {
    format!("/api/v1/namespaces/shop/services/{name}")
}

/// A policy of the cluster.
pub fn cluster_policy(name: &str) -> Value {
    json!({ "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": { "name": name },
        "spec": { "tier": "Admin", "priority": 10, "subject": { "namespaces": {} },
            "ingress": [{ "action": "Deny", "from": [{ "namespaces": {} }] }] } })
}
