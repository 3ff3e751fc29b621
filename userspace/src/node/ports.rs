// SPDX-License-Identifier: Apache-2.0
//! Which source ports masqueraded clients get: none that the host's own sockets use.

use std::{fmt, fs, io, ops::RangeInclusive, str::FromStr};

/// Where the kernel says which ports it gives to sockets that do not ask for one.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Unprivileged ports.
const UNPRIVILEGED: RangeInclusive<u16> = 1024..=65_535;
/// Kubernetes' default range of node ports (`--service-node-port-range`).
const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// Source ports of masqueraded clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MasqueradePorts {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl MasqueradePorts {
    /// The largest range that neither the host's sockets use nor node ports.
    pub fn beside(ephemeral: &RangeInclusive<u16>) -> Option<Self> {
        let taken = [ephemeral, &NODE_PORTS];
        let (mut best, mut first) = (None, None);
        for port in UNPRIVILEGED {
            if taken.iter().any(|range| range.contains(&port)) {
                first = None;
                continue;
            }
            let found = Self { first: *first.get_or_insert(port), last: port };
            if best.is_none_or(|best: Self| found.count() > best.count()) {
                best = Some(found);
            }
        }
        best
    }

    /// The largest free range of this node.
    pub fn of_this_node() -> io::Result<Option<Self>> {
        let text = fs::read_to_string(EPHEMERAL)?;
        let mut numbers = text.split_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(first)), Some(Ok(last))) => Ok(Self::beside(&(first..=last))),
            _ => Err(io::Error::other(format!("{EPHEMERAL} holds {text:?}"))),
        }
    }

    /// How many there are.
    pub fn count(self) -> u16 {
        self.last - self.first + 1
    }
}

impl FromStr for MasqueradePorts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('-').and_then(|(first, last)| {
            Some(Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
        });
        match parsed {
            Some(ports) if ports.first >= *UNPRIVILEGED.start() && ports.first <= ports.last => {
                Ok(ports)
            }
            _ => Err("give FIRST-LAST between 1024 and 65535".into()),
        }
    }
}

impl fmt::Display for MasqueradePorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beside(first: u16, last: u16) -> Option<String> {
        MasqueradePorts::beside(&(first..=last)).map(|ports| ports.to_string())
    }

    #[test]
    fn the_largest_range_beside_the_host_s_own_is_taken() {
        assert_eq!(beside(32_768, 60_999).as_deref(), Some("1024-29999"));
        assert_eq!(beside(1024, 29_999).as_deref(), Some("32768-65535"));
        assert_eq!(beside(10_000, 65_535).as_deref(), Some("1024-9999"));
        assert_eq!(beside(1024, 65_535), None);
    }

    #[test]
    fn a_range_is_two_unprivileged_ports_in_order() {
        assert_eq!("2000-2999".parse::<MasqueradePorts>().unwrap().count(), 1000);
        for wrong in ["", "2000", "80-90", "3000-2000", "1-70000"] {
            assert!(wrong.parse::<MasqueradePorts>().is_err(), "{wrong}");
        }
    }
}
