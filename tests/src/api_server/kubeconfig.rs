// SPDX-License-Identifier: Apache-2.0
//! What a client needs to find the server: a kubeconfig, and files with what it names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::ApiServer;
use crate::certificate::{Authority, Identity};

/// The token that a new kubeconfig comes with.
const FIRST_TOKEN: &str = "first-token";

/// Where the certificates and keys of a kubeconfig are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embedding {
    /// In files that it names: `certificate-authority`.
    Files,
    /// In itself: `certificate-authority-data`.
    Data,
}

/// What a kubeconfig says of the other side and of us.
pub struct Credentials<'a> {
    /// Who must have signed the server's certificate.
    pub authority: &'a Authority,
    /// Who we are; with the token file if nothing is shown.
    pub client: Option<&'a Identity>,
    /// Where all that is.
    pub embedding: Embedding,
}

impl ApiServer {
    /// Writes `kubeconfig` and the `token` file that it names into a directory.
    pub fn write_kubeconfig(&self, directory: &Path) -> Result<PathBuf> {
        let user = self.token_user(directory)?;
        write(directory, json!({"server": self.url()}), user)
    }

    /// The same, with what TLS needs.
    pub fn write_protected_kubeconfig(
        &self,
        directory: &Path,
        credentials: &Credentials<'_>,
    ) -> Result<PathBuf> {
        let embed = |object: &mut Value, field: &str, pem: String| -> Result<()> {
            match credentials.embedding {
                Embedding::Files => {
                    let path = directory.join(format!("{field}.pem"));
                    fs::write(&path, pem)?;
                    object[field] = path.display().to_string().into();
                }
                Embedding::Data => {
                    object[format!("{field}-data")] = BASE64_STANDARD.encode(pem).into();
                }
            }
            Ok(())
        };
        let mut cluster = json!({"server": self.url()});
        embed(&mut cluster, "certificate-authority", credentials.authority.pem())?;
        let user = match credentials.client {
            None => self.token_user(directory)?,
            Some(identity) => {
                let mut user = json!({});
                embed(&mut user, "client-certificate", identity.certificate_pem())?;
                embed(&mut user, "client-key", identity.key_pem())?;
                user
            }
        };
        write(directory, cluster, user)
    }

    /// Replaces the token of a kubeconfig's directory in one step.
    pub fn write_token(&self, directory: &Path, token: &str) -> Result<()> {
        let file = NamedTempFile::new_in(directory)?;
        fs::write(file.path(), token)?;
        file.persist(token_file(directory)).context("write the token")?;
        Ok(())
    }

    fn token_user(&self, directory: &Path) -> Result<Value> {
        self.write_token(directory, FIRST_TOKEN)?;
        Ok(json!({"tokenFile": token_file(directory)}))
    }
}

fn write(directory: &Path, cluster: Value, user: Value) -> Result<PathBuf> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "agent", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "agent"}}],
    });
    let path = directory.join("kubeconfig");
    // JSON is YAML, too.
    fs::write(&path, config.to_string()).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

fn token_file(directory: &Path) -> PathBuf {
    directory.join("token")
}
