// SPDX-License-Identifier: Apache-2.0
//! Other kernels: Debian's images under QEMU's interpreter, with one static binary and no network.
//!
//! Everything is kept in `target/vm/<series>`; only the first run needs the network.

mod archive;
mod binaries;
mod guest;
mod image;
mod initramfs;

use crate::workspace;
use anyhow::{Context, Result, bail};
use binaries::Placed;
use guest::Failure;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

/// The kernels we promise to support beside the running one, by Debian's series.
pub const SERIES: &[&str] = &["6.1", "6.12"];

/// What a guest is booted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task<'a> {
    /// The datapath tests, those of SCTP and of clocks, and the verifier's costs.
    Test,
    /// The verifier's costs alone.
    Verify,
    /// `pintle bench` with arguments, on one processor whose time is its instructions.
    Bench(&'a str),
}

/// What a guest reported.
pub struct Report {
    /// `6.1`, `6.12`.
    pub series: &'static str,
    /// The line of JSON that the verify binary printed.
    pub verify: String,
    /// The run that the benchmark printed.
    pub bench: String,
    /// The lines in which the tests counted themselves.
    pub tests: String,
    /// What is wrong, when something is.
    pub failure: Option<Failure>,
    /// From power-on to power-off.
    pub seconds: f64,
}

/// Why this machine cannot run the guests, if so.
pub fn obstacle() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the guests are x86-64 and this machine is not".into());
    }
    let needed =
        ["qemu-system-x86_64", "busybox", "cpio", "depmod", "xz", "dpkg", "apt-get", "strip"];
    let missing = needed.into_iter().find(|name| workspace::find_program(name).is_none())?;
    Some(format!("the program `{missing}` is missing: run `cargo xtask setup` as root"))
}

/// Runs the datapath tests on every kernel and prints what each said.
pub fn test() -> Result<()> {
    let reports = boot_all(Task::Test)?;
    let mut failures = Vec::new();
    for Report { series, verify, tests, failure, seconds, .. } in &reports {
        match failure {
            None => println!("kernel {series} in {seconds:.0} s: {tests}\n    {verify}"),
            Some(failure) => {
                println!("kernel {series} in {seconds:.0} s: {failure}");
                failures.push(format!("kernel {series}: {}", failure.what));
            }
        }
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("; "));
    }
    Ok(())
}

/// Boots every kernel, all at the same time.
pub fn boot_all(task: Task<'_>) -> Result<Vec<Report>> {
    let files = binaries::build(task)?;
    let images = SERIES.iter().map(image::obtain).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let guests: Vec<_> = images
            .iter()
            .map(|image| scope.spawn(|| boot(image, &pack(image, &files, task)?, task)))
            .collect();
        let joined = guests.into_iter().map(|guest| guest.join());
        joined.map(|result| result.unwrap_or_else(|_| bail!("a guest's thread died"))).collect()
    })
}

/// Boots one kernel several times, one after the other, each time with the very same files.
pub fn boot_often(series: &str, task: Task<'_>, times: usize) -> Result<Vec<Report>> {
    let known = SERIES.iter().find(|known| **known == series);
    let files = binaries::build(task)?;
    let image = image::obtain(known.with_context(|| format!("no kernel {series}"))?)?;
    let initramfs = pack(&image, &files, task)?;
    (0..times).map(|_| boot(&image, &initramfs, task)).collect()
}

fn pack(image: &image::Image, files: &[Placed], task: Task<'_>) -> Result<PathBuf> {
    let packed = initramfs::build(image, files, task);
    packed.with_context(|| format!("initramfs for {}", image.series))
}

fn boot(image: &image::Image, initramfs: &Path, task: Task<'_>) -> Result<Report> {
    let start = Instant::now();
    let console = guest::run(image, initramfs, task)?;
    Ok(Report {
        series: image.series,
        verify: guest::marked(&console, initramfs::VERIFY),
        bench: guest::marked(&console, initramfs::BENCH),
        tests: guest::result_line(&console),
        failure: guest::failure(&console, task),
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// A folder of ours that lasts from run to run: one for each series, and for what they share.
pub fn folder(name: &str) -> PathBuf {
    workspace::target_dir().join("vm").join(name)
}
