// SPDX-License-Identifier: Apache-2.0
//! Pintle takes kube-proxy's place: its rules go ([`removal`]), connections that they opened go on
//! ([`connections`]), and an agent says why it does not begin ([`start`]).

use pintle_lab::kube_proxy::{self, Iptables, ServiceRules};
use pintle_lab::manifest::Port;
use pintle_lab::topology::Family;

use crate::scene::{DNS, HTTP, Scene};

mod connections;
mod removal;
mod start;

/// kube-proxy's rules of one kind, for the service `web` of a scene and many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Legacy,
    IptablesNft,
    Nftables,
}

/// Writes the rules of a kube-proxy into the node of the scene.
fn proxy(scene: &Scene, mode: Mode, others: u16) {
    let node = &scene.world.nodes[0];
    for family in Family::BOTH {
        let rules = |port: &Port| ServiceRules {
            name: format!("shop/web:{}", port.name),
            protocol: if port.protocol == "UDP" { "udp" } else { "tcp" },
            frontend: scene.vip(family, port),
            endpoints: (scene.backends.iter())
                .map(|backend| backend.pod.addr(family, port.target))
                .collect(),
            node_port: None,
        };
        let mut services = ServiceRules::many(family, others);
        services.extend([HTTP, DNS].iter().map(rules));
        let done = match mode {
            Mode::Legacy => {
                let rules = kube_proxy::iptables_mode(&services);
                Iptables::Legacy.restore(node, family, &rules)
            }
            Mode::IptablesNft => {
                let rules = kube_proxy::iptables_mode(&services);
                Iptables::Nft.restore(node, family, &rules)
            }
            Mode::Nftables => {
                kube_proxy::nft(node, &kube_proxy::nftables_mode(family, &services, &[]))
            }
        };
        done.expect("kube-proxy's rules");
    }
}
