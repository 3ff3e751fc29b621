// SPDX-License-Identifier: Apache-2.0
//! What a batch says about our Node object: one that leaves gets no more traffic from load
//! balancers, which ask `/healthz` (KEP-3836).

use crate::{
    model::{event::Event, name::Kind, object::Object},
    server::health::NodeFate,
};

/// The last word of a batch about our Node; `None` if it says nothing.
pub fn node_fate(batch: &[Event], node_name: &str) -> Option<NodeFate> {
    batch.iter().rev().find_map(|event| match event {
        Event::Apply(Object::Node(node)) if node.name.as_str() == node_name => {
            Some(if node.is_leaving { NodeFate::Leaves } else { NodeFate::Stays })
        }
        Event::Delete(object) if object.kind == Kind::Node && object.name.as_str() == node_name => {
            Some(NodeFate::Leaves)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::text::Texts;

    /// What a file says about node `n1`, by way of the real source.
    fn fate(body: &str) -> Option<NodeFate> {
        let mut files = Texts::default();
        files.write("a.yaml", body);
        node_fate(&files.events(), "n1")
    }

    #[test]
    fn a_node_leaves_when_it_is_deleted_or_the_autoscaler_says_so() {
        let node = |metadata: &str, rest: &str| {
            format!("apiVersion: v1\nkind: Node\nmetadata: {{{metadata}}}\n{rest}\n")
        };
        assert_eq!(fate(&node("name: n1", "")), Some(NodeFate::Stays));
        assert_eq!(fate(&node("name: n2", "")), None);
        let deleted = "name: n1, deletionTimestamp: '2026-01-01T00:00:00Z'";
        assert_eq!(fate(&node(deleted, "")), Some(NodeFate::Leaves));
        let taint = |key: &str| format!("spec: {{taints: [{{key: {key}, effect: NoSchedule}}]}}");
        let autoscaler = taint("ToBeDeletedByClusterAutoscaler");
        assert_eq!(fate(&node("name: n1", &autoscaler)), Some(NodeFate::Leaves));
        let other = taint("node.kubernetes.io/unschedulable");
        assert_eq!(fate(&node("name: n1", &other)), Some(NodeFate::Stays));
    }

    #[test]
    fn a_node_that_is_gone_leaves() {
        let mut files = Texts::default();
        files.write("a.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n");
        files.events();
        files.remove("a.yaml");
        assert_eq!(node_fate(&files.events(), "n1"), Some(NodeFate::Leaves));
    }
}
