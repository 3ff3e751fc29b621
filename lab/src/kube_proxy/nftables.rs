// SPDX-License-Identifier: Apache-2.0
//! The table of nftables mode: verdict maps find the service, one rule translates.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{ServiceRules, names, pod_range};
use crate::topology::Family;

/// Addresses that only services have.
fn service_range(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.96.0.0/12",
        Family::V6 => "fd00:10:96::/112",
    }
}

/// The table with services, for `nft -f`, as one transaction. Node ports are served at `node_ips`.
pub fn nftables_mode(family: Family, services: &[ServiceRules], node_ips: &[IpAddr]) -> String {
    fixed_rules(family, node_ips) + &service_rules(family, services)
}

/// The table without services.
pub fn fixed_rules(family: Family, node_ips: &[IpAddr]) -> String {
    let table = table(family);
    let (address, loopback) = match family {
        Family::V4 => ("ipv4_addr", "127.0.0.0/8"),
        Family::V6 => ("ipv6_addr", "::1"),
    };
    let service = format!("{address} . inet_proto . inet_service");
    let node_ips: Vec<String> = node_ips.iter().map(IpAddr::to_string).collect();
    let node_ips = match node_ips.is_empty() {
        true => String::new(),
        false => format!("elements = {{ {} }}", node_ips.join(", ")),
    };
    let (pods, services) = (pod_range(family), service_range(family));
    format!(
        "table {table} kube-proxy {{
           set cluster-ips {{ type {address}; }}
           set nodeport-ips {{ type {address}; {node_ips} }}
           set hairpin-connections {{ type {address} . {address} . inet_proto . inet_service; }}
           map no-endpoint-services {{ type {service} : verdict; }}
           map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; }}
           map firewall-ips {{ type {service} : verdict; }}
           map service-ips {{ type {service} : verdict; }}
           map service-nodeports {{ type inet_proto . inet_service : verdict; }}
           chain reject-chain {{ reject; }}
           chain cluster-ips-check {{
             {table} daddr @cluster-ips reject;
             {table} daddr {{ {services} }} drop;
           }}
           chain service-endpoints-check {{
             {table} daddr . meta l4proto . th dport vmap @no-endpoint-services;
           }}
           chain nodeport-endpoints-check {{
             {table} daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports;
           }}
           chain firewall-check {{
             {table} daddr . meta l4proto . th dport vmap @firewall-ips;
           }}
           chain services {{
             {table} daddr @cluster-ips {table} saddr != {pods} mark set mark or 0x4000;
             {table} daddr . meta l4proto . th dport vmap @service-ips;
             {table} daddr != {loopback} {table} daddr @nodeport-ips \
               meta l4proto . th dport vmap @service-nodeports;
           }}
           chain masquerading {{
             mark and 0x4000 != 0 mark set mark and 0xffffbfff masquerade fully-random;
             {table} saddr . {table} daddr . meta l4proto . th dport @hairpin-connections \
               masquerade fully-random;
           }}
           chain filter-prerouting-pre-dnat {{
             type filter hook prerouting priority dstnat - 10; ct state new jump firewall-check;
           }}
           chain filter-output-pre-dnat {{
             type filter hook output priority -110; ct state new jump firewall-check;
           }}
           chain filter-input {{
             type filter hook input priority filter;
             ct state new jump nodeport-endpoints-check;
             ct state new jump service-endpoints-check;
           }}
           chain filter-forward {{
             type filter hook forward priority filter;
             ct state new jump service-endpoints-check;
             ct state new jump cluster-ips-check;
           }}
           chain filter-output {{
             type filter hook output priority filter;
             ct state new jump service-endpoints-check;
             ct state new jump cluster-ips-check;
           }}
           chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
           chain nat-output {{ type nat hook output priority -100; jump services; }}
           chain nat-postrouting {{
             type nat hook postrouting priority srcnat; jump masquerading;
           }}
         }}\n"
    )
}

/// What kube-proxy does when the endpoints of a service have changed: its chain is written anew.
pub fn change(family: Family, service: &ServiceRules) -> String {
    let table = table(family);
    let mut own = Elements::default();
    own.service(table, service);
    let chain = names::nftables_chain("service", service);
    format!(
        "add chain {table} kube-proxy {chain}\nflush chain {table} kube-proxy {chain}\n{}",
        own.text
    )
}

/// What services add to the table.
pub fn service_rules(family: Family, services: &[ServiceRules]) -> String {
    let table = table(family);
    let mut own = Elements::default();
    services.iter().for_each(|service| own.service(table, service));
    let Elements { mut text, cluster_ips, service_ips, node_ports, unserved } = own;
    let sets = [
        ("cluster-ips", cluster_ips),
        ("service-ips", service_ips),
        ("service-nodeports", node_ports),
        ("no-endpoint-services", unserved),
    ];
    for (name, elements) in sets.iter().filter(|(_, elements)| !elements.is_empty()) {
        let all = elements.join(", ");
        let _ = writeln!(text, "add element {table} kube-proxy {name} {{ {all} }}");
    }
    text
}

fn table(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// What depends on the services.
#[derive(Default)]
struct Elements {
    /// Chains and their rules.
    text: String,
    cluster_ips: Vec<String>,
    service_ips: Vec<String>,
    node_ports: Vec<String>,
    unserved: Vec<String>,
}

impl Elements {
    fn service(&mut self, table: &str, service: &ServiceRules) {
        let ServiceRules { name, protocol, frontend, endpoints, node_port } = service;
        let (ip, port) = (frontend.ip(), frontend.port());
        let ip_text = ip.to_string();
        // Ports of one service share its address; they follow each other.
        if self.cluster_ips.last() != Some(&ip_text) {
            self.cluster_ips.push(ip_text);
        }
        let key = format!("{ip} . {protocol} . {port}");
        if endpoints.is_empty() {
            self.unserved.push(format!("{key} comment \"{name}\" : goto reject-chain"));
            return;
        }
        let chain = names::nftables_chain("service", service);
        self.service_ips.push(format!("{key} comment \"{name}\" : goto {chain}"));
        let map: Vec<String> = endpoints
            .iter()
            .enumerate()
            .map(|(index, endpoint)| format!("{index} : {} . {}", endpoint.ip(), endpoint.port()))
            .collect();
        let rule = format!(
            "meta l4proto {protocol} dnat {table} to numgen random mod {} map {{ {} }}",
            endpoints.len(),
            map.join(", ")
        );
        self.chain(table, &chain, &[rule]);
        if let Some(port) = node_port {
            let external = names::nftables_chain("external", service);
            self.node_ports.push(format!("{protocol} . {port} : goto {external}"));
            let rules = ["mark set mark or 0x4000".to_owned(), format!("goto {chain}")];
            self.chain(table, &external, &rules);
        }
    }

    fn chain(&mut self, table: &str, name: &str, rules: &[String]) {
        let _ = writeln!(self.text, "add chain {table} kube-proxy {name}");
        for rule in rules {
            let _ = writeln!(self.text, "add rule {table} kube-proxy {name} {rule}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(services: u8) -> String {
        let services = ServiceRules::examples(services, 5);
        nftables_mode(Family::V4, &services, &[IpAddr::from([192, 168, 77, 1])])
    }

    fn count(text: &str, start: &str) -> usize {
        text.lines().filter(|line| line.trim_start().starts_with(start)).count()
    }

    /// What a real kube-proxy had.
    #[test]
    fn the_table_has_the_chains_sets_and_maps_of_a_real_kube_proxy() {
        let count = |services, starts: [&str; 3]| starts.map(|start| count(&text(services), start));
        let fixed = ["chain ", "set ", "map "];
        assert_eq!(count(0, fixed), [15, 3, 5]);
        assert_eq!(count(7, fixed), [15, 3, 5]);
        assert_eq!(count(7, ["add chain ", "add rule ", "add element "]), [7, 7, 2]);
    }

    /// One chain of one rule, one element in a set and one in a map, whatever the endpoints are.
    #[test]
    fn a_service_is_one_rule() {
        let text = text(1);
        let rule = "dnat ip to numgen random mod 5 map { 0 : 10.180.0.1 . 80, ";
        assert_eq!(text.matches(rule).count(), 1, "{text}");
        assert_eq!(text.matches("172.30.0.1").count(), 2, "{text}");
    }
}
