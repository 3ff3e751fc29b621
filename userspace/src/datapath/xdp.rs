// SPDX-License-Identifier: Apache-2.0
//! The program of XDP on an uplink: run by its driver, or not at all. After the kernel has made a buffer
//! (generic XDP) tc is as early, and cheaper.

use std::{io, os::fd::AsFd as _};

use aya::{Ebpf, programs::ProgramError};
use pintle_abi::counter::Hook;
use thiserror::Error;
use tracing::{debug, warn};

use super::{
    attach::remove_pin,
    link::Link,
    object::{self, LoadError},
    pins::Pins,
};
use crate::node::IfIndex;

/// Why an uplink has no program of XDP.
#[derive(Debug, Error)]
pub enum NoXdp {
    /// The kernel refuses the programs.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The program is not loaded.
    #[error("the program of XDP is not loaded")]
    Program(#[from] ProgramError),
    /// The driver cannot run one, or some do not as they are set up now.
    #[error("its driver has none, or not as the device is set up")]
    Driver,
    /// There is one of somebody else.
    #[error("another program is there")]
    Taken,
    /// The driver cannot run one as the device is set up now: its MTU, queues or offloads.
    #[error("its driver refuses: {0}")]
    Refused(#[source] io::Error),
    /// The link could not be kept.
    #[error("pin the link: {0}")]
    Pin(#[source] io::Error),
}

/// Attaches the program to an interface, or replaces the one that an earlier agent attached. Before the first
/// time the programs are loaded.
pub fn attach(ebpf: &mut Ebpf, pins: &Pins, index: IfIndex, name: &str) -> Result<(), NoXdp> {
    let path = pins.link(Hook::Xdp, index);
    object::load_xdp(ebpf).inspect_err(|error| {
        // What the verifier said is too long for a reason in `status`.
        warn!(error = error as &dyn std::error::Error, "load the programs of XDP");
    })?;
    let program = object::xdp(ebpf)?.fd()?.as_fd();
    if path.exists() {
        match Link::open(&path).and_then(|link| link.update(program)) {
            Ok(()) => return Ok(()),
            // The link has outlived its interface, and another has the number now.
            Err(error) => {
                debug!(%name, %error, "attaching XDP anew");
                remove_pin(&path);
            }
        }
    }
    let link = Link::attach_xdp(program, index).map_err(reason)?;
    link.pin(&path).map_err(NoXdp::Pin)
}

/// What the kernel's answer means.
fn reason(error: io::Error) -> NoXdp {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => NoXdp::Driver,
        Some(libc::EBUSY | libc::EEXIST) => NoXdp::Taken,
        _ => NoXdp::Refused(error),
    }
}
