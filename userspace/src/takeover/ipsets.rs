// SPDX-License-Identifier: Apache-2.0
//! The sets of addresses that the rules of kube-proxy's ipvs mode match. Numbers are those of the
//! kernel's `linux/netfilter/ipset/ip_set.h`.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use super::netlink::{Message, Netfilter, attribute, text};

const SUBSYSTEM: u16 = 6;
const DESTROY: u16 = 3;
const LIST: u16 = 7;
const PROTOCOL: u16 = 1;
const NAME: u16 = 2;
const FLAGS: u16 = 6;
/// The version that every kernel of ours speaks.
const VERSION: &[u8] = &[6];
/// `IPSET_FLAG_LIST_SETNAME`: names without members.
const NAMES_ONLY: u32 = 1 << 1;
/// `IPSET_ERR_BUSY`: a rule still matches the set.
const IN_USE: i32 = 4096 + 4;
/// The kernel frees rules of nf_tables a moment after they are gone.
const PATIENCE: Duration = Duration::from_millis(500);

/// How the names of kube-proxy's sets begin; those of IPv6 have a `6-` behind it.
const PREFIX: &str = "KUBE-";
const SETS: [&str; 16] = [
    "LOOP-BACK",
    "CLUSTER-IP",
    "EXTERNAL-IP",
    "EXTERNAL-IP-LOCAL",
    "LOAD-BALANCER",
    "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-FW",
    "LOAD-BALANCER-SOURCE-IP",
    "LOAD-BALANCER-SOURCE-CIDR",
    "NODE-PORT-TCP",
    "NODE-PORT-LOCAL-TCP",
    "NODE-PORT-UDP",
    "NODE-PORT-LOCAL-UDP",
    "NODE-PORT-SCTP-HASH",
    "NODE-PORT-LOCAL-SCTP-HASH",
    "HEALTH-CHECK-NODE-PORT",
];

/// The set is kube-proxy's. Some names are cut, because a name has at most 31 bytes.
fn is_kube_proxys(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let rest = rest.strip_prefix("6-").unwrap_or(rest);
    let cut = |set: &&str| name.len() >= 27 && set.starts_with(rest);
    rest == "IPVS-IPS" || SETS.iter().any(|set| *set == rest || cut(set))
}

/// Names of kube-proxy's sets.
pub fn find(netfilter: &mut Netfilter) -> io::Result<Vec<String>> {
    let request =
        Message::new(SUBSYSTEM, LIST, 0, 0).bytes(PROTOCOL, VERSION).number(FLAGS, NAMES_ONLY);
    let found = netfilter.dump(&request, |found: &mut Vec<String>, _, attributes| {
        let name = attribute(attributes, NAME).map(text);
        found.extend(name.filter(|name| is_kube_proxys(name)));
    });
    match found {
        // A kernel without sets.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
            Ok(Vec::new())
        }
        found => found,
    }
}

/// Removes them; returns how many are gone.
pub fn remove(netfilter: &mut Netfilter) -> io::Result<usize> {
    let names = find(netfilter)?;
    let start = Instant::now();
    let mut removed = 0;
    for name in &names {
        let destroy =
            Message::new(SUBSYSTEM, DESTROY, 0, 0).bytes(PROTOCOL, VERSION).text(NAME, name);
        loop {
            match netfilter.command(destroy.clone()) {
                Ok(()) => {
                    removed += 1;
                    break;
                }
                Err(error)
                    if error.raw_os_error() == Some(IN_USE) && start.elapsed() < PATIENCE =>
                {
                    thread::sleep(Duration::from_millis(10));
                }
                // A rule of somebody else's matches it.
                Err(error) if error.raw_os_error() == Some(IN_USE) => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_others_are_not_kube_proxys() {
        for name in ["KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP", "KUBE-NODE-PORT-LOCAL-SCTP-HAS"] {
            assert!(is_kube_proxys(name), "{name}");
        }
        for name in ["KUBE-SRC-ABCDEFGH", "KUBE-DST-ABCDEFGH", "cali40all", "KUBE-", "CLUSTER-IP"] {
            assert!(!is_kube_proxys(name), "{name}");
        }
    }
}
