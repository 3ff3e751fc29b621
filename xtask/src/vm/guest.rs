// SPDX-License-Identifier: Apache-2.0
//! Boots a guest and reads its console.

use super::{Task, folder, image::Image, initramfs};
use anyhow::{Context, Result};
use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A guest that has not powered off by then hangs.
const TIME_OUT: Duration = Duration::from_secs(2400);

/// How much of a console is shown when something failed.
const TAIL: usize = 60;

/// Runs the guest until it powers off or its time is over; returns what its console showed.
pub fn run(image: &Image, initramfs: &Path, task: Task<'_>) -> Result<String> {
    let log = folder(image.series).join("console.log");
    let console = File::create(&log).with_context(|| log.display().to_string())?;
    let errors = console.try_clone()?;
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(processors(task))
        .args(["-M", "q35"])
        .args(["-nographic", "-no-reboot", "-net", "none"])
        .args(["-append", &format!("console=ttyS0 panic=-1 quiet loglevel=3{}", parameters(task))])
        .arg("-kernel")
        .arg(&image.vmlinuz)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(console)
        .stderr(errors)
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let in_time = wait(&mut qemu)?;
    let bytes = fs::read(&log).with_context(|| log.display().to_string())?;
    let mut text = printable(&String::from_utf8_lossy(&bytes));
    if !in_time {
        text += &format!("\nno power-off after {} s\n", TIME_OUT.as_secs());
    }
    Ok(text)
}

/// For a benchmark one nanosecond is one instruction, idle time is none, and nothing is left to chance:
/// no random numbers of the processor, seeds that are always the same, a clock that starts when it does.
fn processors(task: Task<'_>) -> &'static [&'static str] {
    match task {
        Task::Test | Task::Verify => &["-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "2"],
        Task::Bench(_) => &[
            "-accel",
            "tcg,thread=single",
            "-icount",
            "shift=0,sleep=off",
            "-cpu",
            "max,-rdrand,-rdseed",
            "-seed",
            "1",
            "-rtc",
            "base=2026-01-01,clock=vm",
            "-m",
            "2048",
            "-smp",
            "1",
        ],
    }
}

/// Further parameters of the kernel: for a benchmark it is always in the same place.
fn parameters(task: Task<'_>) -> &'static str {
    match task {
        Task::Test | Task::Verify => "",
        Task::Bench(_) => " nokaslr",
    }
}

/// The console without the firmware's part, and without what would clear the user's terminal.
fn printable(console: &str) -> String {
    let kernel = console.rsplit_once("\x1b[2J").map_or(console, |(_, rest)| rest);
    kernel.chars().filter(|letter| !letter.is_control() || *letter == '\n').collect()
}

/// Waits for the child and no longer than the time-out; only this child is ever killed.
fn wait(child: &mut Child) -> Result<bool> {
    let deadline = Instant::now() + TIME_OUT;
    while Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(100));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}

/// The lines that the init script has put a mark before, without it.
pub fn marked(console: &str, mark: &str) -> String {
    let mark = format!("{mark} ");
    let lines = console.lines().filter_map(|line| line.trim().strip_prefix(&mark));
    lines.collect::<Vec<_>>().join("\n")
}

/// The lines in which the test harness counted its tests, one for each program, as one.
pub fn result_line(console: &str) -> String {
    let lines = console.lines().filter(|line| line.starts_with("test result: "));
    lines.collect::<Vec<_>>().join("\n    ")
}

/// What went wrong in a guest.
pub struct Failure {
    /// In a line.
    pub what: String,
    /// The end of the console.
    tail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; the console ends with\n    {}", self.what, self.tail)
    }
}

/// What went wrong, if so: every program of the task must have ended well.
pub fn failure(console: &str, task: Task<'_>) -> Option<Failure> {
    let programs: &[&str] = match task {
        Task::Test => &["datapath", "sctp", "clock", "verify"],
        Task::Verify => &["verify"],
        Task::Bench(_) => &["bench"],
    };
    let bad = programs.iter().find(|program| exit_code(console, program) != Some(0))?;
    let mut what = match exit_code(console, bad) {
        Some(code) => format!("{bad} ended with {code}"),
        None => format!("{bad} did not end"),
    };
    for name in failed_tests(console) {
        what += &format!(", {name} failed");
    }
    Some(Failure { what, tail: tail(console) })
}

/// The tests of which the harness said so.
fn failed_tests(console: &str) -> impl Iterator<Item = &str> {
    console.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
}

/// The end of the console, without what the verifier's costs are.
fn tail(console: &str) -> String {
    let lines = console.lines().filter(|line| !line.starts_with(initramfs::VERIFY));
    let lines: Vec<&str> = lines.collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n    ")
}

fn exit_code(console: &str, program: &str) -> Option<i32> {
    let mark = format!("{} {program} ", initramfs::ENDED);
    console.lines().find_map(|line| line.trim().strip_prefix(&mark))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "boot\ntest result: ok\npintle-ended datapath 0\n\
                        test result: ok\npintle-ended sctp 0\npintle-ended clock 0\n\
                        pintle-ended verify 0\n\
                        pintle-verify {\"kernel\":\"6.1\"}\n";

    #[test]
    fn a_guest_is_well_when_both_programs_ended_with_zero() {
        assert!(failure(GOOD, Task::Test).is_none());
        assert_eq!(result_line(GOOD), "test result: ok\n    test result: ok");
        assert_eq!(marked(GOOD, "pintle-verify"), "{\"kernel\":\"6.1\"}");
    }

    #[test]
    fn a_console_cannot_clear_the_terminal() {
        assert_eq!(printable("BIOS\x1b[2J\r\nboot\x07\r\n"), "\nboot\n");
    }

    #[test]
    fn a_guest_that_fails_or_stops_half_way_is_not_well() {
        let failed = GOOD.replace("datapath 0", "datapath 101");
        let failed = format!("test a::good ... ok\ntest a::bad::v4 ... FAILED\n{failed}");
        let wrong = |console: &str| failure(console, Task::Test).expect("a failure");
        assert_eq!(wrong(&failed).what, "datapath ended with 101, a::bad::v4 failed");
        assert!(wrong(&failed).to_string().ends_with("clock 0\n    pintle-ended verify 0"));
        assert_eq!(wrong("panic").what, "datapath did not end");
        assert!(failure(&failed, Task::Verify).is_none());
    }
}
