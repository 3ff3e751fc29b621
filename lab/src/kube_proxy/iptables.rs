// SPDX-License-Identifier: Apache-2.0
//! The rules of iptables mode: `KUBE-SERVICES` is tried rule by rule, each service has a chain that
//! draws an endpoint, each endpoint one that translates.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::{ServiceRules, family, names, pod_range};
use crate::topology::Family;

/// From so many endpoints on kube-proxy leaves out their comments.
const LARGE_CLUSTER: usize = 1000;

/// The rules, for `iptables-restore --noflush`. Services are tried in the order given; kube-proxy's is
/// random.
pub fn iptables_mode(services: &[ServiceRules]) -> String {
    let mut rules = Rules::among(services);
    for service in services {
        rules.dispatch(service);
        rules.endpoints(service);
    }
    let mut out = String::from("*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n");
    out += &filter(&rules.refused, FILTER_HOOKS);
    out += &nat(family(services), &rules, NAT_HOOKS);
    out
}

/// What kube-proxy restores when one service has changed: the dispatch to all, the chains of that one,
/// and the end of the chains that only its former self had.
pub fn change(services: &[ServiceRules], index: usize, before: &ServiceRules) -> String {
    let mut rules = Rules::among(services);
    services.iter().for_each(|service| rules.dispatch(service));
    let after = &services[index];
    rules.endpoints(after);
    for gone in before.endpoints.iter().filter(|endpoint| !after.endpoints.contains(endpoint)) {
        let chain = names::endpoint_chain(before, *gone);
        rules.chain(&chain);
        let _ = writeln!(rules.nat, "-X {chain}");
    }
    filter(&rules.refused, "") + &nat(family(services), &rules, "")
}

/// What iptables mode has in the node whatever the services are, and a rule that masquerades: what
/// tracking connections costs, alone.
pub fn fixed_rules(family: Family) -> String {
    filter("", FILTER_HOOKS) + &nat(family, &Rules::default(), NAT_HOOKS)
}

fn filter(refused: &str, hooks: &str) -> String {
    let mut out = String::from(
        "*filter\n:KUBE-PROXY-CANARY - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-SERVICES - [0:0]\n\
         :KUBE-EXTERNAL-SERVICES - [0:0]\n:KUBE-FORWARD - [0:0]\n:KUBE-PROXY-FIREWALL - [0:0]\n",
    );
    out += hooks;
    out += refused;
    out += "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n";
    out += "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark \
            0x4000/0x4000 -j ACCEPT\n";
    out += "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" \
            -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n";
    out
}

fn nat(family: Family, rules: &Rules, hooks: &str) -> String {
    let not_loopback = match family {
        Family::V4 => "",
        Family::V6 => "! -d ::1/128 ",
    };
    let mut out = String::from(
        "*nat\n:KUBE-PROXY-CANARY - [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n\
         :KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n",
    );
    out += &rules.chains;
    out += hooks;
    out += "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n";
    out += "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n";
    out += "-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" \
            -j MASQUERADE --random-fully\n";
    out += "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n";
    out += &rules.nat;
    let _ = writeln!(
        out,
        "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the \
         last rule in this chain\" {not_loopback}-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
    );
    out + "COMMIT\n"
}

/// Each goes to the front of its chain, so the last comes first.
const FILTER_HOOKS: &str = "\
-I INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service \
portals\" -j KUBE-EXTERNAL-SERVICES
-I FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service \
portals\" -j KUBE-EXTERNAL-SERVICES
-I INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS
-I FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" \
-j KUBE-SERVICES
-I OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" \
-j KUBE-SERVICES
-I FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-I INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" \
-j KUBE-PROXY-FIREWALL
-I OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" \
-j KUBE-PROXY-FIREWALL
-I FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" \
-j KUBE-PROXY-FIREWALL
";

/// What kube-proxy and the kubelet both see to, of IPv4, where node ports are at loopback, too: nobody
/// else reaches that.
pub const LOCALNET: &str = "\
*filter
:KUBE-FIREWALL - [0:0]
-I INPUT -j KUBE-FIREWALL
-I OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8 \
! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
COMMIT
";

const NAT_HOOKS: &str = "\
-I OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-I PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
";

/// The lines that depend on the services.
#[derive(Default)]
struct Rules {
    chains: String,
    nat: String,
    /// Of the table `filter`: what has no endpoints.
    refused: String,
    /// Whether rules of endpoints have comments.
    comments: bool,
}

impl Rules {
    fn among(services: &[ServiceRules]) -> Self {
        let all = services.iter().map(|service| service.endpoints.len()).sum::<usize>();
        Self { comments: all <= LARGE_CLUSTER, ..Self::default() }
    }

    /// What leads to a service.
    fn dispatch(&mut self, service: &ServiceRules) {
        if service.endpoints.is_empty() {
            let matches = matches(service);
            let _ = writeln!(self.refused, "-A KUBE-SERVICES {matches} -j REJECT");
            return;
        }
        let chain = names::service_chain("SVC", service);
        self.rule(format_args!("KUBE-SERVICES {} -j {chain}", matches(service)));
        if let Some(port) = service.node_port {
            let ServiceRules { name, protocol, .. } = service;
            let external = names::service_chain("EXT", service);
            self.rule(format_args!(
                "KUBE-NODEPORTS -m comment --comment \"{name}\" -p {protocol} -m {protocol} \
                 --dport {port} -j {external}"
            ));
        }
    }

    /// What leads from a service to its endpoints.
    fn endpoints(&mut self, service: &ServiceRules) {
        if service.endpoints.is_empty() {
            return;
        }
        let chain = names::service_chain("SVC", service);
        self.chain(&chain);
        let pods = pod_range(if service.frontend.is_ipv4() { Family::V4 } else { Family::V6 });
        let matches = matches(service);
        self.rule(format_args!("{chain} {matches} ! -s {pods} -j KUBE-MARK-MASQ"));
        if service.node_port.is_some() {
            self.external(service, &chain);
        }
        for (index, endpoint) in service.endpoints.iter().enumerate() {
            self.endpoint(service, &chain, *endpoint, service.endpoints.len() - index);
        }
    }

    fn external(&mut self, service: &ServiceRules, chain: &str) {
        let external = names::service_chain("EXT", service);
        self.chain(&external);
        self.rule(format_args!(
            "{external} -m comment --comment \"masquerade traffic for {} external destinations\" \
             -j KUBE-MARK-MASQ",
            service.name
        ));
        self.rule(format_args!("{external} -j {chain}"));
    }

    /// One of the last `left` of a service.
    fn endpoint(&mut self, of: &ServiceRules, chain: &str, endpoint: SocketAddr, left: usize) {
        let ServiceRules { name, protocol, .. } = of;
        let own = names::endpoint_chain(of, endpoint);
        self.chain(&own);
        let [arrow, plain] = match self.comments {
            true => [
                format!("-m comment --comment \"{name} -> {endpoint}\" "),
                format!("-m comment --comment \"{name}\" "),
            ],
            false => [String::new(), String::new()],
        };
        let chance = match left {
            1 => String::new(),
            _ => format!("-m statistic --mode random --probability {:.10} ", 1.0 / left as f64),
        };
        self.rule(format_args!("{chain} {arrow}{chance}-j {own}"));
        self.rule(format_args!("{own} {plain}-s {} -j KUBE-MARK-MASQ", endpoint.ip()));
        self.rule(format_args!(
            "{own} {plain}-p {protocol} -m {protocol} -j DNAT --to-destination {endpoint}"
        ));
    }

    fn chain(&mut self, name: &str) {
        let _ = writeln!(self.chains, ":{name} - [0:0]");
    }

    fn rule(&mut self, rule: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.nat, "-A {rule}");
    }
}

fn matches(service: &ServiceRules) -> String {
    let ServiceRules { name, protocol, frontend, endpoints, .. } = service;
    let what = if endpoints.is_empty() { "has no endpoints" } else { "cluster IP" };
    format!(
        "-m comment --comment \"{name} {what}\" -p {protocol} -m {protocol} -d {} --dport {}",
        frontend.ip(),
        frontend.port()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules and chains of one table in a text for `iptables-restore`, without the jumps into them.
    fn count(rules: &str, table: &str) -> [usize; 2] {
        let start = rules.find(&format!("*{table}\n")).unwrap();
        let text = &rules[start..start + rules[start..].find("COMMIT").unwrap()];
        ["-A ", ":"].map(|start| text.lines().filter(|line| line.starts_with(start)).count())
    }

    /// The table of kube-proxy's own test: services, endpoints, rules of nat, rules of filter.
    #[test]
    fn there_are_as_many_rules_as_kube_proxy_writes() {
        let table = [
            (1, 1, 10, 4),
            (1, 2, 13, 4),
            (1, 10, 37, 4),
            (10, 1, 55, 4),
            (10, 2, 85, 4),
            (10, 10, 325, 4),
            (10, 0, 5, 14),
        ];
        for (services, endpoints, nat, filter) in table {
            let rules = iptables_mode(&ServiceRules::examples(services, endpoints));
            let found = ["nat", "filter"].map(|table| count(&rules, table)[0]);
            assert_eq!(
                found,
                [nat, filter - count(LOCALNET, "filter")[0]],
                "{services} services of {endpoints}"
            );
        }
    }

    /// What a real kube-proxy had: 23 rules and 13 chains of its own, 17 and 6 for each service with
    /// five endpoints.
    #[test]
    fn rules_and_chains_are_those_of_a_real_kube_proxy() {
        let total = |services| {
            let rules = iptables_mode(&ServiceRules::examples(services, 5));
            let jumps = rules
                .lines()
                .chain(LOCALNET.lines())
                .filter(|line| line.starts_with("-I "))
                .count();
            let tables = ["mangle", "nat", "filter"].map(|table| count(&rules, table));
            let sum = |index: usize| tables.iter().map(|counts| counts[index]).sum::<usize>();
            let [shared, chain] = count(LOCALNET, "filter");
            [jumps + sum(0) + shared, sum(1) + chain]
        };
        assert_eq!(total(0), [23, 13]);
        assert_eq!(total(1), [23 + 17, 13 + 6]);
        assert_eq!(total(7), [23 + 7 * 17, 13 + 7 * 6]);
    }

    #[test]
    fn a_node_port_costs_a_rule_and_a_chain_of_two() {
        let mut services = ServiceRules::examples(1, 2);
        let [before, chains] = count(&iptables_mode(&services), "nat");
        services[0].node_port = Some(30080);
        assert_eq!(count(&iptables_mode(&services), "nat"), [before + 3, chains + 1]);
    }

    #[test]
    fn every_endpoint_of_a_service_is_as_likely_as_the_others() {
        let rules = iptables_mode(&ServiceRules::examples(1, 3));
        let chances: Vec<&str> =
            rules.lines().filter_map(|line| line.split("--probability ").nth(1)).collect();
        let chances: Vec<&str> = chances.iter().filter_map(|rest| rest.split(' ').next()).collect();
        assert_eq!(chances, ["0.3333333333", "0.5000000000"]);
    }

    /// One of ten services of two endpoints: the dispatch of all, its own chains anew, the old one gone.
    #[test]
    fn a_change_repeats_the_dispatch_and_one_service() {
        let mut services = ServiceRules::examples(10, 2);
        let before = services[3].clone();
        services[3].endpoints[0] = SocketAddr::new([10, 180, 99, 1].into(), 80);
        let text = change(&services, 3, &before);
        let [rules, chains] = count(&text, "nat");
        // 5 fixed, 10 of the dispatch, 1 + 3 * 2 of the service; 5 fixed, 1 + 2 of it, 1 that goes.
        assert_eq!([rules, chains], [5 + 10 + 7, 5 + 3 + 1]);
        assert_eq!(text.matches("\n-X KUBE-SEP-").count(), 1);
        assert!(!text.contains("\n-I "), "jumps stay as they are");
    }

    #[test]
    fn a_large_cluster_has_no_comments_on_endpoints() {
        let text = |services| iptables_mode(&ServiceRules::examples(services, 10));
        assert!(text(100).contains("ns1/svc1:p80 -> 10.180.0.1:80"));
        assert!(!text(101).contains("->"));
    }
}
