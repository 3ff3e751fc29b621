// SPDX-License-Identifier: Apache-2.0
//! An object as the server keeps it: the bytes that lists and watches send, serialized once, and
//! the little that selectors look at.
//!
//! Only metadata is checked. An object of a wrong shape gets in, so that tests can send it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use hyper::body::Bytes;
use serde_json::{Map, Value, json};

use super::kind::{Kind, Scope};
use super::timestamp;

/// Namespace and name, as one text: `shop/web`, or `worker-1` of a kind without namespaces.
/// Lists are in the order of these texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(String);

impl Key {
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Key {
        match kind.description().scope {
            Scope::Namespaced => Key(format!("{namespace}/{name}")),
            Scope::Cluster => Key(name.to_owned()),
        }
    }

    /// The key that a continue token has.
    pub fn from_token(text: &str) -> Key {
        Key(text.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }
}

/// An object that may be stored: its kind is known, and it has a name.
pub(super) struct Admission {
    pub kind: Kind,
    pub key: Key,
    /// Everything but `apiVersion` and `kind`.
    content: Map<String, Value>,
}

impl Admission {
    /// Looks at what somebody wants to store.
    pub fn new(object: Value) -> Result<Admission> {
        let Value::Object(mut content) = object else { bail!("not an object: {object}") };
        let mut take = |field: &str| content.remove(field).unwrap_or_default();
        let (api_version, kind) = (take("apiVersion"), take("kind"));
        let (version_name, kind_name) = (api_version.as_str(), kind.as_str());
        let kind = Kind::named(version_name.unwrap_or_default(), kind_name.unwrap_or_default())
            .with_context(|| format!("no kind {kind} in {api_version}"))?;
        let metadata = content.get_mut("metadata").and_then(Value::as_object_mut);
        let metadata = metadata.with_context(|| format!("a {kind:?} without metadata"))?;
        let name = metadata.get("name").and_then(Value::as_str);
        let name = name.with_context(|| format!("a {kind:?} without name"))?.to_owned();
        let key = match kind.description().scope {
            Scope::Namespaced => {
                let namespace = metadata.entry("namespace").or_insert_with(|| "default".into());
                Key::new(kind, namespace.as_str().context("the namespace is no text")?, &name)
            }
            Scope::Cluster => Key::new(kind, "", &name),
        };
        if kind == Kind::Namespace {
            // Selectors of policies rely on this label; the API server adds it.
            let labels = metadata.entry("labels").or_insert_with(|| json!({}));
            labels["kubernetes.io/metadata.name"] = name.into();
        }
        Ok(Admission { kind, key, content })
    }

    fn metadata(&mut self) -> &mut Map<String, Value> {
        let metadata = self.content.get_mut("metadata").and_then(Value::as_object_mut);
        metadata.expect("Admission::new has looked")
    }

    /// The bytes under a revision.
    fn serialize(&mut self, identity: &Identity, revision: u64) -> Bytes {
        let Identity { uid, created } = identity;
        let metadata = self.metadata();
        metadata.insert("uid".into(), uid.as_str().into());
        metadata.insert("creationTimestamp".into(), created.as_str().into());
        metadata.insert("resourceVersion".into(), revision.to_string().into());
        serialize(&self.content)
    }

    fn text_of(&self, path: &str) -> Option<String> {
        let mut names = path.split('.');
        let first = self.content.get(names.next()?)?;
        match names.try_fold(first, |value, name| value.get(name))? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// What an object keeps as long as it exists.
#[derive(Clone, Debug)]
struct Identity {
    uid: String,
    created: String,
}

/// A stored object; never changed, only replaced.
#[derive(Debug)]
pub(super) struct Object {
    pub key: Key,
    pub labels: BTreeMap<String, String>,
    /// JSON without `apiVersion` and `kind`, as it is in lists of built-in kinds.
    pub json: Bytes,
    revision: u64,
    identity: Identity,
    /// What field selectors ask for, in the order of the kind's description.
    fields: Vec<String>,
}

impl Object {
    /// Stores an object in place of another one, or as a new one.
    pub fn new(mut admission: Admission, before: Option<&Object>, revision: u64) -> Object {
        let identity = match before {
            Some(before) => before.identity.clone(),
            None => Identity::given(admission.metadata(), revision),
        };
        let labels = admission.metadata().get("labels").and_then(Value::as_object);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let labels = labels.into_iter().flatten();
        let labels = labels.filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect();
        let fields = admission.kind.description().fields.iter();
        let fields = fields
            .map(|(path, unset)| admission.text_of(path).unwrap_or_else(|| (*unset).to_owned()))
            .collect();
        let json = admission.serialize(&identity, revision);
        Object { key: admission.key, labels, json, revision, identity, fields }
    }

    /// Whether storing it would change nothing; the API server then does nothing.
    pub fn says(&self, admission: &mut Admission) -> bool {
        admission.serialize(&self.identity, self.revision) == self.json
    }

    /// Its resourceVersion.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A field that selectors may ask for.
    pub fn field(&self, kind: Kind, path: &str) -> &str {
        let fields = kind.description().fields;
        let position = fields.iter().position(|(field, _)| *field == path);
        position.and_then(|position| self.fields.get(position)).map_or("", |text| text)
    }

    /// The object under a later revision, as DELETED events show it.
    pub fn json_at(&self, revision: u64) -> Bytes {
        let parsed = serde_json::from_slice::<Map<String, Value>>(&self.json);
        let mut content = parsed.expect("it was serialized here");
        content["metadata"]["resourceVersion"] = revision.to_string().into();
        serialize(&content)
    }
}

impl Identity {
    /// What the object brings, or an uid made of the revision and the time of the call.
    fn given(metadata: &Map<String, Value>, revision: u64) -> Identity {
        let text = |field: &str| metadata.get(field).and_then(Value::as_str).map(str::to_owned);
        Identity {
            uid: text("uid").unwrap_or_else(|| format!("00000000-0000-4000-8000-{revision:012x}")),
            created: text("creationTimestamp").unwrap_or_else(timestamp::now),
        }
    }
}

fn serialize(content: &Map<String, Value>) -> Bytes {
    serde_json::to_vec(content).expect("the keys are texts").into()
}
