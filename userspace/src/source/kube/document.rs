// SPDX-License-Identifier: Apache-2.0
//! An object as it came: its text, and what the watch itself has to know of it.
//!
//! Decoding cannot fail, so an object that is not what it should be costs nobody else anything: not
//! the rest of its list, not the watch. What the text means is found out by the converter, which the
//! directory source uses, too.

use std::borrow::Cow;

use kube::core::{DynamicResourceScope, ObjectMeta};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Resource;
use crate::{
    model::{
        name::{ObjectName, ObjectRef},
        rejection::RejectReason,
    },
    source::convert::{Converted, Converter, DocumentKind, NameError},
};

/// An object of the API server.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// Its identity and resource version; the rest is not read.
    metadata: ObjectMeta,
    text: Box<RawValue>,
}

#[derive(Default, Deserialize)]
struct Head {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    uid: Option<String>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let Metadata { name, namespace, resource_version, uid } =
            serde_json::from_str::<Head>(text.get()).unwrap_or_default().metadata;
        let metadata =
            ObjectMeta { name, namespace, resource_version, uid, ..ObjectMeta::default() };
        Ok(Self { metadata, text })
    }
}

impl Document {
    /// What it says; `Err` if it does not even have a name.
    pub fn read(
        &self,
        kind: DocumentKind,
        converter: &Converter,
    ) -> Result<Result<Converted, Undecodable>, NameError> {
        let mut text = serde_json::Deserializer::from_str(self.text.get());
        match converter.decode(kind, &mut text) {
            Ok(converted) => converted.map(Ok),
            Err(error) => {
                let object = self.object(kind)?;
                let reason = RejectReason::Undecodable { message: error.to_string() };
                Ok(Err(Undecodable { object, reason }))
            }
        }
    }

    /// What tells it from others that had its name.
    pub fn uid(&self) -> Option<&str> {
        self.metadata.uid.as_deref()
    }

    /// Its kind and name.
    pub fn object(&self, kind: DocumentKind) -> Result<ObjectRef, NameError> {
        let kind = kind.kind();
        let Some(name) = self.metadata.name.as_deref().filter(|name| !name.is_empty()) else {
            return Err(NameError(String::new()));
        };
        let name = match self.metadata.namespace.as_deref() {
            _ if kind.is_cluster_scoped() => ObjectName::cluster(name),
            namespace => ObjectName::namespaced(namespace.unwrap_or("default"), name),
        };
        Ok(ObjectRef::new(kind, name))
    }
}

/// An object that is there, but does not have the fields of its kind.
#[derive(Debug)]
pub(super) struct Undecodable {
    /// Which object.
    pub object: ObjectRef,
    /// What the decoder said.
    pub reason: RejectReason,
}

impl kube::Resource for Document {
    type DynamicType = &'static Resource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &Self::DynamicType) -> Cow<'_, str> {
        resource.kind.kind().as_str().to_owned().into()
    }

    fn group(resource: &Self::DynamicType) -> Cow<'_, str> {
        resource.group.into()
    }

    fn version(resource: &Self::DynamicType) -> Cow<'_, str> {
        resource.version.into()
    }

    fn plural(resource: &Self::DynamicType) -> Cow<'_, str> {
        resource.plural.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
