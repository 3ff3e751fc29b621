// SPDX-License-Identifier: Apache-2.0
//! A real kube-apiserver with etcd, for tests: the programs are those in the folder that
//! `KUBEBUILDER_ASSETS` names, as everywhere in the ecosystem. Without it there is none.
//!
//! Everything is at 127.0.0.1 and in a directory of its own, and ends with the handle. RBAC decides who
//! may do what, and all requests are in an audit log. There is no controller and no kubelet: nothing
//! but the test changes objects. The certificate is the one that the server makes for itself, whose
//! key signs the tokens of service accounts, too.

mod asker;
mod etcd;
mod objects;
mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use asker::{Answer, Asker};
use etcd::Etcd;
use process::{Process, free_port, url};

/// The variable that names the folder of the programs.
pub const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// How long a server may take to be ready: seconds, and a busy machine may need many times that.
const READY: Duration = Duration::from_secs(180);
/// Who may do everything.
pub const ADMINISTRATOR: &str = "administrator";
/// Notes who asked what and how it was answered, for each request.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
                            rules: [{level: Metadata}]\n";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The folder of the programs, if there is one to test with.
pub fn assets() -> Option<PathBuf> {
    std::env::var_os(ASSETS).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// Whether a server has the changes of this and that kind in memory, or asks etcd for each watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchCache {
    /// As everywhere.
    On,
    /// What etcd has forgotten, nobody knows.
    Off,
}

/// A server, running or stopped, with its etcd.
pub struct RealApiServer {
    folder: PathBuf,
    watch_cache: WatchCache,
    /// Where clients expect it.
    port: u16,
    administrator: Asker,
    // Ended before etcd is, and that before the directory goes.
    process: Option<Process>,
    etcd: Etcd,
    directory: TempDir,
}

impl RealApiServer {
    /// Starts etcd and a server from that folder, and waits until it is ready.
    pub fn start(folder: &Path, watch_cache: WatchCache) -> Result<RealApiServer> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        fs::write(path.join("audit-policy.yaml"), AUDIT_POLICY)?;
        let tokens = format!("{ADMINISTRATOR},{ADMINISTRATOR},1,system:masters\n");
        fs::write(path.join("tokens.csv"), tokens)?;
        let etcd = Etcd::start(folder, &path.join("etcd"))?;
        let port = free_port()?;
        let kubeconfig = write_kubeconfig(path, &path.join("administrator"), port, ADMINISTRATOR)?;
        let mut server = RealApiServer {
            folder: folder.to_owned(),
            watch_cache,
            port,
            administrator: Asker::new(kubeconfig),
            process: None,
            etcd,
            directory,
        };
        server.go_on()?;
        Ok(server)
    }

    /// Kills the server. etcd goes on, and so does what it holds.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts the server again, where it was.
    pub fn go_on(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the server runs");
        self.process = Some(self.launch(self.port)?);
        self.wait_until_ready()
    }

    /// Lets a test change what etcd holds while its clients see no server: for that time it is at
    /// another port.
    pub fn elsewhere(&mut self, change: impl FnOnce(&RealApiServer)) -> Result<()> {
        ensure!(self.process.is_none(), "the server runs");
        let path = self.directory.path();
        let (port, elsewhere) = (free_port()?, path.join("elsewhere"));
        let kubeconfig = write_kubeconfig(path, &elsewhere, port, ADMINISTRATOR)?;
        let administrator = std::mem::replace(&mut self.administrator, Asker::new(kubeconfig));
        self.process = Some(self.launch(port)?);
        self.wait_until_ready()?;
        change(self);
        self.stop();
        self.administrator = administrator;
        Ok(())
    }

    /// Makes etcd forget everything but the present.
    pub fn compact(&self) -> Result<()> {
        self.etcd.compact()
    }

    /// Writes `kubeconfig` and the `token` file that it names into a directory.
    pub fn write_kubeconfig(&self, directory: &Path, token: &str) -> Result<PathBuf> {
        write_kubeconfig(self.directory.path(), directory, self.port, token)
    }

    /// A kubeconfig for who may do everything.
    pub fn administrator_kubeconfig(&self) -> PathBuf {
        self.administrator.kubeconfig().to_owned()
    }

    /// A token of a service account.
    pub fn token_of(&self, namespace: &str, account: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": { "expirationSeconds": 3600 } });
        let answer = self.administrator.ask("POST", &path, Some(&request))?.granted()?;
        let token = answer["status"]["token"].as_str().context("an answer without token")?;
        Ok(token.to_owned())
    }

    /// What the audit log says of the requests of a user.
    pub fn requests_of(&self, user: &str) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.directory.path().join("audit.log"))?;
        // The last line may be half written.
        let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(entries.filter(|entry| entry["user"]["username"] == user).collect())
    }

    fn launch(&self, port: u16) -> Result<Process> {
        let file = |name: &str| self.directory.path().join(name).display().to_string();
        let key = file("certificates/apiserver.key");
        let mut command = Command::new(self.folder.join("kube-apiserver"));
        command.args([
            format!("--etcd-servers={}", self.etcd.url()),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            // Nobody needs the service `kubernetes` to lead anywhere.
            "--endpoint-reconciler-type=none".into(),
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112".into(),
            format!("--cert-dir={}", file("certificates")),
            format!("--service-account-issuer={ISSUER}"),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".into(),
            // There is no controller that would make the accounts that pods run as.
            "--disable-admission-plugins=ServiceAccount".into(),
            format!("--audit-policy-file={}", file("audit-policy.yaml")),
            format!("--audit-log-path={}", file("audit.log")),
            format!("--watch-cache={}", self.watch_cache == WatchCache::On),
        ]);
        Process::start(&mut command, &self.directory.path().join("kube-apiserver.log"))
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let end = Instant::now() + READY;
        // The last thing that it makes at its start, after it says that it is ready.
        let path = "/api/v1/namespaces/kube-system";
        loop {
            let is_ready = |path| {
                let answer = self.administrator.ask("GET", path, None);
                answer.is_ok_and(|answer| answer.code == 200)
            };
            if is_ready("/readyz") && is_ready(path) {
                return Ok(());
            }
            if let Some(process) = &mut self.process {
                process.check()?;
                if Instant::now() > end {
                    bail!("the server does not become ready:\n{}", process.last_words());
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Writes a kubeconfig for a server whose own directory is `home`.
fn write_kubeconfig(home: &Path, directory: &Path, port: u16, token: &str) -> Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let token_file = directory.join("token");
    fs::write(&token_file, token)?;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "test", "cluster": {
            "server": format!("https{}", &url(port)["http".len()..]),
            // The server's certificate stands first, then the one that it was signed with.
            "certificate-authority": home.join("certificates/apiserver.crt"),
        } }],
        "users": [{ "name": "test", "user": { "tokenFile": token_file } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
    });
    let path = directory.join("kubeconfig");
    fs::write(&path, config.to_string()).with_context(|| path.display().to_string())?;
    Ok(path)
}
