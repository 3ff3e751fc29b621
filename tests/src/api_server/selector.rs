// SPDX-License-Identifier: Apache-2.0
//! Label and field selectors, and a namespace: which objects a list or a watch is about.

use super::failure::Failure;
use super::kind::{Kind, Scope};
use super::object::Object;

/// Which objects of a kind.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    kind: Kind,
    namespace: Option<String>,
    labels: Vec<Requirement>,
    fields: Vec<FieldTerm>,
}

impl Selection {
    /// What the parameters of a request select.
    pub fn parse(
        kind: Kind,
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> Result<Selection, Failure> {
        Ok(Selection {
            kind,
            namespace: namespace.map(str::to_owned),
            labels: terms(labels).into_iter().map(Requirement::parse).collect::<Result<_, _>>()?,
            fields: terms(fields)
                .into_iter()
                .map(|term| FieldTerm::parse(kind, term))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether the object is one of them.
    pub fn matches(&self, object: &Object) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| object.key.namespace() == namespace)
            && self.labels.iter().all(|it| it.matches(object))
            && self.fields.iter().all(|it| it.matches(self.kind, object))
    }

    /// Whether there are selectors; then a page does not say how many objects remain.
    pub fn has_selectors(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    /// The only name that can be in it, if a field selector says so.
    pub fn only_name(&self) -> Option<&str> {
        let is_name = |term: &&FieldTerm| term.path == "metadata.name" && term.test == Test::Is;
        self.fields.iter().find(is_name).map(|term| &*term.value)
    }
}

/// One term of a label selector.
#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug)]
enum Operator {
    In(Vec<String>),
    /// Holds for objects without the label, too.
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Requirement {
    fn parse(term: &str) -> Result<Requirement, Failure> {
        let (key, operator) = if let Some(key) = term.strip_prefix('!') {
            (key, Operator::Absent)
        } else if let Some((key, value)) = term.split_once("!=") {
            (key, Operator::NotIn(vec![value.trim().to_owned()]))
        } else if let Some((key, value)) = term.split_once('=') {
            let value = value.strip_prefix('=').unwrap_or(value);
            (key, Operator::In(vec![value.trim().to_owned()]))
        } else if let Some((key, values)) = term.split_once(" notin ") {
            (key, Operator::NotIn(value_set(values)?))
        } else if let Some((key, values)) = term.split_once(" in ") {
            (key, Operator::In(value_set(values)?))
        } else {
            (term, Operator::Exists)
        };
        let key = key.trim();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        if key.is_empty() || !key.bytes().all(is_name) {
            return Err(cannot_parse(term));
        }
        Ok(Requirement { key: key.to_owned(), operator })
    }

    fn matches(&self, object: &Object) -> bool {
        let value = object.labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::Absent => value.is_none(),
        }
    }
}

/// One term of a field selector.
#[derive(Clone, Debug)]
struct FieldTerm {
    path: String,
    test: Test,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Is,
    IsNot,
}

impl FieldTerm {
    fn parse(kind: Kind, term: &str) -> Result<FieldTerm, Failure> {
        let (path, test, value) = if let Some((path, value)) = term.split_once("!=") {
            (path, Test::IsNot, value)
        } else if let Some((path, value)) = term.split_once('=') {
            (path, Test::Is, value.strip_prefix('=').unwrap_or(value))
        } else {
            let message = format!("invalid field selector: {term}; can't understand '{term}'");
            return Err(Failure::bad_request(message));
        };
        let description = kind.description();
        let is_namespace = path == "metadata.namespace" && description.scope == Scope::Namespaced;
        let is_field = description.fields.iter().any(|(field, _)| *field == path);
        if path != "metadata.name" && !is_namespace && !is_field {
            return Err(Failure::bad_request(format!("field label not supported: {path}")));
        }
        Ok(FieldTerm { path: path.to_owned(), test, value: value.to_owned() })
    }

    fn matches(&self, kind: Kind, object: &Object) -> bool {
        let value = match &*self.path {
            "metadata.name" => object.key.name(),
            "metadata.namespace" => object.key.namespace(),
            path => object.field(kind, path),
        };
        match self.test {
            Test::Is => value == self.value,
            Test::IsNot => value != self.value,
        }
    }
}

/// The terms between commas that are not inside parentheses.
fn terms(selector: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let between = |character: char| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    };
    selector.split(between).map(str::trim).filter(|term| !term.is_empty()).collect()
}

/// `(a, b)`.
fn value_set(text: &str) -> Result<Vec<String>, Failure> {
    let inside = text.trim().strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    let inside = inside.ok_or_else(|| cannot_parse(text))?;
    Ok(inside.split(',').map(|value| value.trim().to_owned()).collect())
}

fn cannot_parse(term: &str) -> Failure {
    let what = match term {
        "!" => "found '', expected: identifier",
        term => term,
    };
    Failure::bad_request(format!("unable to parse requirement: {what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::object::{Admission, Object};
    use super::*;

    #[test]
    fn label_selectors_select_as_the_api_says() {
        let labels = json!({ "app": "web", "tier": "front" });
        for (selector, expected) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("absent", false),
            ("!absent", true),
            ("app=web", true),
            ("app==web", true),
            ("app=db", false),
            ("app!=db", true),
            ("absent!=db", true),
            ("app in (db, web)", true),
            ("app in (db,cache),tier", false),
            ("app notin (db,cache),tier=front", true),
            ("absent notin (db)", true),
        ] {
            assert_eq!(selects(selector, "", &labels), Ok(expected), "{selector}");
        }
    }

    #[test]
    fn field_selectors_select_as_the_api_says() {
        for (selector, expected) in [
            ("metadata.name=web", true),
            ("metadata.name!=web", false),
            ("metadata.namespace=shop,metadata.name==web", true),
            ("spec.clusterIP!=None", true),
            ("spec.clusterIP=None", false),
            ("spec.type=", true),
        ] {
            assert_eq!(selects("", selector, &json!({})), Ok(expected), "{selector}");
        }
    }

    #[test]
    fn selectors_that_mean_nothing_are_refused() {
        for (labels, fields) in
            [("a b", ""), ("a in b", ""), ("=x", ""), ("", "spec.ports=1"), ("", "metadata.name")]
        {
            assert_eq!(selects(labels, fields, &json!({})), Err(400), "{labels}{fields}");
        }
    }

    fn selects(labels: &str, fields: &str, of_object: &serde_json::Value) -> Result<bool, u16> {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "namespace": "shop", "name": "web", "labels": of_object },
            "spec": { "clusterIP": "10.96.0.1" },
        });
        let admission = Admission::new(service).expect("a good object");
        let object = Object::new(admission, None, 1);
        let selection = Selection::parse(Kind::Service, None, labels, fields);
        Ok(selection.map_err(|failure| failure.code)?.matches(&object))
    }
}
