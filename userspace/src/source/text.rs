// SPDX-License-Identifier: Apache-2.0
//! A directory of manifests that exists in memory only: what a test gives the real parser. And events
//! as text.

use std::sync::Arc;

use super::{
    catalog::Catalog,
    convert::Converter,
    event::{Batch, Event},
    load, parse,
};
use crate::model::object::Object;

/// Files by name, read as [`super::dir`] reads them.
#[derive(Default)]
pub(crate) struct Texts {
    catalog: Catalog,
    converter: Converter,
}

impl Texts {
    /// Writes a file.
    pub fn write(&mut self, file: &str, text: &str) {
        let syntax = parse::syntax_of(file).unwrap_or_else(|| panic!("{file} is not read"));
        let file: Arc<str> = file.into();
        let documents = load::documents(&file, text, syntax, &self.converter);
        self.catalog.update(&file, documents);
    }

    /// Removes a file.
    pub fn remove(&mut self, file: &str) {
        self.catalog.update(&file.into(), Vec::new());
    }

    /// What changed since the last call.
    pub fn events(&mut self) -> Batch {
        self.catalog.events()
    }
}

/// An event in a line.
pub(super) fn say(event: &Event) -> String {
    match event {
        Event::Apply(Object::Service(service)) => {
            let ips: Vec<_> = service.cluster_ips.iter().map(|ip| ip.to_string()).collect();
            format!("apply {} {}", service.name, ips.join(" "))
        }
        Event::Apply(object) => format!("apply {}", object.object_ref()),
        Event::Delete(object) => format!("delete {object}"),
        Event::Rejected(object, reasons) if reasons.is_empty() => format!("cleared {object}"),
        Event::Rejected(object, reasons) => {
            let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            format!("{object}: {}", reasons.join("; "))
        }
        Event::Synced => "synced".to_owned(),
    }
}
