// SPDX-License-Identifier: Apache-2.0
//! What `pintle cleanup` must put back: attached programs, queueing disciplines, pins and sysctls.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use pintle_lab::netns::NetNs;

/// Sysctls of a node that the agent may have reason to change.
const SYSCTLS: [&str; 6] = [
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/default/rp_filter",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_local_reserved_ports",
    "net/ipv6/conf/all/forwarding",
];

/// One node's state; two of them compare with `==` and print in full when they differ.
#[derive(Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Output of `tc` and `ip`, by command: qdiscs, filters of every device, links, rules, routes.
    pub tables: BTreeMap<String, String>,
    /// Values of the sysctls.
    pub sysctls: BTreeMap<&'static str, String>,
    /// Paths below the agent's root, the root included.
    pub pins: BTreeSet<String>,
    /// Number of BPF programs attached to each device, by direction (tcx).
    pub tcx_programs: BTreeMap<String, u32>,
}

impl NodeState {
    /// Reads the state of the node, and the pins below `bpf_root`.
    pub fn read(ns: &NetNs, bpf_root: &Path) -> Result<NodeState> {
        let mut tables = BTreeMap::new();
        for line in ["tc qdisc show", "ip rule", "ip -6 rule", "ip route", "ip -6 route"] {
            let text = output(ns, line)?;
            // Link-local routes appear whenever a device notices its carrier.
            let kept: Vec<&str> = text.lines().filter(|line| !line.contains("fe80::")).collect();
            tables.insert(line.to_owned(), kept.join("\n"));
        }
        let devices = devices(ns)?;
        for device in devices.keys() {
            for direction in ["ingress", "egress"] {
                let line = format!("tc filter show dev {device} {direction}");
                tables.insert(line.clone(), output(ns, &line)?);
            }
        }
        let mut pins = BTreeSet::new();
        collect_pins(bpf_root, &mut pins);
        let sysctls = ns.run(|| {
            let read = |name| Ok((name, std::fs::read_to_string(format!("/proc/sys/{name}"))?));
            SYSCTLS.into_iter().map(read).collect::<Result<_>>()
        })?;
        Ok(NodeState { tables, sysctls, pins, tcx_programs: tcx_programs(ns, &devices)? })
    }
}

/// Kernel objects of one agent, by the ids that the kernel gave them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BpfObjects {
    programs: BTreeSet<u32>,
    /// Hashes over the programs' instructions.
    pub tags: BTreeSet<String>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl BpfObjects {
    /// Everything pinned below `bpf_root`, and the programs of pinned links.
    pub fn pinned_below(bpf_root: &Path) -> Result<BpfObjects> {
        let mut pins = BTreeSet::new();
        collect_pins(bpf_root, &mut pins);
        let mut objects = BpfObjects::default();
        for pin in pins.iter().filter(|pin| !Path::new(pin).is_dir()) {
            let fd = open_pin(pin)?;
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
            for line in info.lines() {
                let Some((field, value)) = line.split_once(':') else { continue };
                if field == "prog_tag" {
                    objects.tags.insert(value.trim().to_owned());
                }
                let Ok(id) = value.trim().parse() else { continue };
                match field {
                    "prog_id" => objects.programs.insert(id),
                    "map_id" => objects.maps.insert(id),
                    "link_id" => objects.links.insert(id),
                    _ => false,
                };
            }
        }
        Ok(objects)
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        *self == BpfObjects::default()
    }

    /// Those of them that the kernel still has.
    pub fn still_alive(&self) -> BpfObjects {
        const BPF_PROG_GET_NEXT_ID: libc::c_long = 11;
        const BPF_MAP_GET_NEXT_ID: libc::c_long = 12;
        const BPF_LINK_GET_NEXT_ID: libc::c_long = 31;
        // No descriptors: Linux leaks a program array whose last descriptor is closed while it is
        // still being emptied for the one before.
        let alive = |ids: &BTreeSet<u32>, command| {
            let lives = |id: &u32| next_id(command, *id - 1).is_ok_and(|next| next == *id);
            ids.iter().copied().filter(lives).collect()
        };
        BpfObjects {
            tags: BTreeSet::new(),
            programs: alive(&self.programs, BPF_PROG_GET_NEXT_ID),
            maps: alive(&self.maps, BPF_MAP_GET_NEXT_ID),
            links: alive(&self.links, BPF_LINK_GET_NEXT_ID),
        }
    }
}

fn open_pin(path: &str) -> Result<OwnedFd> {
    const BPF_OBJ_GET: libc::c_long = 7;
    let text = CString::new(path)?;
    let address = text.as_ptr() as u64;
    let fd = bpf_fd(BPF_OBJ_GET, &[address as u32, (address >> 32) as u32]);
    fd.with_context(|| format!("open the pin {path}"))
}

/// Runs a command of the bpf system call that returns a descriptor.
pub(crate) fn bpf_fd(command: libc::c_long, head: &[u32]) -> io::Result<OwnedFd> {
    let fd = bpf(command, head)?;
    // SAFETY: the kernel just returned this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The lowest number of an object of a kind above another.
fn next_id(command: libc::c_long, id: u32) -> io::Result<u32> {
    let mut attr = [0u32; 16];
    attr[0] = id;
    // SAFETY: the attribute lives through the call and holds no pointers.
    let rc =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(&attr)) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(attr[1]) }
}

/// Runs a command of the bpf system call.
pub(crate) fn bpf(command: libc::c_long, head: &[u32]) -> io::Result<RawFd> {
    let mut attr = [0u32; 16];
    attr[..head.len()].copy_from_slice(head);
    // SAFETY: the attribute lives through the call, and so does what callers let it point to.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(&attr)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

/// Counts the programs of each tcx hook by BPF_PROG_QUERY; zero is left out.
fn tcx_programs(ns: &NetNs, devices: &BTreeMap<String, u32>) -> Result<BTreeMap<String, u32>> {
    const BPF_PROG_QUERY: libc::c_long = 16;
    const HOOKS: [(&str, u32); 2] = [("ingress", 46), ("egress", 47)];
    ns.run(|| {
        let mut found = BTreeMap::new();
        for (device, index) in devices {
            for (direction, hook) in HOOKS {
                // { target, attach type, query flags, attach flags, ids (u64), count, ... }
                let mut attr = [0u32; 16];
                (attr[0], attr[1]) = (*index, hook);
                let size = size_of_val(&attr);
                // SAFETY: the attribute lives through the call; the id array is null, its length zero.
                let rc = unsafe {
                    libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, attr.as_mut_ptr(), size)
                };
                if rc == 0 && attr[6] > 0 {
                    found.insert(format!("{device} {direction}"), attr[6]);
                }
            }
        }
        Ok(found)
    })
}

fn devices(ns: &NetNs) -> Result<BTreeMap<String, u32>> {
    let text = output(ns, "ip -o link")?;
    let parse = |line: &str| {
        let (index, rest) = line.split_once(": ")?;
        let name = rest.split([':', '@']).next()?;
        Some((name.to_owned(), index.parse().ok()?))
    };
    Ok(text.lines().filter_map(parse).collect())
}

fn output(ns: &NetNs, line: &str) -> Result<String> {
    let mut words = line.split(' ');
    let program = words.next().context("an empty command")?;
    let out = ns.command(program).args(words).output().context(line.to_owned())?;
    ensure!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?)
}

fn collect_pins(path: &Path, into: &mut BTreeSet<String>) {
    if !path.exists() {
        return;
    }
    into.insert(path.display().to_string());
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        collect_pins(&entry.path(), into);
    }
}
