// SPDX-License-Identifier: Apache-2.0
//! At which of the node's own addresses node ports answer (`nodePortAddresses`).

use std::{collections::BTreeSet, net::IpAddr};

use super::options::NodeAddresses;
use crate::model::{cidr::Cidr, ip::Family};

/// At which of the node's own addresses node ports answer. The defaults are those of a new
/// installation: at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePorts {
    /// Which addresses.
    pub addresses: NodePortAddresses,
    /// Whether loopback addresses are among them.
    pub localhost: Localhost,
}

/// Which of the node's own addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// All.
    #[default]
    All,
    /// The one of each family that stands for the node.
    Primary,
    /// Those in one of the ranges, and all of a family without range.
    Ranges(Vec<Cidr>),
}

/// Whether node ports answer at loopback addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Localhost {
    /// They do, where the chosen addresses include them.
    #[default]
    Answers,
    /// They do not.
    Silent,
}

impl NodePorts {
    /// The node's addresses, of which `own` are all; `primary` are those that stand for the node,
    /// the first of each family counts.
    pub fn choose(&self, own: &[IpAddr], primary: &[IpAddr]) -> NodeAddresses {
        let is_allowed = |ip: &&IpAddr| {
            let is_silent = ip.is_loopback() && self.localhost == Localhost::Silent;
            !is_silent && self.addresses.contains(**ip, primary)
        };
        NodeAddresses {
            node_ports: own.iter().filter(is_allowed).copied().collect(),
            own: own.iter().copied().collect::<BTreeSet<_>>(),
        }
    }
}

impl NodePortAddresses {
    fn contains(&self, ip: IpAddr, primary: &[IpAddr]) -> bool {
        let family = Family::of(ip);
        match self {
            Self::All => true,
            Self::Primary => primary.iter().find(|ip| Family::of(**ip) == family) == Some(&ip),
            // "If the list contains CIDRs but none of a family, that family gets its zero CIDR."
            Self::Ranges(ranges) => {
                let mut same = ranges.iter().filter(|range| range.family() == family).peekable();
                same.peek().is_none() || same.any(|range| range.contains(ip))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [&str; 6] =
        ["127.0.0.1", "::1", "172.18.0.2", "172.18.0.9", "10.244.1.1", "fd18::2"];

    fn chosen(addresses: NodePortAddresses, localhost: Localhost, primary: &[&str]) -> String {
        let parsed = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<_>>();
        let found = NodePorts { addresses, localhost }.choose(&parsed(&OWN), &parsed(primary));
        assert_eq!(found.own.len(), OWN.len());
        found.node_ports.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn node_ports_answer_where_the_operator_says() {
        let ranges = |texts: &[&str]| {
            NodePortAddresses::Ranges(texts.iter().map(|text| Cidr::parse(text).unwrap()).collect())
        };
        let all = "10.244.1.1 127.0.0.1 172.18.0.2 172.18.0.9 ::1 fd18::2";
        for (addresses, primary, expected) in [
            (NodePortAddresses::All, &[][..], all),
            (
                NodePortAddresses::Primary,
                &["172.18.0.2", "172.18.0.9", "fd18::2"],
                "172.18.0.2 fd18::2",
            ),
            // An address that the node does not have is none of its own.
            (NodePortAddresses::Primary, &["192.0.2.1", "172.18.0.2"], ""),
            (NodePortAddresses::Primary, &[], ""),
            (ranges(&["172.18.0.0/16", "fd18::/64"]), &[], "172.18.0.2 172.18.0.9 fd18::2"),
            (ranges(&["172.18.0.2/32"]), &[], "172.18.0.2 ::1 fd18::2"),
            (ranges(&["127.0.0.0/8", "::1/128"]), &[], "127.0.0.1 ::1"),
            (ranges(&["0.0.0.0/0", "::/0"]), &[], all),
            (
                ranges(&["0.0.0.0/0", "10.0.0.0/8", "fd00::/8"]),
                &[],
                "10.244.1.1 127.0.0.1 172.18.0.2 172.18.0.9 fd18::2",
            ),
        ] {
            let what = format!("{addresses:?}");
            assert_eq!(chosen(addresses, Localhost::Answers, primary), expected, "{what}");
        }
    }

    #[test]
    fn loopback_is_silent_where_the_operator_says() {
        let found = chosen(NodePortAddresses::All, Localhost::Silent, &[]);
        assert_eq!(found, "10.244.1.1 172.18.0.2 172.18.0.9 fd18::2");
        let ranges = NodePortAddresses::Ranges(vec![Cidr::parse("127.0.0.0/8").unwrap()]);
        assert_eq!(chosen(ranges, Localhost::Silent, &[]), "fd18::2");
    }
}
