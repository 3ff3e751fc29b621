// SPDX-License-Identifier: Apache-2.0
//! The programs that bring rules into the kernel and read them back.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::netns::NetNs;
use crate::topology::Family;

/// What a program took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// From its start to its end.
    pub wall: Duration,
    /// CPU time, of itself and of the kernel for it.
    pub cpu: Duration,
    /// Its memory at most, in KiB.
    pub peak_kib: u64,
}

/// Which iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iptables {
    /// The old one, with tables of its own in the kernel.
    Legacy,
    /// The one that writes to nf_tables.
    Nft,
}

impl Iptables {
    /// Its program that ends in `-restore`, `-save` or nothing.
    pub fn program(self, family: Family, verb: &str) -> String {
        let name = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        match self {
            Iptables::Legacy => format!("{name}-legacy{verb}"),
            Iptables::Nft => format!("{name}-nft{verb}"),
        }
    }

    /// Adds rules in the form of `iptables-save`; counters in it are taken over.
    pub fn restore(self, ns: &NetNs, family: Family, rules: &str) -> Result<Cost> {
        let program = self.program(family, "-restore");
        // The lock of legacy iptables is the machine's, whatever the namespace.
        feed(ns, &program, &["--noflush", "--counters", "--wait"], rules)
    }

    /// All rules with counters and without comments, sorted by table.
    pub fn save(self, ns: &NetNs, family: Family) -> Result<String> {
        let output = ns.command(self.program(family, "-save")).arg("-c").output()?;
        ensure!(output.status.success(), "save: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let mut tables: Vec<&[&str]> = lines.split_inclusive(|line| *line == "COMMIT").collect();
        tables.sort();
        Ok(tables.concat().join("\n"))
    }
}

/// Runs `nft -f -`.
pub fn nft(ns: &NetNs, rules: &str) -> Result<Cost> {
    feed(ns, "nft", &["-f", "-"], rules)
}

/// Runs `ipvsadm --restore`.
pub fn ipvsadm(ns: &NetNs, rules: &str) -> Result<Cost> {
    feed(ns, "ipvsadm", &["--restore"], rules)
}

/// Everything in nf_tables.
pub fn ruleset(ns: &NetNs) -> Result<String> {
    let output = ns.command("nft").args(["list", "ruleset"]).output()?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn feed(ns: &NetNs, program: &str, arguments: &[&str], rules: &str) -> Result<Cost> {
    let start = Instant::now();
    let mut child = ns
        .command(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program}"))?;
    // A program that ends early says why on stderr; that its input broke off says less.
    let fed = child.stdin.take().context("stdin")?.write_all(rules.as_bytes());
    let mut error = String::new();
    child.stderr.take().context("stderr")?.read_to_string(&mut error)?;
    let (status, usage) = wait(&child)?;
    ensure!(status.success(), "{program}: {error}");
    fed.with_context(|| format!("feed {program}"))?;
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    let cpu = time(usage.ru_utime) + time(usage.ru_stime);
    Ok(Cost { wall: start.elapsed(), cpu, peak_kib: usage.ru_maxrss as u64 })
}

/// Waits for the end of a process that nobody else waits for, and takes its account.
fn wait(child: &Child) -> io::Result<(ExitStatus, libc::rusage)> {
    let mut status = 0;
    // SAFETY: all-zero bytes are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the child is ours and not reaped yet; both places are valid for writing.
    let pid = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, &raw mut usage) };
    if pid < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok((ExitStatus::from_raw(status), usage))
    }
}
