// SPDX-License-Identifier: Apache-2.0
//! What a command may touch: its streams, the maps, the agent, the clock. Tests bring their own.

use std::{fs, io::Write};

use super::{
    Global,
    client::{Agent, SocketAgent},
    output::Style,
};
use crate::{
    datapath::{
        pins::Pins,
        view::{Maps, OpenError, View},
    },
    server::socket_path,
};

/// The surroundings of a command.
pub struct Env<'a> {
    /// Data.
    pub out: &'a mut dyn Write,
    /// Notes and warnings.
    pub err: &'a mut dyn Write,
    /// How to print.
    pub style: Style,
    /// Opens the maps.
    pub maps: Box<dyn Fn() -> Result<Box<dyn Maps>, OpenError> + 'a>,
    /// The agent, whether it answers or not.
    pub agent: Box<dyn Agent + 'a>,
    /// Now, in ns of `CLOCK_MONOTONIC`.
    pub now_ns: fn() -> u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Details are wanted on stderr.
    pub verbose: bool,
}

impl<'a> Env<'a> {
    /// The real ones.
    pub fn of_this_machine(
        global: &Global,
        style: Style,
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
    ) -> Self {
        let pins = Pins::new(&global.bpf_root);
        let path = socket_path(&global.run_dir, &global.bpf_root);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            out,
            err,
            style,
            maps: Box::new(move || Ok(Box::new(View::open(pins.clone())?))),
            agent: Box::new(SocketAgent { path }),
            now_ns: monotonic_ns,
            kernel: kernel.trim().to_owned(),
            verbose: global.verbosity().is_some_and(|verbosity| verbosity > 0),
        }
    }
}

fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live `timespec`; the call writes it and cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
