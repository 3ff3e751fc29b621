// SPDX-License-Identifier: Apache-2.0
//! The tables of what is taken from an API object, what is skipped, and what is rejected.

use std::time::Duration;

use super::*;
use crate::model::{
    cluster::PodPhase,
    object::Object,
    service::{BackendSelection, Service, TrafficPolicy},
    slice::{Conditions, EndpointSlice},
};

fn decode(kind: DocumentKind, yaml: &str) -> Converted {
    let document = serde_yaml_ng::Deserializer::from_str(yaml);
    Converter::default().decode(kind, document).unwrap().unwrap()
}

fn reasons(converted: &Converted) -> Vec<String> {
    converted.reasons.iter().map(ToString::to_string).collect()
}

/// A Service from the lines of its spec, and labels.
fn service_of(labels: &str, spec: &str) -> Converted {
    let yaml =
        format!("metadata: {{name: web, namespace: shop, labels: {{{labels}}}}}\nspec: {{{spec}}}");
    decode(DocumentKind::Service, &yaml)
}

fn parsed_service(converted: &Converted) -> &Service {
    match &converted.value {
        Some(Object::Service(service)) => service,
        other => panic!("{other:?}"),
    }
}

fn slice_of(fields: &str) -> Converted {
    let labels = "kubernetes.io/service-name: web";
    let yaml =
        format!("metadata: {{name: web-a, namespace: shop, labels: {{{labels}}}}}\n{fields}");
    decode(DocumentKind::EndpointSlice, &yaml)
}

fn parsed_slice(converted: &Converted) -> &EndpointSlice {
    match &converted.value {
        Some(Object::EndpointSlice(slice)) => slice,
        other => panic!("{other:?}"),
    }
}

const HTTP: &str = "ports: [{name: http, port: 80}]";

#[test]
fn services_without_anything_to_serve_are_absent() {
    for (labels, spec) in [
        ("", "clusterIP: None"),
        ("", "clusterIP: None, clusterIPs: [None]"),
        ("", "clusterIPs: [None]"),
        ("", "type: ExternalName, externalName: example.org"),
        ("", "type: ExternalName, clusterIP: 10.96.0.1"),
        ("service.kubernetes.io/service-proxy-name: other", "clusterIP: 10.96.0.1"),
        ("service.kubernetes.io/service-proxy-name: ''", "clusterIP: 10.96.0.1"),
    ] {
        let converted = service_of(labels, spec);
        assert_eq!(converted.value, None, "{labels} {spec}");
        assert_eq!(converted.reasons, [], "{labels} {spec}");
        assert_eq!(converted.object.to_string(), "Service shop/web");
    }
}

#[test]
fn cluster_addresses_are_taken_per_family() {
    for (spec, expected, told) in [
        ("clusterIP: 10.96.0.1", "10.96.0.1", ""),
        ("clusterIP: 172.30.0.041", "172.30.0.41", ""),
        (
            "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, fd00::1], ipFamilies: [IPv4, IPv6]",
            "10.96.0.1 fd00::1",
            "",
        ),
        (
            "clusterIP: fd00::1, clusterIPs: [fd00::1, 10.96.0.1], ipFamilies: [IPv6, IPv4]",
            "10.96.0.1 fd00::1",
            "",
        ),
        (
            "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, fd00::1], ipFamilies: [IPv4]",
            "10.96.0.1",
            "",
        ),
        ("clusterIP: 10.96.0.1, ipFamilies: [IPv4]", "10.96.0.1", ""),
        ("clusterIPs: [10.96.0.1, fd00::1]", "10.96.0.1 fd00::1", ""),
        ("clusterIP: fd00::1, ipFamilies: [IPv4]", "", "clusterIP: fd00::1 is not an IPv4 address"),
        ("clusterIP: web", "", "clusterIP: 'web' is not an IP address"),
        ("clusterIP: 0.0.0.0", "", "clusterIP: 0.0.0.0 cannot be reached from other hosts"),
        ("clusterIP: 224.0.0.1", "", "clusterIP: 224.0.0.1 cannot be reached from other hosts"),
        ("clusterIPs: [bad, fd00::1]", "fd00::1", "clusterIP: 'bad' is not an IP address"),
        ("", "", "has no clusterIP"),
        ("clusterIP: ''", "", "has no clusterIP"),
    ] {
        let converted = service_of("", spec);
        let ips = parsed_service(&converted).cluster_ips.iter().map(|ip| ip.to_string());
        assert_eq!(ips.collect::<Vec<_>>().join(" "), expected, "{spec}");
        assert_eq!(reasons(&converted).join("; "), told, "{spec}");
    }
}

#[test]
fn a_bad_port_costs_that_port_only() {
    for (ports, expected, told) in [
        ("{port: 80}", ":80/TCP", ""),
        (
            "{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}",
            "dns:53/UDP dns-tcp:53/TCP",
            "",
        ),
        (
            "{name: a, port: 0}, {name: b, port: 80}",
            "b:80/TCP",
            "port 'a': 0 is not between 1 and 65535",
        ),
        (
            "{name: a, port: 65536}, {name: b, port: 65535}",
            "b:65535/TCP",
            "port 'a': 65536 is not between 1 and 65535",
        ),
        ("{name: a, port: -1}", "", "port 'a': -1 is not between 1 and 65535"),
        (
            "{name: a, port: 80, protocol: ICMP}, {name: b, port: 80}",
            "b:80/TCP",
            "port 'a': protocol ICMP is not supported",
        ),
        ("{name: a, port: 80, protocol: SCTP}, {name: b, port: 80}", "a:80/SCTP b:80/TCP", ""),
        ("{name: a, port: 80, protocol: tcp}", "", "port 'a': protocol tcp is not supported"),
        (
            "{name: a, port: 80}, {name: b, port: 80}",
            "a:80/TCP",
            "port 'b' (80/TCP) repeats an earlier port",
        ),
        (
            "{name: a, port: 80}, {name: a, port: 81}",
            "a:80/TCP",
            "port 'a' (81/TCP) repeats an earlier port",
        ),
    ] {
        let converted = service_of("", &format!("clusterIP: 10.96.0.1, ports: [{ports}]"));
        let found = parsed_service(&converted).ports.iter();
        let found = found.map(|port| format!("{}:{}/{}", port.name, port.port, port.protocol));
        assert_eq!(found.collect::<Vec<_>>().join(" "), expected, "{ports}");
        assert_eq!(reasons(&converted).join("; "), told, "{ports}");
    }
}

#[test]
fn an_annotation_says_how_backends_are_chosen() {
    let said = |value: &str| {
        let annotation = format!("annotations: {{pintle.dev/backend-selection: {value}}}");
        let yaml = format!("metadata: {{name: web, {annotation}}}\nspec: {{clusterIP: 10.96.0.1}}");
        let converted = decode(DocumentKind::Service, &yaml);
        (parsed_service(&converted).backend_selection, reasons(&converted).join("; "))
    };
    assert_eq!(said("maglev"), (Some(BackendSelection::Maglev), String::new()));
    assert_eq!(said("random"), (Some(BackendSelection::Random), String::new()));
    let told = "pintle.dev/backend-selection: 'Maglev' is unknown, 'what the node has' is used";
    assert_eq!(said("Maglev"), (None, told.to_owned()));
}

#[test]
fn affinity_and_traffic_policy_have_the_defaults_of_the_api() {
    let timeout = |seconds: &str| {
        format!(
            "sessionAffinity: ClientIP, sessionAffinityConfig: {{clientIP: {{timeoutSeconds: \
             {seconds}}}}}"
        )
    };
    for (spec, affinity, told) in [
        (String::new(), None, ""),
        ("sessionAffinity: None".to_owned(), None, ""),
        ("sessionAffinity: ClientIP".to_owned(), Some(10_800), ""),
        (timeout("1"), Some(1), ""),
        (timeout("86400"), Some(86_400), ""),
        (
            timeout("0"),
            Some(10_800),
            "session affinity: 0 s is not between 1 and 86400, 10800 is used",
        ),
        (
            timeout("86401"),
            Some(10_800),
            "session affinity: 86401 s is not between 1 and 86400, 10800 is used",
        ),
        (
            "sessionAffinity: Cookie".to_owned(),
            None,
            "spec.sessionAffinity: 'Cookie' is unknown, 'None' is used",
        ),
    ] {
        let converted = service_of("", &format!("clusterIP: 10.96.0.1, {HTTP}, {spec}"));
        let service = parsed_service(&converted);
        assert_eq!(service.affinity, affinity.map(Duration::from_secs), "{spec}");
        assert_eq!(reasons(&converted).join("; "), told, "{spec}");
    }
    for (word, policy, count) in [
        ("Cluster", TrafficPolicy::Cluster, 0),
        ("Local", TrafficPolicy::Local, 0),
        ("Zone", TrafficPolicy::Cluster, 1),
    ] {
        let converted =
            service_of("", &format!("clusterIP: 10.96.0.1, internalTrafficPolicy: {word}"));
        assert_eq!(parsed_service(&converted).internal_traffic_policy, policy);
        assert_eq!(converted.reasons.len(), count);
    }
}

#[test]
fn creation_time_is_kept_and_the_namespace_defaults() {
    let converted = decode(
        DocumentKind::Service,
        "metadata: {name: web, creationTimestamp: 2024-01-02T03:04:05Z}\n\
         spec: {clusterIP: 10.96.0.1}",
    );
    assert_eq!(parsed_service(&converted).created, Some(1_704_164_645));
    assert_eq!(converted.object.to_string(), "Service default/web");
}

#[test]
fn slices_that_are_none_of_our_business_are_absent() {
    let with_labels = |labels: &str| {
        let yaml = format!("metadata: {{name: a, labels: {{{labels}}}}}\naddressType: IPv4");
        decode(DocumentKind::EndpointSlice, &yaml)
    };
    for labels in [
        "",
        "kubernetes.io/service-name: ''",
        "kubernetes.io/service-name: web, service.kubernetes.io/headless: ''",
    ] {
        let converted = with_labels(labels);
        assert_eq!((converted.value, converted.reasons), (None, vec![]), "{labels}");
    }
    let fqdn = slice_of("addressType: FQDN");
    assert_eq!((fqdn.value, fqdn.reasons), (None, vec![]));
    let unknown = slice_of("addressType: IPv5");
    assert_eq!(reasons(&unknown), ["addressType 'IPv5' is unknown"]);
    assert_eq!(unknown.value, None);
}

#[test]
fn a_slice_may_give_its_endpoints_a_weight() {
    let weighted = |annotations: &str| {
        let meta = format!(
            "{{name: web-a, namespace: shop, labels: {{kubernetes.io/service-name: web}}, \
             annotations: {{{annotations}}}}}"
        );
        let fields = format!("metadata: {meta}\naddressType: IPv4");
        let converted = decode(DocumentKind::EndpointSlice, &fields);
        (parsed_slice(&converted).weight, reasons(&converted))
    };
    assert_eq!(weighted(""), (1, vec![]));
    for weight in [1, 3, 100] {
        assert_eq!(weighted(&format!("pintle.dev/weight: '{weight}'")), (weight, vec![]));
    }
    for bad in ["0", "101", "-1", "1.5", "", "many"] {
        let told = format!("pintle.dev/weight: '{bad}' is unknown, '1' is used");
        assert_eq!(weighted(&format!("pintle.dev/weight: '{bad}'")), (1, vec![told]));
    }
}

#[test]
fn slice_ports_without_name_or_number_are_skipped() {
    for (ports, expected, told) in [
        ("{name: '', port: 8080}", ":8080/TCP", ""),
        ("{port: 8080}", "", ""),
        ("{name: http}", "", ""),
        ("{name: http, port: 0}", "", ""),
        (
            "{name: dns, port: 53, protocol: UDP}, {name: http, port: 80, protocol: TCP}",
            "dns:53/UDP http:80/TCP",
            "",
        ),
        (
            "{name: a, port: 70000}, {name: b, port: 80}",
            "b:80/TCP",
            "port 'a': 70000 is not between 1 and 65535",
        ),
        ("{name: a, port: 80, protocol: SCTP}", "a:80/SCTP", ""),
        ("{name: a, port: 80, protocol: ICMP}", "", "port 'a': protocol ICMP is not supported"),
    ] {
        let converted = slice_of(&format!("addressType: IPv4\nports: [{ports}]"));
        let found = parsed_slice(&converted).ports.iter();
        let found = found.map(|port| format!("{}:{}/{}", port.name, port.port, port.protocol));
        assert_eq!(found.collect::<Vec<_>>().join(" "), expected, "{ports}");
        assert_eq!(reasons(&converted).join("; "), told, "{ports}");
    }
}

#[test]
fn a_bad_address_costs_that_endpoint_only() {
    for (family, addresses, told) in [
        ("IPv4", "web", "endpoints.addresses: 'web' is not an IP address"),
        ("IPv4", "fd00::1", "endpoints.addresses: fd00::1 is not an IPv4 address"),
        ("IPv6", "10.1.0.1", "endpoints.addresses: 10.1.0.1 is not an IPv6 address"),
        ("IPv4", "127.0.0.1", "endpoints.addresses: 127.0.0.1 cannot be reached from other hosts"),
        (
            "IPv4",
            "169.254.1.1",
            "endpoints.addresses: 169.254.1.1 cannot be reached from other hosts",
        ),
        ("IPv6", "'fe80::1'", "endpoints.addresses: fe80::1 cannot be reached from other hosts"),
        ("IPv6", "'::'", "endpoints.addresses: :: cannot be reached from other hosts"),
        // An endpoint without addresses is skipped.
        ("IPv4", "", ""),
    ] {
        let good = if family == "IPv4" { "10.1.0.9" } else { "fd01::9" };
        let converted = slice_of(&format!(
            "addressType: {family}\n\
             endpoints: [{{addresses: [{addresses}]}}, {{addresses: ['{good}']}}]"
        ));
        let found: Vec<_> =
            parsed_slice(&converted).endpoints.iter().map(|e| e.ip.to_string()).collect();
        assert_eq!(found, [good], "{addresses}");
        assert_eq!(reasons(&converted).join("; "), told, "{addresses}");
    }
}

#[test]
fn only_the_first_address_of_an_endpoint_counts() {
    let converted =
        slice_of("addressType: IPv4\nendpoints: [{addresses: [10.1.0.01, 10.1.0.2, bad]}]");
    let slice = parsed_slice(&converted);
    assert_eq!(slice.service.as_str(), "shop/web");
    assert_eq!(slice.endpoints.len(), 1);
    assert_eq!(slice.endpoints[0].ip.to_string(), "10.1.0.1");
    assert_eq!(converted.reasons, []);
}

#[test]
fn conditions_default_to_ready_and_serving() {
    let [on, off] = [true, false];
    for (text, ready, serving, terminating) in [
        ("", on, on, off),
        ("conditions: {}", on, on, off),
        ("conditions: {ready: false}", off, on, off),
        ("conditions: {serving: false}", on, off, off),
        ("conditions: {ready: false, serving: true, terminating: true}", off, on, on),
    ] {
        let converted =
            slice_of(&format!("addressType: IPv4\nendpoints: [{{addresses: [10.1.0.1], {text}}}]"));
        let expected = Conditions { ready, serving, terminating };
        assert_eq!(parsed_slice(&converted).endpoints[0].conditions, expected, "{text}");
    }
}

#[test]
fn node_pod_and_hints_of_an_endpoint_are_kept() {
    let converted = slice_of(
        "addressType: IPv4
endpoints:
- addresses: [10.1.0.1]
  nodeName: n1
  targetRef: {kind: Pod, name: web-1}
  hints: {forZones: [{name: a}, {name: b}], forNodes: [{name: n1}]}
- addresses: [10.1.0.2]
  targetRef: {kind: VirtualMachine, name: web-2}
  hints: {forZones: []}
",
    );
    let [first, second] = &parsed_slice(&converted).endpoints[..] else { panic!() };
    assert_eq!((first.node.as_deref(), first.pod.as_deref()), (Some("n1"), Some("web-1")));
    let hints = first.hints.as_ref().unwrap();
    assert_eq!((hints.zones.len(), hints.nodes.len()), (2, 1));
    assert_eq!((second.node.as_deref(), second.pod.as_deref()), (None, None));
    assert_eq!(second.hints, None);
}

#[test]
fn nodes_namespaces_and_pods_keep_what_is_needed() {
    let node = decode(
        DocumentKind::Node,
        "metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}
status: {addresses: [{type: InternalIP, address: 192.168.0.1}, {type: Hostname, address: n1},
  {type: InternalIP, address: bad}]}",
    );
    assert_eq!(reasons(&node), ["status.addresses: 'bad' is not an IP address"]);
    let Some(Object::Node(node)) = node.value else { panic!() };
    assert_eq!((node.zone.as_deref(), node.internal_ips.len()), (Some("a"), 1));

    let namespace = decode(DocumentKind::Namespace, "metadata: {name: shop}");
    assert_eq!(namespace.object.to_string(), "Namespace shop");

    let pod = decode(
        DocumentKind::Pod,
        "metadata: {name: web-1, namespace: shop}
spec: {nodeName: n1, hostNetwork: true, containers: []}
status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}, {ip: 'fd01::1'}]}",
    );
    let Some(Object::Pod(pod)) = pod.value else { panic!() };
    assert_eq!((pod.ips.len(), pod.host_network, pod.phase), (2, true, PodPhase::Running));
}

#[test]
fn what_nobody_reads_of_an_object_may_be_anything() {
    let pod = decode(
        DocumentKind::Pod,
        "metadata: {name: web-1, namespace: shop, managedFields: 7, ownerReferences: {a: b}}
spec: {nodeName: n1, volumes: x, containers: [{resources: [], env: 1, ports:
  [{name: http, containerPort: 80, hostPort: none}]}]}
status: {conditions: 3, podIPs: [{ip: 10.1.0.1}]}",
    );
    assert_eq!(reasons(&pod), [""; 0]);
    let Some(Object::Pod(pod)) = pod.value else { panic!() };
    assert_eq!((pod.ips.len(), pod.node.as_deref(), pod.ports.len()), (1, Some("n1"), 1));
}

#[test]
fn null_means_the_same_as_absent() {
    let absent = service_of("", &format!("clusterIP: 10.96.0.1, {HTTP}"));
    let nulls = "clusterIPs: null, ipFamilies: null, externalIPs: null, type: null, \
                 sessionAffinity: null, sessionAffinityConfig: null, healthCheckNodePort: null, \
                 loadBalancerSourceRanges: null, externalTrafficPolicy: null";
    let null = service_of("", &format!("clusterIP: 10.96.0.1, {HTTP}, {nulls}"));
    assert_eq!(parsed_service(&null), parsed_service(&absent));

    let absent = slice_of("addressType: IPv4\nendpoints: [{addresses: [10.1.0.1]}]");
    let nulls = "hints: null, nodeName: null, targetRef: null, conditions: {ready: null}";
    let null = slice_of(&format!(
        "addressType: IPv4\nports: null\nendpoints: [{{addresses: [10.1.0.1], {nulls}}}]"
    ));
    assert_eq!(parsed_slice(&null), parsed_slice(&absent));
    assert!(parsed_slice(&slice_of("addressType: IPv4\nendpoints: null")).endpoints.is_empty());
}

#[test]
fn what_cannot_be_a_name_is_refused() {
    for name in ["''", "a/b", "'a b'", "\"a\\n\""] {
        let yaml = format!("metadata: {{name: {name}}}");
        let document = serde_yaml_ng::Deserializer::from_str(&yaml);
        let result = Converter::default().decode(DocumentKind::Service, document).unwrap();
        assert!(result.is_err(), "{name}");
    }
}

#[path = "outside_tests.rs"]
mod outside;
