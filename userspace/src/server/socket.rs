// SPDX-License-Identifier: Apache-2.0
//! The agent's state over a Unix socket: `GET /status`, `/names`, `/policies`, `/readyz`, and
//! questions about policies, which are `POST`ed.
//!
//! The socket is for root alone, because names of pods and services are not everybody's.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use thiserror::Error;
use tokio::net::UnixListener;

use super::{
    policy::{Answer, Cause, Denial, NamedDenial, Party, Policies, PolicySource, Question},
    state::{Names, Readiness, StateSource, Status},
};
use crate::policy::AllowedKey;

/// Everything that can be asked for over the socket.
pub trait Knowledge: StateSource + PolicySource {}

impl<T: StateSource + PolicySource> Knowledge for T {}

/// Default of `--run-dir`.
pub const DEFAULT_RUN_DIR: &str = "/run/pintle";

/// A socket's path has at most 107 bytes; a longer name becomes its hash.
const NAME_LIMIT: usize = 60;

/// The socket of the agent that owns a `--bpf-root`; two roots never share one.
pub fn socket_path(run_dir: &Path, bpf_root: &Path) -> PathBuf {
    let mut name = String::new();
    for character in bpf_root.to_string_lossy().trim_matches('/').chars() {
        match character {
            // Escaped, so that `a/b-c` and `a-b/c` differ.
            '-' => name.push_str("--"),
            '/' => name.push('-'),
            other => name.push(other),
        }
    }
    if name.len() > NAME_LIMIT {
        name = format!("{:016x}", fnv1a(bpf_root.as_os_str().as_encoded_bytes()));
    }
    run_dir.join(format!("{name}.sock"))
}

/// Fowler-Noll-Vo 1a: the same in every build, which std's hashers do not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Listens on the socket, in place of one that a dead agent left behind, and serves until the
/// returned future is dropped.
pub fn serve(
    path: &Path,
    source: Arc<dyn Knowledge>,
) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let listener = bind(path).with_context(|| format!("listen on {}", path.display()))?;
    let service = axum::serve(listener, routes(source));
    Ok(async move {
        if let Err(error) = service.await {
            tracing::warn!(%error, "the state endpoint ended");
        }
    })
}

/// Another agent listens on the socket: two would undo each other's work.
#[derive(Debug, Error)]
#[error("another agent answers at {}", path.display())]
pub struct AnotherAgent {
    /// Its socket.
    path: PathBuf,
}

/// Fails if an agent listens on the socket; asked before anything is changed.
pub fn refuse_company(path: &Path) -> Result<(), AnotherAgent> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(AnotherAgent { path: path.to_owned() }),
        Err(_) => Ok(()),
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    refuse_company(path).map_err(|error| io::Error::new(io::ErrorKind::AddrInUse, error))?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn routes(source: Arc<dyn Knowledge>) -> Router {
    type Source = State<Arc<dyn Knowledge>>;
    async fn status(State(source): Source) -> Json<Status> {
        Json(source.status())
    }
    async fn names(State(source): Source) -> Json<Names> {
        Json(source.names())
    }
    async fn readiness(State(source): Source) -> Json<Readiness> {
        Json(source.readiness())
    }
    async fn policies(State(source): Source) -> Json<Policies> {
        Json(source.policies())
    }
    async fn denials(State(source): Source, Json(of): Json<Vec<Denial>>) -> Json<Vec<NamedDenial>> {
        Json(source.name_denials(&of))
    }
    async fn allowed(State(source): Source, Json(of): Json<Vec<AllowedKey>>) -> Json<Vec<Cause>> {
        Json(source.name_allowed(&of))
    }
    async fn parties(State(source): Source, Json(of): Json<Vec<String>>) -> Json<Vec<Party>> {
        Json(source.find(&of))
    }
    async fn verdicts(State(source): Source, Json(of): Json<Vec<Question>>) -> Json<Vec<Answer>> {
        Json(source.judge(&of))
    }
    Router::new()
        .route("/status", get(status))
        .route("/names", get(names))
        .route("/readyz", get(readiness))
        .route("/policies", get(policies))
        .route("/policies/denials", post(denials))
        .route("/policies/allowed", post(allowed))
        .route("/policies/parties", post(parties))
        .route("/policies/verdicts", post(verdicts))
        .with_state(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bpf_root_has_its_own_socket() {
        let path = |root: &str| socket_path(Path::new("/run/pintle"), Path::new(root));
        assert_eq!(path("/sys/fs/bpf/pintle"), Path::new("/run/pintle/sys-fs-bpf-pintle.sock"));
        assert_ne!(path("/a/b-c"), path("/a-b/c"));
        let long = |end: &str| path(&("/very-long".repeat(20) + end));
        assert!(long("x").as_os_str().len() < 107);
        assert_ne!(long("x"), long("y"));
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_respected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/agent.sock");
        drop(bind(&path).unwrap());
        assert!(path.exists(), "a dead agent leaves its socket behind");
        let _alive = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
