// SPDX-License-Identifier: Apache-2.0
//! The names of chains: short hashes of what they are for, computed as kube-proxy computes them.

use std::net::SocketAddr;

use data_encoding::BASE32;
use sha2::{Digest as _, Sha256};

use super::ServiceRules;

/// `KUBE-SVC-XPGD46QRK7WJZT7O`: the chain of a service in iptables mode; `prefix` without hyphens.
pub fn service_chain(prefix: &str, service: &ServiceRules) -> String {
    chain(prefix, &[&service.name, service.protocol])
}

/// `KUBE-SEP-SXIVWICOYRO3J4NJ`: the chain of an endpoint in iptables mode.
pub fn endpoint_chain(service: &ServiceRules, endpoint: SocketAddr) -> String {
    chain("SEP", &[&service.name, service.protocol, &endpoint.to_string()])
}

/// `service-ULMVA6XW-ns1/svc1/tcp/p80`: the chain of a service in nftables mode.
pub fn nftables_chain(prefix: &str, service: &ServiceRules) -> String {
    /// The longest part that kube-proxy lets follow the prefix.
    const LONGEST: usize = 240;
    let (object, port) = service.name.split_once(':').unwrap_or((&service.name, ""));
    let id = format!("{object}/{}/{port}", service.protocol);
    let mut name = format!("{}-{id}", hash(&[&id], 8));
    name.truncate(LONGEST);
    format!("{prefix}-{name}")
}

fn chain(prefix: &str, parts: &[&str]) -> String {
    format!("KUBE-{prefix}-{}", hash(parts, 16))
}

fn hash(parts: &[&str], length: usize) -> String {
    let mut text = BASE32.encode(&Sha256::digest(parts.concat()));
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors were taken from kube-proxy's own tests.
    #[test]
    fn chains_have_the_names_that_kube_proxy_gives_them() {
        let service = &ServiceRules::examples(1, 1)[0];
        assert_eq!(service_chain("SVC", service), "KUBE-SVC-XPGD46QRK7WJZT7O");
        let endpoint = service.endpoints[0];
        assert_eq!(endpoint_chain(service, endpoint), "KUBE-SEP-SXIVWICOYRO3J4NJ");
        let chain = nftables_chain("service", service);
        assert_eq!(chain, "service-ULMVA6XW-ns1/svc1/tcp/p80");
    }
}
