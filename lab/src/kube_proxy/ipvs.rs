// SPDX-License-Identifier: Apache-2.0
//! The virtual servers of IPVS mode. The rules around them are those that track connections and
//! masquerade; kube-proxy keeps addresses in ipsets beside, which is left out.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::ServiceRules;

/// The virtual servers, round robin by network address translation, for `ipvsadm --restore`; node
/// ports are served at `node_ips`.
pub fn ipvs_mode(services: &[ServiceRules], node_ips: &[IpAddr]) -> String {
    let mut out = String::new();
    for service in services.iter().filter(|service| !service.endpoints.is_empty()) {
        let protocol = if service.protocol == "udp" { "-u" } else { "-t" };
        let outside = service
            .node_port
            .into_iter()
            .flat_map(|port| node_ips.iter().map(move |ip| (*ip, port).into()));
        for address in std::iter::once(service.frontend).chain(outside) {
            let _ = writeln!(out, "-A {protocol} {address} -s rr");
            for endpoint in &service.endpoints {
                let _ = writeln!(out, "-a {protocol} {address} -r {endpoint} -m -w 1");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_service_is_a_virtual_server() {
        let mut services = ServiceRules::examples(1, 2);
        services[0].node_port = Some(30080);
        let text = ipvs_mode(&services, &[IpAddr::from([192, 168, 77, 1])]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[0], "-A -t 172.30.0.1:80 -s rr");
        assert_eq!(lines[5], "-a -t 192.168.77.1:30080 -r 10.180.0.2:80 -m -w 1");
    }
}
