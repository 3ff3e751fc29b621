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

/// Whether this process makes such worlds.
pub fn is_on() -> bool {
    env::var(VARIABLE).is_ok_and(|mode| mode == "always")
}

/// Prepares a device that sends towards uplinks, if they run XDP.
pub(crate) fn prepare_sender(ns: &NetNs, device: &str) -> Result<()> {
    if !is_on() {
        return Ok(());
    }
    Device::new(ns, device).switch_offloads_off().with_context(|| format!("offloads of {device}"))
}

/// What the peer of an uplink has while that runs XDP.
pub(crate) struct Peer(
    #[expect(dead_code, reason = "it lives as long as the world")] Option<[OwnedFd; 2]>,
);

impl Peer {
    /// Prepares the peer of an uplink, if that runs XDP. A veth takes at once what a program of its peer
    /// sends back only if it has a program itself; one that passes everything will do.
    pub(crate) fn prepare(ns: &NetNs, device: &str) -> Result<Self> {
        if !is_on() {
            return Ok(Self(None));
        }
        prepare_sender(ns, device)?;
        const XDP_PASS: i32 = 2;
        let pass = bpf::load(Kind::Xdp, &[code(0xb7, 0, 0, 0, XDP_PASS), code(0x95, 0, 0, 0, 0)])?;
        let link = bpf::attach_xdp(&Device::new(ns, device), &pass)?;
        Ok(Self(Some([pass, link])))
    }
}
