// SPDX-License-Identifier: Apache-2.0
//! Anonymous network namespaces, held by a file descriptor: nothing is left when their owner dies.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{device, patience::at_most};

/// How long the kernel may take to notice a device's carrier.
const CARRIER: Duration = Duration::from_secs(5);

/// A network namespace; the kernel removes it, and its devices, with the last clone.
#[derive(Clone)]
pub struct NetNs {
    fd: Arc<OwnedFd>,
}

impl NetNs {
    /// Makes an empty namespace with `lo` up.
    pub fn new() -> Result<NetNs> {
        let made = thread::spawn(|| -> Result<OwnedFd> {
            // SAFETY: unshare takes no pointers; it moves only this new thread.
            let rc = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            ensure!(rc == 0, "unshare(CLONE_NEWNET): {}", std::io::Error::last_os_error());
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        });
        let fd = made.join().map_err(|_| anyhow!("namespace thread panicked"))??;
        let ns = NetNs { fd: Arc::new(fd) };
        // Addresses are given without duplicate detection, link-local ones included.
        ns.set_sysctls(&[
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
        ])?;
        ns.ip(&["link set lo up".into()])?;
        Ok(ns)
    }

    /// The descriptor, for `setns` in a child process.
    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// A path that names this namespace to other programs while this process lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.raw_fd())
    }

    /// Runs `work` on a new thread inside the namespace and returns what it returned.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let joined = thread::scope(|scope| {
            let inside = move || {
                self.enter().expect("enter the namespace");
                work()
            };
            scope.spawn(inside).join()
        });
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts `work` on a new thread inside the namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let ns = self.clone();
        thread::Builder::new()
            .stack_size(256 * 1024)
            .spawn(move || {
                ns.enter().expect("enter the namespace");
                work()
            })
            .expect("spawn a thread")
    }

    /// Moves the calling thread into the namespace, for the rest of its life.
    pub fn enter(&self) -> Result<()> {
        setns(self.raw_fd()).context("setns")
    }

    /// A command that will run inside the namespace, with this process's own mounts.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let fd = self.raw_fd();
        let mut command = Command::new(program);
        // SAFETY: setns is async-signal-safe, and the descriptor outlives the fork.
        unsafe { command.pre_exec(move || setns(fd)) };
        command
    }

    /// Runs `ip` once for all `lines`.
    pub fn ip(&self, lines: &[String]) -> Result<()> {
        self.batch("ip", lines)
    }

    /// Runs `bridge` once for all `lines`.
    pub fn bridge(&self, lines: &[String]) -> Result<()> {
        self.batch("bridge", lines)
    }

    /// Runs `tc` once for all `lines`.
    pub fn tc(&self, lines: &[String]) -> Result<()> {
        self.batch("tc", lines)
    }

    /// Writes sysctls, given as paths below `/proc/sys`.
    pub fn set_sysctls(&self, values: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (name, value) in values {
                std::fs::write(format!("/proc/sys/{name}"), value)
                    .with_context(|| format!("set {name} to {value}"))?;
            }
            Ok(())
        })
    }

    /// Waits until the kernel has noticed the device's carrier; before that it drops packets.
    pub fn wait_running(&self, device: &str) -> Result<()> {
        let end = Instant::now() + at_most(CARRIER);
        self.run(|| {
            while !device::is_running(device).with_context(|| format!("flags of {device}"))? {
                ensure!(Instant::now() < end, "{device} has no carrier");
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })
    }

    fn batch(&self, program: &str, lines: &[String]) -> Result<()> {
        let mut child = self
            .command(program)
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("run {program}"))?;
        let mut stdin = child.stdin.take().context("stdin")?;
        stdin.write_all((lines.join("\n") + "\n").as_bytes())?;
        drop(stdin);
        let out = child.wait_with_output()?;
        let stderr = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "{program} -batch:\n{}\n{stderr}", lines.join("\n"));
        Ok(())
    }
}

fn setns(fd: RawFd) -> std::io::Result<()> {
    // SAFETY: setns takes a descriptor, which the caller keeps open, and no pointers.
    match unsafe { libc::setns(fd, libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
