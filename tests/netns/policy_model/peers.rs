// SPDX-License-Identifier: Apache-2.0
//! Who the selectors of peers mean.

use super::in_both_layouts;
use super::nine_pods::{NinePods, from, policy, to};
use super::probe::Protocol::Tcp;

in_both_layouts!(peers_are_found_by_selectors, expressions_are_all_to_hold);

const POD_A: &str = "podSelector: {matchLabels: {pod: a}}";
const NS_Y: &str = "namespaceSelector: {matchLabels: {ns: y}}";

fn peers_are_found_by_selectors(nine: &mut NinePods) {
    from(nine, "{podSelector: {}}", |cell| cell.src_ns() == "x");
    from(nine, &format!("{{{POD_A}}}"), |cell| cell.from == "x/a");
    from(nine, "{namespaceSelector: {}}", |_| true);
    from(nine, "{namespaceSelector: {}, podSelector: {}}", |_| true);
    from(nine, &format!("{{{NS_Y}}}"), |cell| cell.src_ns() == "y");
    from(nine, &format!("{{{NS_Y}, {POD_A}}}"), |cell| cell.from == "y/a");
    from(nine, &format!("{{{NS_Y}}}, {{{POD_A}}}"), |cell| {
        cell.src_ns() == "y" || cell.from == "x/a"
    });
    from(nine, &format!("{{namespaceSelector: {{}}, {POD_A}}}"), |cell| cell.src_pod() == "a");
    let by_name = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}}";
    from(nine, by_name, |cell| cell.src_ns() == "z");
    from(nine, "{podSelector: {matchLabels: {pod: nobody}}}", |_| false);

    to(nine, "{podSelector: {}}", |cell| cell.dst_ns() == "x");
    to(nine, "{namespaceSelector: {}}", |_| true);
    to(nine, &format!("{{{NS_Y}, {POD_A}}}"), |cell| cell.to == "y/a");
    to(nine, &format!("{{{NS_Y}}}, {{{POD_A}}}"), |cell| cell.dst_ns() == "y" || cell.to == "x/a");
    to(nine, &format!("{{namespaceSelector: {{}}, {POD_A}}}"), |cell| cell.dst_pod() == "a");

    let of_namespaces = [
        policy("x/p", &format!("ingress: [{{from: [{{{NS_Y}}}], ports: [{{port: 80}}]}}]")),
        policy("y/p", &format!("policyTypes: [Egress], egress: [{{to: [{{{POD_A}}}]}}]")),
    ];
    nine.check("policies of two namespaces meet", &of_namespaces, |cell| {
        let out = cell.src_ns() != "y" || cell.to == "y/a";
        let is_in = cell.dst_ns() != "x" || cell.src_ns() == "y" && cell.is(Tcp, 80);
        out && is_in
    });
}

fn expressions_are_all_to_hold(nine: &mut NinePods) {
    nine.label("y/b", &[("pod", "b"), ("team", "red")]);
    nine.label("z/b", &[("pod", "b"), ("team", "blue")]);
    let expression = |key: &str, operator: &str, values: &str| {
        let values = if values.is_empty() { String::new() } else { format!(", values: {values}") };
        format!("{{key: {key}, operator: {operator}{values}}}")
    };
    let pods = |expressions: &str| {
        format!("{{namespaceSelector: {{}}, podSelector: {{matchExpressions: [{expressions}]}}}}")
    };
    let namespaces =
        |expressions: &str| format!("{{namespaceSelector: {{matchExpressions: [{expressions}]}}}}");

    from(nine, &namespaces(&expression("ns", "In", "[y, z]")), |cell| cell.src_ns() != "x");
    from(nine, &namespaces(&expression("ns", "NotIn", "[y]")), |cell| cell.src_ns() != "y");
    from(nine, &namespaces(&expression("ns", "Exists", "")), |_| true);
    from(nine, &namespaces(&expression("ns", "DoesNotExist", "")), |_| false);
    from(nine, &namespaces(&expression("team", "NotIn", "[red]")), |_| true);
    from(nine, &pods(&expression("pod", "In", "[a, c]")), |cell| cell.src_pod() != "b");
    from(nine, &pods(&expression("team", "NotIn", "[red]")), |cell| cell.from != "y/b");
    from(nine, &pods(&expression("team", "Exists", "")), |cell| {
        ["y/b", "z/b"].contains(&cell.from)
    });
    from(nine, &pods(&expression("team", "DoesNotExist", "")), |cell| {
        !["y/b", "z/b"].contains(&cell.from)
    });
    let both = [expression("pod", "In", "[b]"), expression("team", "NotIn", "[red]")].join(", ");
    from(nine, &pods(&both), |cell| ["x/b", "z/b"].contains(&cell.from));
    let with_labels = "{namespaceSelector: {matchLabels: {ns: y}, matchExpressions: [{key: ns, \
                       operator: NotIn, values: [x]}]}, podSelector: {matchLabels: {pod: b}, \
                       matchExpressions: [{key: team, operator: In, values: [red, blue]}]}}";
    from(nine, with_labels, |cell| cell.from == "y/b");
    to(nine, &pods(&both), |cell| ["x/b", "z/b"].contains(&cell.to));
    to(nine, &namespaces(&expression("ns", "NotIn", "[x, y]")), |cell| cell.dst_ns() == "z");

    let subject = "podSelector: {matchExpressions: [{key: pod, operator: NotIn, values: [a, b]}]}";
    nine.check("a subject by expressions", &[policy("x/p", subject)], |cell| cell.to != "x/c");
    let never = "podSelector: {matchExpressions: [{key: pod, operator: DoesNotExist}]}";
    nine.check("a subject that is nobody", &[policy("x/p", never)], |_| true);
}
