// SPDX-License-Identifier: Apache-2.0
//! Is somebody enforcing policy in netfilter? Packets that are redirected past the host's stack would
//! escape it, so the fast path must not be taken then.
//!
//! Policy engines are recognized by the names of their chains and tables, in nf_tables (which also
//! holds the rules of `iptables-nft`) and in legacy iptables.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// How the names of a policy engine's chains or tables begin, and what it is called.
const ENGINES: &[(&str, &str)] = &[
    ("cali-", "Calico"),
    ("KUBE-ROUTER-", "kube-router"),
    ("KUBE-POD-FW-", "kube-router"),
    ("KUBE-NWPLCY-", "kube-router"),
    ("WEAVE-NPC", "Weave Net"),
    ("ANTREA-", "Antrea"),
    ("kube-network-policies", "kube-network-policies"),
    ("kindnet-network-policies", "kindnet"),
];

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER: usize = 16 + 4;
/// Larger than any netlink datagram of the kernel (32 KiB).
const DATAGRAM: usize = 64 * 1024;

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; the numbers are the same for IPv6.
const SO_GET_INFO: libc::c_int = 64;
const SO_GET_ENTRIES: libc::c_int = 65;
/// Names of tables in legacy iptables (`XT_TABLE_MAXNAMELEN`).
const TABLE_NAME: usize = 32;

/// Legacy iptables of each family: address family, level of its options, list of its tables.
const LEGACY: [(libc::c_int, libc::c_int, &str); 2] = [
    (libc::AF_INET, libc::SOL_IP, "/proc/thread-self/net/ip_tables_names"),
    (libc::AF_INET6, libc::SOL_IPV6, "/proc/thread-self/net/ip6_tables_names"),
];

/// The policy engine at work in this network namespace, if there is one that we know.
pub fn policy_engine() -> io::Result<Option<&'static str>> {
    if let Some(engine) = in_nftables()? {
        return Ok(Some(engine));
    }
    for (family, level, tables) in LEGACY {
        // Asking for a table that is not there would make it.
        if !has_filter(tables)? {
            continue;
        }
        if let Some(engine) = legacy_filter(family, level)?.and_then(|rules| in_blob(&rules)) {
            return Ok(Some(engine));
        }
    }
    Ok(None)
}

/// Whether this network namespace has the legacy `filter` table.
fn has_filter(tables: &str) -> io::Result<bool> {
    match std::fs::read_to_string(tables) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        list => Ok(list?.lines().any(|table| table == "filter")),
    }
}

fn by_name(name: &str) -> Option<&'static str> {
    ENGINES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, engine)| *engine)
}

fn in_nftables() -> io::Result<Option<&'static str>> {
    let mut socket = match Socket::new(NETLINK_NETFILTER) {
        // A kernel without nf_tables has no rules in it.
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(None),
        socket => socket?,
    };
    socket.bind_auto()?;
    socket.send_to(&chain_dump(), &SocketAddr::new(0, 0), 0)?;
    let mut datagram = Vec::with_capacity(DATAGRAM);
    loop {
        datagram.clear();
        socket.recv(&mut datagram, 0)?;
        match read_chains(&datagram) {
            Chains::Engine(engine) => return Ok(Some(engine)),
            Chains::End => return Ok(None),
            Chains::More => {}
        }
    }
}

/// A request for every chain of every family.
fn chain_dump() -> [u8; HEADER] {
    let mut request = [0; HEADER];
    request[..4].copy_from_slice(&(HEADER as u32).to_ne_bytes());
    let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN;
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    request
}

/// What a part of the dump tells.
#[derive(Debug, PartialEq, Eq)]
enum Chains {
    Engine(&'static str),
    More,
    End,
}

fn read_chains(datagram: &[u8]) -> Chains {
    let mut rest = datagram;
    while rest.len() >= 16 {
        let len = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let kind = i32::from(u16::from_ne_bytes([rest[4], rest[5]]));
        if kind == libc::NLMSG_DONE || kind == libc::NLMSG_ERROR || len < 16 || len > rest.len() {
            return Chains::End;
        }
        if let Some(engine) = rest.get(HEADER..len).and_then(engine_in_attributes) {
            return Chains::Engine(engine);
        }
        rest = rest.get(aligned(len)..).unwrap_or_default();
    }
    Chains::More
}

fn engine_in_attributes(attributes: &[u8]) -> Option<&'static str> {
    let mut rest = attributes;
    while rest.len() >= 4 {
        let len = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]) & 0x3fff;
        let value = rest.get(4..len)?;
        if matches!(kind, NFTA_CHAIN_TABLE | NFTA_CHAIN_NAME) {
            let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
            if let Some(engine) = std::str::from_utf8(name).ok().and_then(by_name) {
                return Some(engine);
            }
        }
        rest = rest.get(aligned(len)..).unwrap_or_default();
    }
    None
}

fn aligned(len: usize) -> usize {
    len.div_ceil(4) * 4
}

/// `struct ipt_getinfo`.
#[repr(C)]
struct TableInfo {
    name: [u8; TABLE_NAME],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    entries: u32,
    size: u32,
}

/// The rules of the legacy `filter` table; `None` if there is none.
fn legacy_filter(family: libc::c_int, level: libc::c_int) -> io::Result<Option<Vec<u8>>> {
    // SAFETY: no pointers; the result is checked before it is used.
    let fd =
        unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW) };
    if fd < 0 {
        return Ok(None);
    }
    // SAFETY: the descriptor is new and owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = TableInfo {
        name: table_name(),
        valid_hooks: 0,
        hook_entry: [0; 5],
        underflow: [0; 5],
        entries: 0,
        size: 0,
    };
    // SAFETY: a `repr(C)` struct of integers, writable for its size.
    let bytes = unsafe {
        std::slice::from_raw_parts_mut((&raw mut info).cast::<u8>(), size_of::<TableInfo>())
    };
    if !get_option(&socket, level, SO_GET_INFO, bytes)? {
        return Ok(None);
    }
    // `struct ipt_get_entries`: name and size, padded to 8 bytes, then the rules.
    let start = TABLE_NAME + 8;
    let mut rules = vec![0; start + info.size as usize];
    rules[..TABLE_NAME].copy_from_slice(&table_name());
    rules[TABLE_NAME..TABLE_NAME + 4].copy_from_slice(&info.size.to_ne_bytes());
    // A table that changes meanwhile is looked at again at the next check.
    Ok(get_option(&socket, level, SO_GET_ENTRIES, &mut rules)?.then(|| rules.split_off(start)))
}

fn table_name() -> [u8; TABLE_NAME] {
    let mut name = [0; TABLE_NAME];
    name[..6].copy_from_slice(b"filter");
    name
}

/// `false` if there is no such table, or it changed size.
fn get_option(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &mut [u8],
) -> io::Result<bool> {
    let mut len = value.len() as libc::socklen_t;
    // SAFETY: the value is writable for its length.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut len)
    };
    if result == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(false),
    }
}

/// Finds the name of a chain among rules: user chains stand there as text, ended by a zero byte.
fn in_blob(rules: &[u8]) -> Option<&'static str> {
    let found =
        |prefix: &str| rules.windows(prefix.len()).any(|window| window == prefix.as_bytes());
    ENGINES.iter().find(|(prefix, _)| found(prefix)).map(|(_, engine)| *engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, text: &str) -> Vec<u8> {
        let len = 4 + text.len() + 1;
        let mut bytes = (len as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(text.as_bytes());
        bytes.resize(aligned(len), 0);
        bytes
    }

    fn message(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
        let body = attributes.concat();
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_policy_engine_is_known_by_its_chains_or_its_table() {
        let chain = |table: &str, name: &str| {
            message(0xa03, &[attribute(NFTA_CHAIN_TABLE, table), attribute(NFTA_CHAIN_NAME, name)])
        };
        let plain = chain("filter", "FORWARD");
        assert_eq!(read_chains(&plain), Chains::More);
        let both = [plain, chain("filter", "cali-FORWARD")].concat();
        assert_eq!(read_chains(&both), Chains::Engine("Calico"));
        let table = chain("kube-network-policies", "postrouting");
        assert_eq!(read_chains(&table), Chains::Engine("kube-network-policies"));
        let table = chain("kindnet-network-policies", "postrouting");
        assert_eq!(read_chains(&table), Chains::Engine("kindnet"));
        assert_eq!(read_chains(&message(libc::NLMSG_DONE as u16, &[])), Chains::End);
    }

    #[test]
    fn kube_proxy_and_the_bridge_plugin_are_no_policy_engines() {
        for name in ["KUBE-FORWARD", "KUBE-SERVICES", "CNI-FORWARD", "FLANNEL-FWD", "DOCKER-USER"] {
            assert_eq!(by_name(name), None, "{name}");
        }
    }

    #[test]
    fn legacy_rules_are_searched_for_chain_names() {
        assert_eq!(in_blob(b"\0\0ERROR\0KUBE-ROUTER-FORWARD\0\0"), Some("kube-router"));
        assert_eq!(in_blob(b"\0\0ERROR\0KUBE-FORWARD\0\0"), None);
    }

    #[test]
    fn a_cut_off_answer_ends_the_search() {
        let whole = message(0xa03, &[attribute(NFTA_CHAIN_NAME, "x")]);
        assert_eq!(read_chains(&whole[..whole.len() - 2]), Chains::End);
    }
}
