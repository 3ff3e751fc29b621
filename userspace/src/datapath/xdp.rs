// SPDX-License-Identifier: Apache-2.0
//! The program of XDP on an uplink: run by its driver, or not at all. After the kernel has made a buffer
//! (generic XDP) tc is as early, and cheaper.

use std::{error::Error, io, os::fd::AsFd as _};

use aya::{
    Ebpf,
    programs::{
        ProgramError, XdpMode,
        links::{FdLink, LinkError},
    },
};
use pintle_abi::counter::Hook;
use thiserror::Error;
use tracing::debug;

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
    /// The program is missing.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The driver cannot run one.
    #[error("its driver has none")]
    Driver,
    /// There is one of somebody else.
    #[error("another program is there")]
    Taken,
    /// The driver cannot run one as the device is set up now: its MTU, queues or offloads.
    #[error("its driver refuses: {0}")]
    Refused(#[source] io::Error),
    /// Something else the kernel said.
    #[error("{0}")]
    Attach(#[source] ProgramError),
    /// The link could not be kept.
    #[error("keep the link: {0}")]
    Keep(#[source] Box<dyn Error + Send + Sync>),
}

/// Attaches the program to an interface, or replaces the one that an earlier agent attached.
pub fn attach(ebpf: &mut Ebpf, pins: &Pins, index: IfIndex, name: &str) -> Result<(), NoXdp> {
    let path = pins.link(Hook::Xdp, index);
    let program = object::xdp(ebpf)?;
    if path.exists() {
        let program = program.fd().map_err(NoXdp::Attach)?.as_fd();
        match Link::open(&path).and_then(|link| link.update(program)) {
            Ok(()) => return Ok(()),
            // The link has outlived its interface, and another has the number now.
            Err(error) => {
                debug!(%name, %error, "attaching XDP anew");
                remove_pin(&path);
            }
        }
    }
    let id = program.attach_to_if_index(index.0, XdpMode::Driver).map_err(reason)?;
    let link = program.take_link(id).map_err(NoXdp::Attach)?;
    let keep = || -> Result<(), Box<dyn Error + Send + Sync>> {
        let link: FdLink = link.try_into().map_err(|error: LinkError| error)?;
        link.pin(&path)?;
        Ok(())
    };
    keep().map_err(NoXdp::Keep)
}

/// What the kernel's answer means.
fn reason(error: ProgramError) -> NoXdp {
    match system_error(&error).map(|code| (code, io::Error::from_raw_os_error(code))) {
        Some((libc::EOPNOTSUPP, _)) => NoXdp::Driver,
        Some((libc::EBUSY | libc::EEXIST, _)) => NoXdp::Taken,
        Some((_, error)) => NoXdp::Refused(error),
        None => NoXdp::Attach(error),
    }
}

/// The number of the system call's error behind an error.
fn system_error(error: &ProgramError) -> Option<i32> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error();
        }
        next = error.source();
    }
    None
}
