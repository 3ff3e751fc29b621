// SPDX-License-Identifier: Apache-2.0
//! Files against objects: what a new content of a file means.

use proptest::{prelude::*, sample::select};

use super::*;
use crate::source::{convert::Converter, load, parse, split, text::say};

struct Directory {
    catalog: Catalog,
    converter: Converter,
}

impl Directory {
    fn new() -> Self {
        Self { catalog: Catalog::default(), converter: Converter::default() }
    }

    /// Takes a file; the events as text.
    fn write(&mut self, file: &str, text: &str) -> Vec<String> {
        let name: Arc<str> = file.into();
        let syntax = parse::syntax_of(file).unwrap();
        let documents = load::documents(&name, text, syntax, &self.converter);
        self.catalog.update(&name, documents);
        self.catalog.events().iter().map(say).collect()
    }
}

fn service(name: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  clusterIP: {ip}\n"
    )
}

#[test]
fn unchanged_objects_yield_no_event() {
    let mut directory = Directory::new();
    let (a, b) = (service("a", "10.96.0.1"), service("b", "10.96.0.2"));
    let events = directory.write("x.yaml", &format!("{a}{b}"));
    assert_eq!(events, ["apply default/a 10.96.0.1", "apply default/b 10.96.0.2"]);
    assert_eq!(directory.write("x.yaml", &format!("{b}# other order\n{a}")), [""; 0]);
    let changed = service("b", "10.96.0.3");
    let events = directory.write("x.yaml", &format!("{a}{changed}"));
    assert_eq!(events, ["apply default/b 10.96.0.3"]);
    assert_eq!(directory.write("x.yaml", &a), ["delete Service default/b"]);
    assert_eq!(directory.write("x.yaml", ""), ["delete Service default/a"]);
    assert_eq!(directory.catalog.files().count(), 0);
    assert!(directory.catalog.objects.is_empty());
}

#[test]
fn the_first_file_by_name_wins_whatever_came_first() {
    let mut directory = Directory::new();
    directory.write("b.yaml", &service("web", "10.96.0.2"));
    assert_eq!(
        directory.write("a.yaml", &service("web", "10.96.0.1")),
        [
            "apply default/web 10.96.0.1",
            "Service default/web: defined in a.yaml and again in b.yaml; the former is used",
        ]
    );
    assert_eq!(directory.write("b.yaml", &service("web", "10.96.0.3")), [""; 0]);
    assert_eq!(
        directory.write("a.yaml", ""),
        ["apply default/web 10.96.0.3", "cleared Service default/web"]
    );
}

#[test]
fn an_object_that_moves_to_another_file_is_as_it_was() {
    let mut directory = Directory::new();
    directory.write("b.yaml", &service("web", "10.96.0.1"));
    let (a, b): (Arc<str>, Arc<str>) = ("a.yaml".into(), "b.yaml".into());
    let text = service("web", "10.96.0.1");
    let documents = load::documents(&a, &text, split::Syntax::Yaml, &directory.converter);
    directory.catalog.update(&a, documents);
    directory.catalog.update(&b, Vec::new());
    assert_eq!(directory.catalog.events(), []);
}

#[test]
fn the_first_document_of_a_file_wins() {
    let mut directory = Directory::new();
    let text = service("web", "10.96.0.1") + &service("web", "10.96.0.2");
    assert_eq!(
        directory.write("a.yaml", &text),
        [
            "apply default/web 10.96.0.1",
            "Service default/web: defined in a.yaml and again in a.yaml; the former is used",
        ]
    );
}

#[test]
fn a_malformed_file_keeps_what_it_held_and_its_good_documents_count() {
    let mut directory = Directory::new();
    let (a, b) = (service("a", "10.96.0.1"), service("b", "10.96.0.2"));
    directory.write("x.yaml", &format!("{a}{b}"));
    let changed = service("b", "10.96.0.3");
    let events = directory.write("x.yaml", &format!("---\nkind: [\n{changed}"));
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[0], "apply default/b 10.96.0.3");
    assert!(events[1].starts_with("File x.yaml: x.yaml:2: "), "{events:?}");
    assert!(events[1].ends_with("; what was read before stays in force"), "{events:?}");
    assert_eq!(
        directory.write("x.yaml", &changed),
        ["delete Service default/a", "cleared File x.yaml"]
    );
}

#[test]
fn a_mistake_in_a_known_object_keeps_that_object_only() {
    let mut directory = Directory::new();
    let (a, b) = (service("a", "10.96.0.1"), service("b", "10.96.0.2"));
    directory.write("x.yaml", &format!("{a}{b}"));
    let events = directory.write("x.yaml", &format!("{a}  ports: http\n"));
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[0].starts_with("Service default/a: x.yaml:8: "), "{events:?}");
    assert_eq!(events[1], "delete Service default/b");
    assert_eq!(directory.write("x.yaml", &a), ["cleared Service default/a"]);
}

#[test]
fn every_kind_of_mistake_is_named() {
    for (text, expected) in [
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n",
            "Deployment shop/web: x.yaml:1: kind apps/v1 Deployment is unknown",
        ),
        (
            "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: web}\n",
            "EndpointSlice default/web: x.yaml:1: kind discovery.k8s.io/v1beta1 EndpointSlice \
             is unknown",
        ),
        (
            "\n\napiVersion: v1\nkind: Mystery\n",
            "File x.yaml: x.yaml:1: kind v1 Mystery is unknown",
        ),
        (
            "metadata: {name: web}\n",
            "File x.yaml: x.yaml:1: the document has no apiVersion or no kind; what was read \
             before stays in force",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop}\n",
            "File x.yaml: x.yaml:1: Service has no valid name: ''",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: http}]}\n",
            "Service default/web: x.yaml:4: ",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n\
             spec: {clusterIP: None, ports: [{port: 99999999999}]}\n",
            "Service default/web: x.yaml:4: ",
        ),
        ("apiVersion: v1\nkind: Service\n\tmetadata: {}\n", "File x.yaml: x.yaml:3: "),
        ("a: &a [*b]\n", "File x.yaml: x.yaml:1: "),
    ] {
        let events = Directory::new().write("x.yaml", text);
        assert_eq!(events.len(), 1, "{text}: {events:?}");
        assert!(events[0].starts_with(expected), "{text}: {events:?}");
    }
}

#[test]
fn policies_are_objects_like_others() {
    let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\n---\n\
                apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n\
                metadata: {name: a}\n\
                spec: {tier: Admin, priority: 1, subject: {namespaces: {}}}\n";
    let expected = ["apply NetworkPolicy default/a", "apply ClusterNetworkPolicy a"];
    assert_eq!(Directory::new().write("x.yaml", text), expected);
}

#[test]
fn a_label_that_hides_a_service_deletes_it_and_its_removal_brings_it_back() {
    let mut directory = Directory::new();
    let plain = service("web", "10.96.0.1");
    let label = "  labels: {service.kubernetes.io/service-proxy-name: other}\nspec:";
    directory.write("x.yaml", &plain);
    let hidden = plain.replace("spec:", label);
    assert_eq!(directory.write("x.yaml", &hidden), ["delete Service default/web"]);
    assert_eq!(directory.write("x.yaml", &plain), ["apply default/web 10.96.0.1"]);
}

#[test]
fn an_unreadable_file_keeps_what_it_held() {
    let mut directory = Directory::new();
    directory.write("x.yaml", &service("web", "10.96.0.1"));
    directory.catalog.unreadable(&"x.yaml".into(), "permission denied".to_owned());
    let events: Vec<_> = directory.catalog.events().iter().map(say).collect();
    assert_eq!(
        events,
        ["File x.yaml: x.yaml: permission denied; what was read before stays in force"]
    );
}

/// Text made of the pieces that files are made of, in any order.
fn any_text() -> impl Strategy<Value = String> {
    let words = vec![
        "---",
        "\n",
        "\n---\n",
        "- ",
        "  ",
        "\t",
        "kind: List",
        "kind: Service",
        "kind: ",
        "items:",
        "apiVersion: v1",
        "metadata: {name: web}",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "'",
        "\\",
        "\"items\"",
        "\"kind\":\"List\"",
        "\"apiVersion\":\"v1\"",
        "|",
        "&a",
        "*a",
        "#",
        "\u{e9}",
        "...",
        "%YAML 1.2",
        "\r\n",
        "80",
    ];
    prop::collection::vec(select(words), 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        text in any_text(),
        file in select(vec!["x.yaml", "x.json"]),
    ) {
        let mut directory = Directory::new();
        directory.write(file, &text);
        // Whatever it was, the next good content puts it right.
        let json = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}"#;
        directory.write(file, json);
        prop_assert_eq!(directory.catalog.objects.len(), 1);
    }

    #[test]
    fn a_document_does_not_affect_its_neighbours(text in any_text()) {
        let text = text.replace("---", "");
        let (a, b) = (service("a", "10.96.0.1"), service("b", "10.96.0.2"));
        let events = Directory::new().write("x.yaml", &format!("{a}---\n{text}\n{b}"));
        prop_assert!(events.contains(&"apply default/a 10.96.0.1".to_owned()), "{:?}", events);
        prop_assert!(events.contains(&"apply default/b 10.96.0.2".to_owned()), "{:?}", events);
    }
}
