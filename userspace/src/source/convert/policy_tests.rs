// SPDX-License-Identifier: Apache-2.0
//! The tables of what is taken from policies, and of what fails closed.

use super::*;
use crate::model::{
    addr::Protocol,
    cidr::Cidr,
    object::Object,
    policy::{
        Action, ClusterNetworkPolicy, Enforcement, IpBlock, Isolation, NAMESPACE_NAME, NamedPort,
        Namespaces, NetworkPolicy, Peer, Peers, PortMatch, Ports, Selector, Tier,
    },
};

fn decode(kind: DocumentKind, yaml: &str) -> (Object, Vec<String>) {
    let document = serde_yaml_ng::Deserializer::from_str(yaml);
    let converted = Converter::default().decode(kind, document).unwrap().unwrap();
    let reasons = converted.reasons.iter().map(ToString::to_string).collect();
    (converted.value.unwrap(), reasons)
}

fn network(spec: &str) -> (NetworkPolicy, Vec<String>) {
    let yaml = format!("metadata: {{name: p, namespace: shop}}\nspec: {{{spec}}}");
    match decode(DocumentKind::NetworkPolicy, &yaml) {
        (Object::NetworkPolicy(policy), reasons) => ((*policy).clone(), reasons),
        other => panic!("{other:?}"),
    }
}

fn cluster(spec: &str) -> (ClusterNetworkPolicy, Vec<String>) {
    let yaml = format!("metadata: {{name: p}}\nspec: {{{spec}}}");
    match decode(DocumentKind::ClusterNetworkPolicy, &yaml) {
        (Object::ClusterNetworkPolicy(policy), reasons) => ((*policy).clone(), reasons),
        other => panic!("{other:?}"),
    }
}

/// The peers and ports of the only ingress rule, and what was told.
fn ingress(rule: &str) -> (Peers, Ports, Vec<String>) {
    let (policy, reasons) = network(&format!("ingress: [{rule}]"));
    match policy.ingress {
        Isolation::Except(rules) if rules.len() == 1 => {
            (rules[0].peers.clone(), rules[0].ports.clone(), reasons)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn types_that_are_not_listed_follow_from_the_rules() {
    let check = |spec: &str, expected: [bool; 2]| {
        let (policy, _) = network(spec);
        let isolates = [policy.ingress, policy.egress].map(|one| one != Isolation::None);
        assert_eq!(isolates, expected, "{spec}");
    };
    check("", [true, false]);
    check("podSelector: {}", [true, false]);
    check("policyTypes: []", [true, false]);
    check("egress: []", [true, false]);
    check("egress: [{}]", [true, true]);
    check("policyTypes: [Egress], ingress: [{}]", [false, true]);
    check("policyTypes: [Ingress], egress: [{}]", [true, false]);
    check("policyTypes: [Ingress, Egress]", [true, true]);
    check("policyTypes: [ingress]", [true, true]);
}

#[test]
fn absent_and_empty_lists_of_a_rule_are_the_same() {
    for rule in ["{}", "{from: [], ports: []}", "{from: null, ports: null}"] {
        assert_eq!(ingress(rule), (Peers::Any, Ports::Any, Vec::new()), "{rule}");
    }
    let (policy, _) = network("ingress: []");
    assert_eq!(policy.ingress, Isolation::Except([].into()));
    let (policy, _) = network("policyTypes: [Ingress]");
    assert_eq!(policy.ingress, Isolation::Except([].into()));
}

#[test]
fn peers_are_of_the_policys_namespace_unless_they_say_otherwise() {
    let own = || Namespaces::Named("shop".into());
    let every = || Namespaces::Matching(Selector::any());
    let check = |peer: &str, namespaces: Namespaces, is_any: bool| {
        let (peers, _, reasons) = ingress(&format!("{{from: [{peer}]}}"));
        let Peers::Only(peers) = peers else { panic!("{peer}") };
        let [Peer::Pods { namespaces: found, pods }] = &*peers else { panic!("{peers:?}") };
        assert_eq!((found, pods.is_any(), reasons), (&namespaces, is_any, Vec::new()), "{peer}");
    };
    check("{podSelector: {}}", own(), true);
    check("{podSelector: {matchLabels: {a: b}}}", own(), false);
    check("{namespaceSelector: {}}", every(), true);
    check("{namespaceSelector: {}, podSelector: {}}", every(), true);
    check("{namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}", every(), false);
}

#[test]
fn ports_without_protocol_are_tcp() {
    let check = |port: &str, expected: PortMatch| {
        let (_, ports, reasons) = ingress(&format!("{{ports: [{port}]}}"));
        assert_eq!((ports, reasons), (Ports::Only([expected].into()), Vec::new()), "{port}");
    };
    let range = |protocol, first, last| PortMatch::Range { protocol, first, last };
    check("{}", PortMatch::Protocol(Protocol::Tcp));
    check("{protocol: SCTP}", PortMatch::Protocol(Protocol::Sctp));
    check("{port: 80}", range(Protocol::Tcp, 80, 80));
    check("{port: 80, endPort: 80, protocol: UDP}", range(Protocol::Udp, 80, 80));
    check("{port: 1, endPort: 65535}", range(Protocol::Tcp, 1, 65535));
    let name = "web".into();
    check("{port: web, protocol: UDP}", PortMatch::Named { protocol: Some(Protocol::Udp), name });
}

#[test]
fn ports_that_cannot_be_read_match_nothing() {
    for port in [
        "{port: 80, endPort: 79}",
        "{endPort: 80}",
        "{port: web, endPort: 80}",
        "{port: 0}",
        "{port: 65536}",
        "{port: 80, endPort: 65536}",
        "{port: 80, protocol: tcp}",
        "{protocol: DCCP}",
    ] {
        let (_, ports, reasons) = ingress(&format!("{{ports: [{port}]}}"));
        assert_eq!(ports, Ports::Only([PortMatch::Unknown].into()), "{port}");
        assert_eq!(reasons.len(), 1, "{port}");
        assert!(reasons[0].starts_with("spec.ingress[0].ports[0]: "), "{reasons:?}");
    }
}

#[test]
fn blocks_are_canonical_whatever_was_written() {
    let check = |block: &str, cidr: &str, except: &[&str]| {
        let (peers, _, reasons) = ingress(&format!("{{from: [{{ipBlock: {{{block}}}}}]}}"));
        let parse = |text: &&str| Cidr::parse(text).unwrap();
        let block = IpBlock::new(parse(&cidr), except.iter().map(parse));
        let expected = Peers::Only([Peer::Block(block)].into());
        assert_eq!((peers, reasons), (expected, Vec::new()));
    };
    check("cidr: 10.0.0.0/8", "10.0.0.0/8", &[]);
    check("cidr: 10.1.2.3/8, except: [10.1.2.3/16]", "10.0.0.0/8", &["10.1.0.0/16"]);
    check("cidr: 010.000.0.0/08", "10.0.0.0/8", &[]);
    check("cidr: 'FD00::1/16', except: []", "fd00::/16", &[]);
    check("cidr: 10.0.0.0/8, except: [11.0.0.0/8, 'fd00::/8']", "10.0.0.0/8", &[]);
}

#[test]
fn peers_that_cannot_be_read_match_nobody() {
    for peer in [
        "{}",
        "{future: {}}",
        "{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}",
        "{ipBlock: {cidr: 10.0.0.0/8}, namespaceSelector: {}}",
        "{ipBlock: {cidr: 10.0.0.0}}",
        "{ipBlock: {cidr: 10.0.0.0/33}}",
        "{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}",
        "{ipBlock: {cidr: 10.0.0.0/8, except: [ten]}}",
        "{podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}",
        "{podSelector: {matchExpressions: [{key: a, operator: In}]}}",
        "{podSelector: {matchExpressions: [{operator: NotIn, values: [b]}]}}",
        "{podSelector: {matchExpressions: [{key: '', operator: DoesNotExist}]}}",
        "{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}",
        "{namespaceSelector: {matchExpressions: [{key: a, operator: NotIn, values: []}]}}",
    ] {
        let (peers, _, reasons) = ingress(&format!("{{from: [{peer}]}}"));
        assert_eq!(peers, Peers::Only([Peer::Unknown].into()), "{peer}");
        assert_eq!(reasons.len(), 1, "{peer}");
        assert!(reasons[0].starts_with("spec.ingress[0].from[0]: "), "{reasons:?}");
        assert!(reasons[0].ends_with("; it matches nothing"), "{reasons:?}");
    }
}

#[test]
fn a_policy_whose_subject_cannot_be_read_isolates_all_it_might_and_allows_nothing() {
    let selector = "podSelector: {matchExpressions: [{key: a, operator: Near}]}";
    let (policy, reasons) = network(&format!("{selector}, ingress: [{{}}]"));
    assert!(policy.subject.is_any());
    assert_eq!(policy.ingress, Isolation::Except([].into()));
    assert_eq!(policy.egress, Isolation::None);
    assert_eq!(reasons.len(), 1);

    let rules = "ingress: [{action: Accept, from: [{namespaces: {}}]}, \
                 {action: Pass, from: [{namespaces: {}}]}]";
    for place in [
        "tier: Admin, priority: 1001, subject: {namespaces: {}}",
        "tier: Admin, subject: {namespaces: {}}",
        "tier: admin, priority: 1, subject: {namespaces: {}}",
        "priority: 1, subject: {namespaces: {}}",
        "tier: Admin, priority: 1",
        "tier: Admin, priority: 1, subject: {namespaces: {}, pods: {}}",
        "tier: Admin, priority: 1, subject: {future: {}}",
        "tier: Admin, priority: 1, subject: {namespaces: {}, future: {}}",
        "tier: Admin, priority: 1, subject: {pods: {podSelector: {}}}",
    ] {
        let (policy, reasons) = cluster(&format!("{place}, {rules}"));
        let actions: Vec<_> = policy.ingress.iter().map(|rule| rule.action).collect();
        assert_eq!(actions, [Action::Deny], "{place}");
        assert_eq!(reasons.len(), 1, "{place}: {reasons:?}");
    }
}

#[test]
fn a_cluster_policy_is_taken_as_it_stands() {
    let (policy, reasons) = cluster(
        "tier: Baseline, priority: 1000, subject: {pods: {namespaceSelector: {}, podSelector: {}}},
         ingress: [{name: first, action: Pass, from: [{namespaces: {}}]}],
         egress: [{action: Deny, to: [{networks: [10.1.0.0/8, '::/0']}, {nodes: {}}],
                   protocols: [{tcp: {}}, {udp: {destinationPort: {number: 53}}},
                               {sctp: {destinationPort: {range: {start: 1, end: 2}}}},
                               {destinationNamedPort: web}]}]",
    );
    assert_eq!(reasons, [""; 0]);
    assert_eq!((policy.tier, policy.priority), (Tier::Baseline, 1000));
    assert!(policy.subject.namespaces.is_any() && policy.subject.pods.is_any());
    let [rule] = &*policy.ingress else { panic!() };
    assert_eq!((rule.name.as_deref(), rule.action), (Some("first"), Action::Pass));
    assert_eq!(rule.ports, Ports::Any);
    let [rule] = &*policy.egress else { panic!() };
    assert_eq!((rule.name.as_deref(), rule.action), (None, Action::Deny));
    let block = |text| Peer::Block(IpBlock::new(Cidr::parse(text).unwrap(), []));
    let expected = [block("10.0.0.0/8"), block("::/0"), Peer::Nodes(Selector::any())];
    assert_eq!(*rule.peers, expected);
    let range = |protocol, first, last| PortMatch::Range { protocol, first, last };
    let expected = [
        PortMatch::Protocol(Protocol::Tcp),
        range(Protocol::Udp, 53, 53),
        range(Protocol::Sctp, 1, 2),
        PortMatch::Named { protocol: None, name: "web".into() },
    ];
    assert_eq!(rule.ports, Ports::Only(expected.into()));
}

#[test]
fn what_a_cluster_policy_has_that_we_do_not_know_stays_unknown() {
    let rule = |field: &str, rule: &str| {
        let place = "tier: Admin, priority: 1, subject: {namespaces: {}}";
        let (policy, reasons) = cluster(&format!("{place}, {field}: [{{{rule}}}]"));
        let rules = if field == "ingress" { policy.ingress } else { policy.egress };
        assert_eq!(reasons.len(), 1, "{rule}: {reasons:?}");
        rules[0].clone()
    };
    for peers in [
        "to: [{domainNames: ['*.example.org']}]",
        "to: [{}]",
        "to: [{namespaces: {}, nodes: {}}]",
        "to: [{networks: []}]",
        "to: [{networks: [ten]}]",
        "to: [{namespaces: {}, future: {}}]",
        "to: []",
        "from: [{namespaces: {}}]",
    ] {
        let found = rule("egress", &format!("action: Accept, {peers}"));
        assert_eq!(*found.peers, [Peer::Unknown], "{peers}");
    }
    let found = rule("ingress", "action: Deny, from: [{networks: [10.0.0.0/8]}]");
    assert_eq!(*found.peers, [Peer::Unknown]);
    for item in [
        "{}",
        "{icmp: {}}",
        "{tcp: {}, udp: {}}",
        "{tcp: {flags: [syn]}}",
        "{tcp: {destinationPort: {}}}",
        "{tcp: {destinationPort: {number: 0}}}",
        "{tcp: {destinationPort: {number: 1, range: {start: 1, end: 2}}}}",
        "{tcp: {destinationPort: {range: {start: 2, end: 2}}}}",
        "{tcp: {destinationPort: {number: 1, future: 1}}}",
        "{destinationNamedPort: ''}",
    ] {
        let peers = "from: [{namespaces: {}}]";
        let found = rule("ingress", &format!("action: Deny, {peers}, protocols: [{item}]"));
        assert_eq!(found.ports, Ports::Only([PortMatch::Unknown].into()), "{item}");
    }
    let found = rule("ingress", "action: Allow, from: [{namespaces: {}}]");
    assert_eq!(found.action, Action::Deny);
}

#[test]
fn an_annotation_makes_a_policy_audited() {
    let check = |value: &str, expected: Enforcement, told: usize| {
        let yaml = format!("metadata: {{name: p, annotations: {{pintle.dev/audit: {value}}}}}");
        let (object, reasons) = decode(DocumentKind::NetworkPolicy, &yaml);
        let Object::NetworkPolicy(policy) = object else { panic!() };
        assert_eq!((policy.enforcement, reasons.len()), (expected, told), "{value}");
    };
    check("'true'", Enforcement::Audited, 0);
    check("'false'", Enforcement::Enforced, 0);
    check("'yes'", Enforcement::Enforced, 1);
}

#[test]
fn pods_and_namespaces_have_what_policies_select_by() {
    let (object, reasons) = decode(
        DocumentKind::Pod,
        "metadata: {name: a, namespace: shop, labels: {app: web},
                    creationTimestamp: '1970-01-01T00:01:00Z',
                    deletionTimestamp: '1970-01-01T00:02:00Z'}
spec:
  containers:
  - name: a
    ports: [{name: web, containerPort: 80}, {containerPort: 81}, {name: bad, containerPort: 0}]
  - {name: b, ports: [{name: web, containerPort: 8080}, {name: web, containerPort: 53, protocol: UDP}]}
  initContainers:
  - {name: once, ports: [{name: once, containerPort: 1}]}
  - {name: sidecar, restartPolicy: Always, ports: [{name: side, containerPort: 2}]}",
    );
    let Object::Pod(pod) = object else { panic!() };
    assert_eq!(pod.labels.get("app"), Some("web"));
    assert_eq!((pod.created, pod.is_terminating), (Some(60), true));
    let port = |name: &str, protocol, number| NamedPort { name: name.into(), protocol, number };
    let expected = [
        port("side", Protocol::Tcp, 2),
        port("web", Protocol::Tcp, 80),
        port("web", Protocol::Udp, 53),
    ];
    assert_eq!((&*pod.ports, reasons.len()), (&expected[..], 1));

    let (object, _) = decode(DocumentKind::Namespace, "metadata: {name: shop, labels: {team: a}}");
    let Object::Namespace(namespace) = object else { panic!() };
    assert_eq!(namespace.labels.get("team"), Some("a"));
    assert_eq!(namespace.labels.get(NAMESPACE_NAME), Some("shop"));
}

#[test]
fn a_field_that_is_there_twice_is_refused() {
    let json = r#"{"metadata": {"name": "p"}, "spec": {"podSelector": {}, "podSelector": {}}}"#;
    let mut document = serde_json::Deserializer::from_str(json);
    let error = Converter::default().decode(DocumentKind::NetworkPolicy, &mut document);
    assert!(error.unwrap_err().to_string().contains("duplicate field"));
}

/// An array in place of an object is refused in either syntax: an empty one could be taken for a selector
/// of everything.
#[test]
fn an_array_is_no_object() {
    let network = |spec: &str| (DocumentKind::NetworkPolicy, format!("spec: {spec}"));
    let cluster = |spec: &str| (DocumentKind::ClusterNetworkPolicy, format!("spec: {spec}"));
    let of = |kind, yaml: &str| (kind, yaml.to_owned());
    for (kind, yaml) in [
        network("[]"),
        network("{podSelector: []}"),
        network("{podSelector: {matchLabels: []}}"),
        network("{podSelector: {matchExpressions: [[app, Exists]]}}"),
        network("{ingress: [[]]}"),
        network("{ingress: [{from: [[]]}]}"),
        network("{ingress: [{from: [{namespaceSelector: []}]}]}"),
        network("{ingress: [{from: [{ipBlock: [0.0.0.0/0]}]}]}"),
        network("{egress: [{ports: [[TCP, 80]]}]}"),
        cluster("[]"),
        cluster("{subject: []}"),
        cluster("{subject: {namespaces: []}}"),
        cluster("{subject: {pods: [{}, {}]}}"),
        cluster("{ingress: [{from: [{namespaces: []}]}]}"),
        cluster("{ingress: [{protocols: [{tcp: []}]}]}"),
        of(DocumentKind::Service, "spec: []"),
        of(DocumentKind::Service, "spec: {ports: [[http, TCP, 80]]}"),
        of(DocumentKind::EndpointSlice, "addressType: IPv4\nendpoints: [[[10.0.0.1]]]"),
        of(DocumentKind::Pod, "spec: []"),
        of(DocumentKind::Pod, "status: {podIPs: [[10.0.0.1]]}"),
        of(DocumentKind::Node, "status: {addresses: [[InternalIP, 10.0.0.1]]}"),
    ] {
        let yaml = format!("metadata: {{name: p, namespace: shop}}\n{yaml}");
        let document = serde_yaml_ng::Deserializer::from_str(&yaml);
        assert!(Converter::default().decode(kind, document).is_err(), "{yaml}");
        let json: serde_json::Value = serde_yaml_ng::from_str(&yaml).unwrap();
        let json = json.to_string();
        let mut document = serde_json::Deserializer::from_str(&json);
        assert!(Converter::default().decode(kind, &mut document).is_err(), "{json}");
    }
}
