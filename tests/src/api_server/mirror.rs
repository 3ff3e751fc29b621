// SPDX-License-Identifier: Apache-2.0
//! A server whose objects are those of a directory, so that a test of the directory source is one of
//! the API source, too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use pintle_lab::manifest;
use serde::Deserialize as _;
use serde_json::Value;

use super::object::{Admission, Key};
use super::{ApiServer, Kind};

/// The files of a directory, and which objects of the server each of them is.
pub struct Mirror {
    server: Arc<ApiServer>,
    files: Mutex<BTreeMap<String, Vec<(Kind, Key)>>>,
}

impl Mirror {
    /// Fills a server from files to come.
    pub fn new(server: Arc<ApiServer>) -> Mirror {
        Mirror { server, files: Mutex::default() }
    }

    fn delete(&self, (kind, key): &(Kind, Key)) -> Result<()> {
        self.server.delete(*kind, key.namespace(), key.name()).map(drop)
    }
}

impl manifest::Mirror for Mirror {
    /// What the file does not hold any more is deleted.
    fn written(&self, file: &str, text: &str) -> Result<()> {
        let mut held = Vec::new();
        for document in serde_yaml_ng::Deserializer::from_str(text) {
            let object = Value::deserialize(document)?;
            if !object.is_null() {
                let admission = Admission::new(object)?;
                held.push((admission.kind, admission.key.clone()));
                self.server.shared.store().put(admission)?;
            }
        }
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let before = files.insert(file.to_owned(), held.clone()).unwrap_or_default();
        before
            .iter()
            .filter(|object| !held.contains(object))
            .try_for_each(|object| self.delete(object))
    }

    /// Its objects are gone with it.
    fn removed(&self, file: &str) -> Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let held = files.remove(file).unwrap_or_default();
        held.iter().try_for_each(|object| self.delete(object))
    }
}
