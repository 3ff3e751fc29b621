// SPDX-License-Identifier: Apache-2.0
//! What a client needs to find the server: a kubeconfig, and a file with its token.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use super::ApiServer;

/// The token that a new kubeconfig comes with.
const FIRST_TOKEN: &str = "first-token";

impl ApiServer {
    /// Writes `kubeconfig` and the `token` file that it names into a directory.
    pub fn write_kubeconfig(&self, directory: &Path) -> Result<PathBuf> {
        self.write_token(directory, FIRST_TOKEN)?;
        let (url, token) = (self.url(), token_file(directory));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  \
             cluster: {{server: \"{url}\"}}\nusers:\n- name: agent\n  user: {{tokenFile: {token:?}}}\n\
             contexts:\n- name: test\n  context: {{cluster: test, user: agent}}\n"
        );
        let path = directory.join("kubeconfig");
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Replaces the token of a kubeconfig's directory in one step, as the kubelet does.
    pub fn write_token(&self, directory: &Path, token: &str) -> Result<()> {
        let file = NamedTempFile::new_in(directory)?;
        std::fs::write(file.path(), token)?;
        file.persist(token_file(directory)).context("write the token")?;
        Ok(())
    }
}

fn token_file(directory: &Path) -> PathBuf {
    directory.join("token")
}
