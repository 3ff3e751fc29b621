// SPDX-License-Identifier: Apache-2.0
//! Worlds whose uplinks run XDP. They are veths, which it takes more for than for a device: agents are asked
//! for it, a peer receives as a driver does, and senders finish their checksums, or else tc does the work.

use std::{env, os::fd::OwnedFd};

use anyhow::{Context, Result};

use crate::{
    bpf::{self, Kind, code},
    device::Device,
    netns::NetNs,
};

/// The variable that `pintle agent` reads, too.
pub const VARIABLE: &str = "PINTLE_XDP";

/// Whether this process makes such worlds unless it is told otherwise.
pub fn is_usual() -> bool {
    env::var(VARIABLE).is_ok_and(|mode| mode == "always")
}

/// Prepares a device that sends towards uplinks with XDP.
pub(crate) fn prepare_sender(ns: &NetNs, device: &str) -> Result<()> {
    Device::new(ns, device).switch_offloads_off().with_context(|| format!("offloads of {device}"))
}

/// A program that passes everything, for as long as this lives.
pub struct Passing {
    _link: OwnedFd,
    _program: OwnedFd,
}

impl Passing {
    /// Lets the driver of a device run it.
    pub fn attach(device: &Device) -> Result<Self> {
        const XDP_PASS: i32 = 2;
        let instructions = [code(0xb7, 0, 0, 0, XDP_PASS), code(0x95, 0, 0, 0, 0)];
        let program = bpf::load(Kind::Xdp, &instructions)?;
        let link = bpf::attach_xdp(device, &program)?;
        Ok(Self { _link: link, _program: program })
    }

    /// Prepares the peer of an uplink with XDP. A veth takes at once what a program of its peer sends back
    /// only if it has a program itself.
    pub(crate) fn at_peer(ns: &NetNs, device: &str) -> Result<Self> {
        prepare_sender(ns, device)?;
        Self::attach(&Device::new(ns, device))
    }
}
