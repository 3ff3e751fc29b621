// SPDX-License-Identifier: Apache-2.0
//! A directory of manifests that exists in memory only: what a test gives the real parser.

use std::sync::Arc;

use super::{catalog::Catalog, convert::Converter, event::Batch, load, parse};

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
