// SPDX-License-Identifier: Apache-2.0
//! kube-proxy's rules for given services, without kube-proxy: as its iptables mode writes them, in
//! either back end of iptables, and as its nftables mode does.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::netns::NetNs;
use crate::topology::Family;

/// One port of a service with its endpoints.
#[derive(Clone, Debug)]
pub struct ServiceRules {
    /// `namespace/name:port`, for comments and names.
    pub name: String,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// ClusterIP and port.
    pub frontend: SocketAddr,
    /// Pod addresses; none means the service is refused.
    pub endpoints: Vec<SocketAddr>,
    /// Its node port.
    pub node_port: Option<u16>,
}

impl ServiceRules {
    /// `count` services with five endpoints each that nobody listens at.
    pub fn many(family: Family, count: u16) -> Vec<ServiceRules> {
        let ip = |first: u16, number: u16| -> IpAddr {
            let [high, low] = number.to_be_bytes();
            match family {
                Family::V4 => [10, first as u8, high, low].into(),
                Family::V6 => [0xfd00, 0x10, first, 0, 0, 0, 0, number].into(),
            }
        };
        let service = |number: u16| ServiceRules {
            name: format!("shop/many-{number}:http"),
            protocol: if number.is_multiple_of(3) { "udp" } else { "tcp" },
            frontend: SocketAddr::new(ip(97, number), 80),
            endpoints: (0..5).map(|n| SocketAddr::new(ip(128 + n, number), 8080)).collect(),
            node_port: (number.is_multiple_of(4)).then_some(30_000 + number / 4),
        };
        (0..count).map(service).collect()
    }
}

/// Which iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iptables {
    /// The old one, with tables of its own in the kernel.
    Legacy,
    /// The one that writes to nf_tables.
    Nft,
}

impl Iptables {
    /// Its program that ends in `-restore`, `-save` or nothing.
    pub fn program(self, family: Family, verb: &str) -> String {
        let name = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        match self {
            Iptables::Legacy => format!("{name}-legacy{verb}"),
            Iptables::Nft => format!("{name}-nft{verb}"),
        }
    }

    /// Adds rules in the form of `iptables-save`; counters in it are taken over.
    pub fn restore(self, ns: &NetNs, family: Family, rules: &str) -> Result<()> {
        let program = self.program(family, "-restore");
        // The lock of legacy iptables is the machine's, whatever the namespace.
        feed(ns, &program, &["--noflush", "--counters", "--wait"], rules)
    }

    /// All rules with counters and without comments, sorted by table.
    pub fn save(self, ns: &NetNs, family: Family) -> Result<String> {
        let output = ns.command(self.program(family, "-save")).arg("-c").output()?;
        ensure!(output.status.success(), "save: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let mut tables: Vec<&[&str]> = lines.split_inclusive(|line| *line == "COMMIT").collect();
        tables.sort();
        Ok(tables.concat().join("\n"))
    }
}

/// Runs `nft -f -`.
pub fn nft(ns: &NetNs, rules: &str) -> Result<()> {
    feed(ns, "nft", &["-f", "-"], rules)
}

/// Everything in nf_tables.
pub fn ruleset(ns: &NetNs) -> Result<String> {
    let output = ns.command("nft").args(["list", "ruleset"]).output()?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn feed(ns: &NetNs, program: &str, arguments: &[&str], rules: &str) -> Result<()> {
    let mut child = ns
        .command(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program}"))?;
    child.stdin.take().context("stdin")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {error}");
    Ok(())
}

/// The rules of iptables mode, for `iptables-restore --noflush`: jumps come first in their chains.
pub fn iptables_mode(services: &[ServiceRules]) -> String {
    let mut nat = Lines::default();
    let mut filter = Lines::default();
    for (number, service) in services.iter().enumerate() {
        if service.endpoints.is_empty() {
            filter.rule(&format!("KUBE-SERVICES {} -j REJECT", service.matches()));
        } else {
            service.nat(number, &mut nat);
        }
    }
    let pods = match services.first().map(|service| service.frontend) {
        Some(SocketAddr::V6(_)) => "! -d ::1/128",
        _ => "! -d 127.0.0.0/8",
    };
    nat.rule(&format!("KUBE-SERVICES {pods} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"));
    let mut out = String::from("*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n");
    out += "*filter\n:KUBE-PROXY-CANARY - [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-FORWARD - [0:0]\n";
    out += ":KUBE-EXTERNAL-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n";
    out += ":KUBE-PROXY-FIREWALL - [0:0]\n";
    out += FILTER_HOOKS;
    out += &filter.rules;
    out += "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n";
    out += "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark \
            0x4000/0x4000 -j ACCEPT\n";
    out += "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n";
    out += "*nat\n:KUBE-PROXY-CANARY - [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n";
    out += ":KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n";
    out += &nat.chains;
    out += NAT_HOOKS;
    out += &nat.rules;
    out += "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n";
    out += "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n";
    out += "-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" \
            -j MASQUERADE --random-fully\n";
    out + "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\nCOMMIT\n"
}

const FILTER_HOOKS: &str = "\
-I INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-I FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-I INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS
-I FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-I OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-I FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-I INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-I OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-I FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
";

const NAT_HOOKS: &str = "\
-I OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-I PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
";

#[derive(Default)]
struct Lines {
    chains: String,
    rules: String,
}

impl Lines {
    fn chain(&mut self, name: &str) {
        let _ = writeln!(self.chains, ":{name} - [0:0]");
    }

    fn rule(&mut self, rule: &str) {
        let _ = writeln!(self.rules, "-A {rule}");
    }
}

impl ServiceRules {
    fn matches(&self) -> String {
        let ServiceRules { name, protocol, frontend, .. } = self;
        format!(
            "-d {} -p {protocol} -m comment --comment \"{name} cluster IP\" -m {protocol} \
             --dport {}",
            frontend.ip(),
            frontend.port()
        )
    }

    fn nat(&self, number: usize, nat: &mut Lines) {
        let ServiceRules { name, protocol, endpoints, .. } = self;
        let pods = if self.frontend.is_ipv4() { "10.244.0.0/16" } else { "fd00:10:244::/48" };
        let service = format!("KUBE-SVC-{number:016}");
        nat.chain(&service);
        nat.rule(&format!("KUBE-SERVICES {} -j {service}", self.matches()));
        nat.rule(&format!("{service} {} ! -s {pods} -j KUBE-MARK-MASQ", self.matches()));
        if let Some(port) = self.node_port {
            let external = format!("KUBE-EXT-{number:016}");
            nat.chain(&external);
            nat.rule(&format!(
                "KUBE-NODEPORTS -p {protocol} -m {protocol} --dport {port} -m comment --comment \
                 \"{name}\" -j {external}"
            ));
            nat.rule(&format!(
                "{external} -m comment --comment \"masquerade traffic for {name}\" \
                 -j KUBE-MARK-MASQ"
            ));
            nat.rule(&format!("{external} -j {service}"));
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            let chain = format!("KUBE-SEP-{number:08}{index:08}");
            nat.chain(&chain);
            let left = endpoints.len() - index;
            let chance = match left {
                1 => String::new(),
                _ => format!("-m statistic --mode random --probability {:.10}", 1.0 / left as f64),
            };
            let comment = format!("-m comment --comment \"{name} -> {endpoint}\"");
            nat.rule(&format!("{service} {comment} {chance} -j {chain}"));
            nat.rule(&format!("{chain} -s {} {comment} -j KUBE-MARK-MASQ", endpoint.ip()));
            nat.rule(&format!(
                "{chain} -p {protocol} {comment} -m {protocol} -j DNAT --to-destination {endpoint}"
            ));
        }
    }
}

/// The table of nftables mode, for `nft -f`.
pub fn nftables_mode(family: Family, services: &[ServiceRules]) -> String {
    let (table, address) = match family {
        Family::V4 => ("ip", "ipv4_addr"),
        Family::V6 => ("ip6", "ipv6_addr"),
    };
    let mut chains = String::new();
    let mut elements = Vec::new();
    for (number, service) in services.iter().enumerate().filter(|(_, s)| !s.endpoints.is_empty()) {
        let ServiceRules { protocol, frontend, endpoints, .. } = service;
        let (ip, port) = (frontend.ip(), frontend.port());
        elements.push(format!("{ip} . {protocol} . {port} : goto service-{number}"));
        let map: Vec<String> = endpoints
            .iter()
            .enumerate()
            .map(|(index, endpoint)| format!("{index} : {} . {}", endpoint.ip(), endpoint.port()))
            .collect();
        let _ = writeln!(
            chains,
            "chain service-{number} {{ meta l4proto {protocol} dnat {table} to \
             numgen random mod {} map {{ {} }}; }}",
            endpoints.len(),
            map.join(", ")
        );
    }
    format!(
        "table {table} kube-proxy {{
           {chains}
           map service-ips {{
             type {address} . inet_proto . inet_service : verdict
             elements = {{ {} }}
           }}
           chain services {{ {table} daddr . meta l4proto . th dport vmap @service-ips; }}
           chain masquerading {{ mark and 0x4000 != 0 masquerade fully-random; }}
           chain nat-prerouting {{
             type nat hook prerouting priority dstnat; jump services;
           }}
           chain nat-output {{ type nat hook output priority -100; jump services; }}
           chain nat-postrouting {{
             type nat hook postrouting priority srcnat; jump masquerading;
           }}
         }}\n",
        elements.join(", ")
    )
}
