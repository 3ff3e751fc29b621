// SPDX-License-Identifier: Apache-2.0
//! Text → [`KubeProxyConfiguration`], strictly first and then leniently, as kube-proxy decodes it:
//! a field that is unknown or given twice costs a warning, anything else that is wrong the start.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use thiserror::Error;

use super::kube_proxy::{API_VERSION, KIND, KubeProxyConfiguration};

/// A configuration, and what was odd about its text.
#[derive(Debug)]
pub struct Decoded {
    /// What it says.
    pub configuration: KubeProxyConfiguration,
    /// One sentence for each unknown or repeated field.
    pub warnings: Vec<String>,
}

/// Why a text is no configuration.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// No YAML, or a field has another type.
    #[error("{0}")]
    Syntax(String),
    /// Another version, or none.
    #[error("apiVersion is '{found}', not {API_VERSION}")]
    Version {
        /// What is there.
        found: String,
    },
    /// Another kind, or none.
    #[error("kind is '{found}', not {KIND}")]
    Kind {
        /// What is there.
        found: String,
    },
    /// The object that kubeadm keeps the configuration in.
    #[error("this is a ConfigMap; give the text of its key config.conf as a file")]
    ConfigMap,
}

/// Decodes YAML or JSON.
pub fn decode(text: &str) -> Result<Decoded, DecodeError> {
    let tree: Tree = serde_yaml_ng::from_str(text).map_err(syntax)?;
    check_kind(&tree)?;
    let mut warnings = Vec::new();
    let schema = serde_json::to_value(KubeProxyConfiguration::default()).map_err(syntax)?;
    let value = tree.into_value("", &schema, &mut warnings);
    // Straight from the text if that is possible: its errors know path and line. It is not where a
    // field is repeated.
    let configuration = match serde_yaml_ng::from_str(text) {
        Ok(configuration) => configuration,
        Err(error) if error.to_string().contains("duplicate") => {
            serde_json::from_value(value).map_err(syntax)?
        }
        Err(error) => return Err(syntax(error)),
    };
    Ok(Decoded { configuration, warnings })
}

fn syntax(error: impl fmt::Display) -> DecodeError {
    DecodeError::Syntax(error.to_string())
}

fn check_kind(tree: &Tree) -> Result<(), DecodeError> {
    let (version, kind) = (tree.text("apiVersion"), tree.text("kind"));
    match (version.as_str(), kind.as_str()) {
        (API_VERSION, KIND) => Ok(()),
        ("v1", "ConfigMap") => Err(DecodeError::ConfigMap),
        (API_VERSION, _) => Err(DecodeError::Kind { found: kind }),
        _ => Err(DecodeError::Version { found: version }),
    }
}

/// A document as it is written: fields that are given twice are there twice.
#[derive(Debug)]
enum Tree {
    Leaf(Value),
    List(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

impl Tree {
    /// The text of a field, empty if there is none.
    fn text(&self, name: &str) -> String {
        let Self::Fields(fields) = self else { return String::new() };
        match fields.iter().rev().find(|(field, _)| field == name) {
            Some((_, Self::Leaf(Value::String(text)))) => text.clone(),
            _ => String::new(),
        }
    }

    /// The value in which the last of equal fields counts. The schema names the fields there are;
    /// what it has as null or empty may hold anything.
    fn into_value(self, path: &str, schema: &Value, warnings: &mut Vec<String>) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::List(items) => {
                let items = items.into_iter();
                items.map(|item| item.into_value(path, &Value::Null, warnings)).collect()
            }
            Self::Fields(fields) => {
                let mut map = Map::new();
                for (name, tree) in fields {
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    let known = schema.as_object().map(|fields| fields.get(&name));
                    if known == Some(None) {
                        warnings.push(format!("{path}: there is no such field; it is ignored"));
                    }
                    let schema = known.flatten().unwrap_or(&Value::Null);
                    let value = tree.into_value(&path, schema, warnings);
                    if map.insert(name, value).is_some() {
                        warnings.push(format!("{path}: given twice; the last one counts"));
                    }
                }
                Value::Object(map)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    /// What an empty document is.
    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            fields.push(entry);
        }
        Ok(Tree::Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_head(body: &str) -> Result<Decoded, DecodeError> {
        decode(&format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{body}"))
    }

    #[test]
    fn fields_null_sections_and_json_are_read() {
        let decoded = with_head("mode: ipvs\nconntrack:\niptables: {masqueradeBit: 3}\n").unwrap();
        assert_eq!(decoded.configuration.mode.as_deref(), Some("ipvs"));
        assert_eq!(decoded.configuration.iptables.masquerade_bit, Some(3));
        assert_eq!(decoded.configuration.conntrack, Default::default());
        assert_eq!(decoded.warnings, [""; 0]);
        let json = format!(r#"{{"apiVersion":"{API_VERSION}","kind":"{KIND}","mode":"nftables"}}"#);
        assert_eq!(decode(&json).unwrap().configuration.mode.as_deref(), Some("nftables"));
    }

    #[test]
    fn an_unknown_field_costs_a_warning_with_its_path() {
        let body = "udpIdleTimeout: 250ms\nconntrack: {max: 1}\nfeatureGates: {Whatever: true}\n\
                    logging: {options: {json: {infoBufferSize: \"0\"}}, vmodule: [a]}\n";
        let decoded = with_head(body).unwrap();
        assert_eq!(decoded.warnings.len(), 2, "{:?}", decoded.warnings);
        assert!(decoded.warnings[0].starts_with("udpIdleTimeout: "));
        assert!(decoded.warnings[1].starts_with("conntrack.max: "));
    }

    #[test]
    fn the_last_of_two_equal_fields_counts() {
        let decoded =
            with_head("mode: ipvs\nipvs:\n  scheduler: rr\n  scheduler: mh\nmode: iptables")
                .unwrap();
        assert_eq!(decoded.configuration.mode.as_deref(), Some("iptables"));
        assert_eq!(decoded.configuration.ipvs.scheduler.as_deref(), Some("mh"));
        assert_eq!(decoded.warnings.len(), 2, "{:?}", decoded.warnings);
        assert!(decoded.warnings[0].starts_with("ipvs.scheduler: given twice"));
    }

    #[test]
    fn what_is_no_configuration_is_refused_in_words() {
        let check = |text: &str, words: &str| {
            let error = decode(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        check("", "apiVersion is ''");
        check("mode: iptables", "apiVersion is ''");
        check("apiVersion: v1\nkind: ConfigMap\n", "config.conf");
        check(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha2\nkind: KubeProxyConfiguration",
            "v1alpha2",
        );
        check(
            &format!("apiVersion: {API_VERSION}\nkind: KubeletConfiguration"),
            "kind is 'Kubelet",
        );
        check("a: [", "line");
        let typed = |body: &str, words: &str| {
            let error = with_head(body).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        typed("iptables: {masqueradeBit: fourteen}", "iptables.masqueradeBit");
        typed("iptables: {syncPeriod: 30}", "iptables: '30' is not a duration");
        typed("iptables: {syncPeriod: 30 s}", "not a duration");
        typed("mode: [iptables]", "mode");
    }
}
