// SPDX-License-Identifier: Apache-2.0
//! The worlds that are compared: the same pods, reached in different ways.

use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How a packet finds its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DataPath {
    /// By the node's routes, dialled by its own address: no service, no hook
    Direct,
    /// By kube-proxy's rules in the tables of legacy iptables
    IptablesLegacy,
    /// By kube-proxy's rules in the tables that iptables makes in nf_tables
    IptablesNft,
    /// By kube-proxy's table in nftables mode
    Nftables,
    /// By IPVS, with the rules that IPVS mode needs
    Ipvs,
    /// By Pintle's programs at the interfaces of pods and nodes
    Pintle,
    /// By Pintle's programs where sockets dial
    PintleSockets,
}

impl DataPath {
    /// Its name in tables and JSON.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it is ours.
    pub fn is_pintle(self) -> bool {
        matches!(self, Self::Pintle | Self::PintleSockets)
    }

    /// Programs that bring its rules into the kernel.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Direct | Self::Pintle | Self::PintleSockets => &["ip"],
            Self::IptablesLegacy => &["ip", "iptables-legacy-restore"],
            Self::IptablesNft => &["ip", "iptables-nft-restore"],
            Self::Nftables => &["ip", "nft"],
            Self::Ipvs => &["ip", "ipvsadm", "iptables-legacy-restore"],
        }
    }

    /// Why it is not measured with so many services, if so.
    pub fn too_many(self, services: u32) -> Option<String> {
        // 1,000 take 1.3 s, 5,000 nearly two minutes, 10,000 twenty.
        (self == Self::IptablesNft && services > 1_000)
            .then(|| "loading so many rules takes minutes to hours".to_owned())
    }

    /// Why this machine has no such world, if so.
    pub fn obstacle(self) -> Option<String> {
        if let Some(missing) = self.programs().iter().find(|program| !is_installed(program)) {
            return Some(format!("the program `{missing}` is not installed"));
        }
        let has_ipvs = Path::new("/proc/net/ip_vs").exists();
        (self == Self::Ipvs && !has_ipvs).then(|| "this kernel has no IPVS (ip_vs)".to_owned())
    }
}

/// One world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct World {
    /// How a packet finds its pod.
    pub path: DataPath,
    /// Services there are, the one that is dialled among them.
    pub services: u32,
    /// Whether the node has rules that track every connection: kube-proxy's fixed ones, without
    /// services.
    pub conntrack: bool,
}

impl World {
    /// The world that all others are compared with.
    pub const DIRECT: World = World { path: DataPath::Direct, services: 0, conntrack: false };

    /// `nftables@1000`, `direct+conntrack`.
    pub fn name(&self) -> String {
        let services = match self.path {
            DataPath::Direct => String::new(),
            _ => format!("@{}", self.services),
        };
        let conntrack = if self.conntrack { "+conntrack" } else { "" };
        format!("{}{services}{conntrack}", self.path.name())
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_path_the_services_and_the_rules() {
        let world = World { path: DataPath::PintleSockets, services: 10, conntrack: true };
        assert_eq!(world.name(), "pintle-sockets@10+conntrack");
        assert_eq!(World::DIRECT.name(), "direct");
    }
}
