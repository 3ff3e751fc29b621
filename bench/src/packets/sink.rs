// SPDX-License-Identifier: Apache-2.0
//! Where datagrams end: a program at ingress of a pod's device counts and drops them.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use pintle_lab::device::Device;

use pintle_lab::bpf::{self, Kind, Single, bpf_fd, pair};

const BPF_TCX_INGRESS: u32 = 46;
const TC_ACT_SHOT: i32 = 2;
const XDP_DROP: i32 = 1;

/// A device that swallows everything while this lives.
pub struct Sink {
    counter: Single,
    _link: OwnedFd,
    _program: OwnedFd,
}

impl Sink {
    /// Lets a device swallow what arrives.
    pub fn new(device: &Device) -> Result<Self> {
        let (counter, program) = counting(Kind::Classifier, TC_ACT_SHOT)?;
        let mut attributes = [0; 18];
        attributes[0] = pair(program.as_raw_fd() as u32, device.index()?);
        attributes[1] = pair(BPF_TCX_INGRESS, 0);
        let link = device.ns().run(|| bpf_fd(bpf::BPF_LINK_CREATE, &mut attributes));
        let link = link.context("attach with tcx, which needs Linux 6.6")?;
        Ok(Self { counter, _link: link, _program: program })
    }

    /// The same in its driver, before the kernel has a buffer for it.
    pub fn in_driver(device: &Device) -> Result<Self> {
        let (counter, program) = counting(Kind::Xdp, XDP_DROP)?;
        let link = bpf::attach_xdp(device, &program)?;
        Ok(Self { counter, _link: link, _program: program })
    }

    /// How many have ended here.
    pub fn received(&self) -> Result<u64> {
        self.counter.get()
    }
}

/// A program that counts and returns a code.
fn counting(kind: Kind, code: i32) -> Result<(Single, OwnedFd)> {
    let counter = Single::counter()?;
    let mut instructions = bpf::count(counter.fd());
    instructions.extend([bpf::code(0xb7, 0, 0, 0, code), bpf::code(0x95, 0, 0, 0, 0)]);
    let program = bpf::load(kind, &instructions)?;
    Ok((counter, program))
}
