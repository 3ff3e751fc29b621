// SPDX-License-Identifier: Apache-2.0
//! A program of somebody else on a device: it lets everything pass and counts how often it ran.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};

use crate::kernel_state::{bpf, bpf_fd};
use pintle_lab::netns::NetNs;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ENABLE_STATS: libc::c_long = 32;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// `r0 = -1; exit`: on to the next program.
static INSTRUCTIONS: [u8; 16] = [0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x95, 0, 0, 0, 0, 0, 0, 0];
static LICENSE: &[u8] = b"GPL\0";

/// A program on a device; one that is attached by tcx goes when this is dropped.
pub struct ForeignProgram {
    program: OwnedFd,
    _link: Option<OwnedFd>,
    /// Makes the kernel count runs.
    _statistics: OwnedFd,
}

impl ForeignProgram {
    /// Attaches a program called `meter` behind those that are there.
    pub fn attach(ns: &NetNs, device: &str, egress: bool) -> Result<ForeignProgram> {
        let statistics = bpf_fd(BPF_ENABLE_STATS, &[0]).context("enable statistics")?;
        let program = load().context("load a program")?;
        let side = if egress { BPF_TCX_EGRESS } else { BPF_TCX_INGRESS };
        let link = ns.run(|| {
            let index = index_of(device)?;
            let attr = [program.as_raw_fd() as u32, index, side, 0];
            bpf_fd(BPF_LINK_CREATE, &attr).context("attach a program")
        })?;
        Ok(ForeignProgram { program, _link: Some(link), _statistics: statistics })
    }

    /// Adds it as a filter of a low priority to the egress of a device with a clsact qdisc.
    pub fn filter(ns: &NetNs, device: &str) -> Result<ForeignProgram> {
        let statistics = bpf_fd(BPF_ENABLE_STATS, &[0]).context("enable statistics")?;
        let program = load().context("load a program")?;
        let path: String = format!("/sys/fs/bpf/pintle-test-{}-meter", std::process::id());
        pin(&program, path.as_ref())?;
        let at = format!("filter add dev {device} egress pref 60000");
        let added = ns.tc(&[format!("{at} bpf direct-action object-pinned {path}")]);
        std::fs::remove_file(&path)?;
        added?;
        Ok(ForeignProgram { program, _link: None, _statistics: statistics })
    }

    /// How often it ran.
    pub fn runs(&self) -> Result<u64> {
        let path = format!("/proc/self/fdinfo/{}", self.program.as_raw_fd());
        let text = std::fs::read_to_string(path)?;
        let runs = text.lines().find_map(|line| line.strip_prefix("run_cnt:"));
        Ok(runs.context("run_cnt")?.trim().parse()?)
    }
}

fn load() -> std::io::Result<OwnedFd> {
    let (code, license) = (INSTRUCTIONS.as_ptr() as u64, LICENSE.as_ptr() as u64);
    let mut attr = [0_u32; 16];
    (attr[0], attr[1]) = (BPF_PROG_TYPE_SCHED_CLS, (INSTRUCTIONS.len() / 8) as u32);
    (attr[2], attr[3]) = (code as u32, (code >> 32) as u32);
    (attr[4], attr[5]) = (license as u32, (license >> 32) as u32);
    attr[12] = u32::from_ne_bytes(*b"mete");
    attr[13] = u32::from_ne_bytes(*b"r\0\0\0");
    bpf_fd(BPF_PROG_LOAD, &attr)
}

fn index_of(device: &str) -> Result<u32> {
    let name = std::ffi::CString::new(device)?;
    // SAFETY: the name ends with a zero and lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index).with_context(|| format!("no device {device}"))
}

/// Pins a map that is none of Pintle's.
pub fn pin_map(path: &std::path::Path) -> Result<()> {
    const BPF_MAP_CREATE: libc::c_long = 0;
    const BPF_MAP_TYPE_HASH: u32 = 1;
    let map = bpf_fd(BPF_MAP_CREATE, &[BPF_MAP_TYPE_HASH, 8, 8, 1]).context("create a map")?;
    pin(&map, path)
}

fn pin(object: &OwnedFd, path: &std::path::Path) -> Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let address = path.as_ptr() as u64;
    let attr = [address as u32, (address >> 32) as u32, object.as_raw_fd() as u32];
    bpf(BPF_OBJ_PIN, &attr).context("pin")?;
    Ok(())
}
