// SPDX-License-Identifier: Apache-2.0
//! The tables of what clients outside the cluster see of a Service, of nodes, and of ranges.

use std::net::IpAddr;

use super::*;
use crate::model::{ip::Family, service::Sources};

fn text<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn external_addresses_are_read_sloppily_and_a_bad_one_costs_itself_only() {
    for (ips, expected, told) in [
        ("", "", ""),
        ("192.0.2.1, 2001:db8::1", "192.0.2.1 2001:db8::1", ""),
        ("192.0.2.001, ' 192.0.2.2 ', ''", "192.0.2.1 192.0.2.2", ""),
        ("web, 192.0.2.1", "192.0.2.1", "spec.externalIPs: 'web' is not an IP address"),
        ("0.0.0.0", "", "spec.externalIPs: 0.0.0.0 cannot be reached from other hosts"),
    ] {
        let converted = service_of("", &format!("clusterIP: 10.96.0.1, externalIPs: [{ips}]"));
        assert_eq!(text(&parsed_service(&converted).external_ips), expected, "{ips}");
        assert_eq!(reasons(&converted).join("; "), told, "{ips}");
    }
}

#[test]
fn a_balancer_s_addresses_are_those_that_packets_arrive_with() {
    for (ingress, expected, told) in [
        ("{ip: 203.0.113.1}", "203.0.113.1", ""),
        ("{ip: 203.0.113.1, ipMode: VIP}, {ip: '2001:db8::1'}", "203.0.113.1 2001:db8::1", ""),
        ("{ip: 203.0.113.1, ipMode: Proxy}", "", ""),
        ("{hostname: lb.example.org}, {ip: ''}", "", ""),
        (
            "{ip: 203.0.113.1, ipMode: Other}",
            "",
            "status.loadBalancer.ingress.ipMode: 'Other' is unknown, 'Proxy' is used",
        ),
        (
            "{ip: bad}, {ip: 203.0.113.1}",
            "203.0.113.1",
            "status.loadBalancer.ingress: 'bad' is not an IP address",
        ),
    ] {
        let converted = decode(
            DocumentKind::Service,
            &format!(
                "metadata: {{name: web}}\n\
                 spec: {{type: LoadBalancer, clusterIP: 10.96.0.1, loadBalancerIP: 192.0.2.9}}\n\
                 status: {{loadBalancer: {{ingress: [{ingress}]}}}}"
            ),
        );
        assert_eq!(text(&parsed_service(&converted).load_balancer_ips), expected, "{ingress}");
        assert_eq!(reasons(&converted).join("; "), told, "{ingress}");
    }
}

#[test]
fn source_ranges_count_per_family_and_what_cannot_be_read_opens_nothing() {
    let bad =
        |text: &str| format!("spec.loadBalancerSourceRanges: '{text}' is not a range of addresses");
    let closed = |family: Family| {
        format!(
            "no source range for {family} can be read: nobody may use its {family} load balancer"
        )
    };
    for (ranges, v4, v6, told) in [
        ("", "all", "all", vec![]),
        ("''", "all", "all", vec![]),
        ("203.0.113.000/025, ' 10.0.0.0/8 '", "203.0.113.0/25 10.0.0.0/8", "all", vec![]),
        ("2001:db8::/32", "all", "2001:db8::/32", vec![]),
        ("10.0.0.0/8, 0.0.0.0/0", "all", "all", vec![]),
        ("10.0.0.0/8, 'fd00::/8', '::/0'", "10.0.0.0/8", "all", vec![]),
        ("10.0.0.0/8, 10.0.0.0/33", "10.0.0.0/8", "all", vec![bad("10.0.0.0/33")]),
        // kube-proxy would let everybody in.
        ("10.0.0.0/33", "", "all", vec![bad("10.0.0.0/33"), closed(Family::V4)]),
        ("'fd00::/129'", "all", "", vec![bad("fd00::/129"), closed(Family::V6)]),
        ("10.0.0.1, 'fd00::/8'", "", "fd00::/8", vec![bad("10.0.0.1"), closed(Family::V4)]),
        ("office", "", "", vec![bad("office"), closed(Family::V4), closed(Family::V6)]),
    ] {
        let spec = format!("clusterIP: 10.96.0.1, loadBalancerSourceRanges: [{ranges}]");
        let converted = service_of("", &spec);
        let of = |family| match parsed_service(&converted).source_ranges.get(family) {
            Sources::All => "all".to_owned(),
            Sources::Only(ranges) => text(ranges),
        };
        assert_eq!((of(Family::V4).as_str(), of(Family::V6).as_str()), (v4, v6), "{ranges}");
        assert_eq!(reasons(&converted), told, "{ranges}");
    }
}

#[test]
fn node_ports_are_of_types_that_have_them() {
    let two = "{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30080}";
    for (spec, expected, told) in [
        ("type: NodePort, ports: [{port: 80, nodePort: 30080}]", "Some(30080)", ""),
        ("type: LoadBalancer, ports: [{port: 80, nodePort: 30080}]", "Some(30080)", ""),
        // allocateLoadBalancerNodePorts: false
        ("type: LoadBalancer, ports: [{port: 80, nodePort: 0}]", "None", ""),
        (
            "type: ClusterIP, ports: [{name: a, port: 80, nodePort: 30080}]",
            "None",
            "port 'a': node port 30080 is not used, the type is ClusterIP",
        ),
        (
            "type: NodePort, ports: [{name: a, port: 80, nodePort: 70000}]",
            "None",
            "port 'a': 70000 is not between 1 and 65535",
        ),
        (
            &format!("type: NodePort, ports: [{two}]"),
            "Some(30080) None",
            "port 'b': node port 30080/TCP repeats that of an earlier port",
        ),
        (
            "type: NodePort, ports: [{name: a, port: 53, nodePort: 30053}, \
             {name: b, port: 53, nodePort: 30053, protocol: UDP}]",
            "Some(30053) Some(30053)",
            "",
        ),
    ] {
        let converted = service_of("", &format!("clusterIP: 10.96.0.1, {spec}"));
        let ports = parsed_service(&converted).ports.iter();
        let ports: Vec<_> = ports.map(|port| format!("{:?}", port.node_port)).collect();
        assert_eq!(ports.join(" "), expected, "{spec}");
        assert_eq!(reasons(&converted).join("; "), told, "{spec}");
    }
}

#[test]
fn a_health_check_is_for_balancers_that_want_local_endpoints() {
    for (spec, expected, told) in [
        ("type: LoadBalancer, externalTrafficPolicy: Local", Some(31000), ""),
        ("type: LoadBalancer, externalTrafficPolicy: Cluster", None, ""),
        ("type: NodePort, externalTrafficPolicy: Local", None, ""),
        (
            "type: LoadBalancer, externalTrafficPolicy: Near",
            None,
            "spec.externalTrafficPolicy: 'Near' is unknown, 'Cluster' is used",
        ),
    ] {
        let spec = format!("clusterIP: 10.96.0.1, healthCheckNodePort: 31000, {spec}");
        let converted = service_of("", &spec);
        assert_eq!(parsed_service(&converted).health_check_node_port, expected, "{spec}");
        assert_eq!(reasons(&converted).join("; "), told, "{spec}");
    }
}

#[test]
fn a_slice_tells_when_its_change_began() {
    let slice = |time: &str| {
        decode(
            DocumentKind::EndpointSlice,
            &format!(
                "metadata: {{name: a, labels: {{kubernetes.io/service-name: web}}, annotations: \
                 {{endpoints.kubernetes.io/last-change-trigger-time: '{time}'}}}}\n\
                 addressType: IPv4"
            ),
        )
    };
    let good = slice("2024-01-02T03:04:05.5Z");
    let time = parsed_slice(&good).trigger_time.unwrap();
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since, Duration::from_millis(1_704_164_645_500));
    let bad = slice("yesterday");
    assert_eq!(parsed_slice(&bad).trigger_time, None);
    assert_eq!(reasons(&bad).len(), 1);
}

#[test]
fn a_node_has_addresses_pod_ranges_and_may_be_leaving() {
    let node = |fields: &str| {
        let converted = decode(DocumentKind::Node, &format!("metadata: {{name: n1}}\n{fields}"));
        match converted.value {
            Some(Object::Node(node)) => node,
            other => panic!("{other:?}"),
        }
    };
    let full = node(
        "spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, 'fd00:1::/64']}
status: {addresses: [{type: ExternalIP, address: 198.51.100.7},
  {type: InternalIP, address: 172.18.0.2}, {type: InternalIP, address: 'fd18::2'}]}",
    );
    assert_eq!(text(&full.pod_cidrs), "10.244.1.0/24 fd00:1::/64");
    let ips: Vec<IpAddr> = full.ips().collect();
    assert_eq!(text(&ips), "172.18.0.2 fd18::2 198.51.100.7");
    assert_eq!(full.primary_ip(Family::V6), Some("fd18::2".parse().unwrap()));
    assert!(!full.is_leaving);
    assert_eq!(text(&node("spec: {podCIDR: 10.244.1.0/24}").pod_cidrs), "10.244.1.0/24");
    let taint = "{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}";
    assert!(node(&format!("spec: {{taints: [{taint}]}}")).is_leaving);
    assert!(!node("spec: {taints: [{key: other, effect: NoSchedule}]}").is_leaving);
    let deleted =
        decode(DocumentKind::Node, "metadata: {name: n1, deletionTimestamp: 2024-01-02T03:04:05Z}");
    assert!(matches!(deleted.value, Some(Object::Node(node)) if node.is_leaving));
}

#[test]
fn a_service_cidr_has_ranges() {
    let converted = decode(
        DocumentKind::of("networking.k8s.io/v1", "ServiceCIDR").unwrap(),
        "metadata: {name: kubernetes}\nspec: {cidrs: [10.96.0.0/16, 'fd00::/108', 0.0.0.0/0]}",
    );
    assert_eq!(converted.object.to_string(), "ServiceCIDR kubernetes");
    assert_eq!(reasons(&converted), ["spec.cidrs: '0.0.0.0/0' is not a range of addresses"]);
    let Some(Object::ServiceCidr(found)) = converted.value else { panic!() };
    assert_eq!(text(&found.cidrs), "10.96.0.0/16 fd00::/108");
}
