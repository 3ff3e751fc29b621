// SPDX-License-Identifier: Apache-2.0
//! A cgroup for single threads of this process: two agents on one machine must not meet each other's
//! sockets.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// A threaded cgroup below this process's own; removed with its owner.
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes an empty one.
    pub fn new() -> Result<Cgroup> {
        static SEQUENCE: AtomicU32 = AtomicU32::new(0);
        let root = pintle::datapath::cgroup::find_root()?.context("no cgroup v2 hierarchy")?;
        let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let name = format!("pintle-lab-{}-{sequence}", std::process::id());
        let path = root.join(own()?).join(name);
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let cgroup = Cgroup { path };
        fs::write(cgroup.path.join("cgroup.type"), "threaded").context("make it threaded")?;
        Ok(cgroup)
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the calling thread, and what it starts, into this cgroup.
    pub fn enter(&self) -> Result<()> {
        fs::write(self.path.join("cgroup.threads"), "0")
            .with_context(|| format!("enter {}", self.path.display()))
    }

    /// Runs `work` on a new thread in this cgroup; threads that it starts are in it, too.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let joined = thread::scope(|scope| {
            let inside = || {
                self.enter().expect("enter the cgroup");
                work()
            };
            scope.spawn(inside).join()
        });
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// The cgroup of this process, below the root of the hierarchy: threads stay below their process.
fn own() -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(path.context("this process has no cgroup v2")?.into())
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Threads that have been joined leave a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        eprintln!("{} is left", self.path.display());
    }
}
