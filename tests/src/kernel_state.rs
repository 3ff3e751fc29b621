// SPDX-License-Identifier: Apache-2.0
//! What `pintle cleanup` must put back: attached programs, queueing disciplines, pins and sysctls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::netns::NetNs;

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
            tables.insert(line.to_owned(), output(ns, line)?);
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

/// Ids of all BPF programs and links of the machine, which other tests may share.
pub fn bpf_ids() -> Result<(BTreeSet<u32>, BTreeSet<u32>)> {
    const BPF_PROG_GET_NEXT_ID: libc::c_long = 11;
    const BPF_LINK_GET_NEXT_ID: libc::c_long = 31;
    Ok((next_ids(BPF_PROG_GET_NEXT_ID)?, next_ids(BPF_LINK_GET_NEXT_ID)?))
}

fn next_ids(command: libc::c_long) -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    let mut attr = [0u32; 16];
    loop {
        // SAFETY: the attribute is larger than the kernel reads and lives through the call.
        let rc = unsafe {
            libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), std::mem::size_of_val(&attr))
        };
        if rc != 0 {
            let error = std::io::Error::last_os_error();
            ensure!(error.raw_os_error() == Some(libc::ENOENT), "bpf({command}): {error}");
            return Ok(ids);
        }
        ids.insert(attr[1]);
        (attr[0], attr[1]) = (attr[1], 0);
    }
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
                let size = std::mem::size_of_val(&attr);
                // SAFETY: as in `next_ids`; the id array is null and its length zero.
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
