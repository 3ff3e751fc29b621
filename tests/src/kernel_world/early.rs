// SPDX-License-Identifier: Apache-2.0
//! The program of XDP in test runs. They take place at the loopback device of a network namespace whose
//! routes lead everything out of another device, to a neighbour that is known.

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    programs::{TestRun as _, TestRunOptions},
};
use pintle::datapath::object;
use pintle_abi::device::{Device, device_flags};
use pintle_lab::{device, netns::NetNs};

use crate::world::Verdict;

/// The clock of XDP, which is held while a vector runs that tells what goes by tc from what does not: how
/// long its packets take must not decide that.
#[derive(Clone, Copy)]
pub(super) enum Clock {
    Goes,
    Held,
}

impl Clock {
    /// What [`map::CLOCK`](pintle_abi::map::CLOCK) has for it: a tick, and the time then.
    pub(super) fn value(self) -> [u64; 2] {
        match self {
            Self::Goes => [0, 0],
            Self::Held => [u64::MAX, now_ns()],
        }
    }
}

/// The time as the programs have it, `CLOCK_MONOTONIC_COARSE` in ns.
fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills in the struct.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Keeps this thread, and those it starts, on one CPU: each has exits of its own.
pub(super) fn stay_on_a_cpu() {
    // SAFETY: all-zero bytes are a valid, empty CPU set; the calls read it and fill it in.
    let kept = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let cpu = libc::sched_getcpu();
        libc::CPU_SET(cpu as usize, &mut set);
        cpu >= 0 && libc::sched_setaffinity(0, size_of_val(&set), &raw const set) == 0
    };
    assert!(kept, "stay on a CPU: {}", std::io::Error::last_os_error());
}

const NAME: &str = "up0";
const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// `enum xdp_action` of `linux/bpf.h`.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// Where frames leave.
pub(super) struct Uplink {
    ns: NetNs,
    index: u32,
    mac: [u8; 6],
}

impl Uplink {
    /// The device in a namespace of its own.
    pub(super) fn new() -> Result<Self> {
        let ns = NetNs::new()?;
        let neighbour = NEIGHBOUR.map(|byte| format!("{byte:02x}")).join(":");
        ns.ip(&[
            format!("link add {NAME} type veth peer name up1"),
            format!("link set {NAME} up"),
            "link set up1 up".into(),
            format!("addr add 10.255.0.1/24 dev {NAME}"),
            format!("addr add fd99::1/64 dev {NAME}"),
            format!("neigh add 10.255.0.2 lladdr {neighbour} nud permanent dev {NAME}"),
            format!("neigh add fd99::2 lladdr {neighbour} nud permanent dev {NAME}"),
            format!("route add default via 10.255.0.2 dev {NAME}"),
            format!("route add ::/0 via fd99::2 dev {NAME}"),
        ])?;
        ns.set_sysctls(&[
            ("net/ipv4/conf/all/forwarding", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
        ])?;
        let up = device::Device::new(&ns, NAME);
        let (index, mac) = (up.index()?, up.mac()?);
        Ok(Self { ns, index, mac })
    }

    /// Its number.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// What the programs know of it.
    pub(super) fn device(&self) -> Device {
        Device { flags: device_flags::TAKES_FRAMES, mac: self.mac, ..Device::default() }
    }

    /// What the program of XDP does with a frame; `None` if it leaves it to tc, as it was.
    pub(super) fn send(&self, ebpf: &mut Ebpf, frame: &[u8]) -> Option<(Verdict, Vec<u8>)> {
        let sent = self.run(ebpf, frame);
        sent.unwrap_or_else(|error| panic!("xdp: {error:#}"))
    }

    fn run(&self, ebpf: &mut Ebpf, frame: &[u8]) -> Result<Option<(Verdict, Vec<u8>)>> {
        let mut out = vec![0_u8; frame.len() + 256];
        let mut addressed = frame.to_vec();
        addressed[..6].fill(0);
        let options = TestRunOptions {
            data_in: Some(&addressed),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let program = object::xdp(ebpf)?;
        let result = self.ns.run(|| program.test_run(options)).context("test run")?;
        out.truncate(result.data_size_out as usize);
        let verdict = match result.return_value {
            XDP_PASS => {
                ensure!(out == addressed, "what XDP leaves to tc is untouched");
                return Ok(None);
            }
            XDP_DROP => Verdict::Drop,
            XDP_REDIRECT => {
                ensure!(out[..6] == NEIGHBOUR && out[6..12] == self.mac, "it goes on");
                Verdict::Deliver
            }
            code => anyhow::bail!("the program returned {code}"),
        };
        out[..12].copy_from_slice(&frame[..12]);
        Ok(Some((verdict, out)))
    }
}
