// SPDX-License-Identifier: Apache-2.0
//! What the kubelet puts into each pod: token, authority and namespace of its service account, and how
//! it replaces them. All names lead through `..data`, which is renamed over the last one, so that
//! nobody ever sees files of two versions.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;

/// Where pods find it.
pub const PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const DATA: &str = "..data";
const NAMESPACE: &str = "kube-system";

/// A projected volume.
pub struct ServiceAccount {
    folder: TempDir,
    authority: String,
}

impl ServiceAccount {
    /// Makes the files of a first token; `authority` is the certificate of who signs for the server.
    pub fn new(authority: String, token: &str) -> Result<Self> {
        let account = Self { folder: tempfile::tempdir()?, authority };
        account.rotate(token)?;
        for name in ["token", "ca.crt", "namespace"] {
            symlink(Path::new(DATA).join(name), account.path().join(name))?;
        }
        Ok(account)
    }

    /// Where the files are on the machine.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Another token takes the place of the last one.
    pub fn rotate(&self, token: &str) -> Result<()> {
        let version =
            tempfile::Builder::new().prefix("..version-").tempdir_in(&self.folder)?.keep();
        fs::write(version.join("token"), token)?;
        fs::write(version.join("ca.crt"), &self.authority)?;
        fs::write(version.join("namespace"), NAMESPACE)?;
        let (data, next) = (self.path().join(DATA), self.path().join("..data_tmp"));
        let last = fs::read_link(&data);
        symlink(version.file_name().unwrap_or_default(), &next)?;
        fs::rename(&next, &data)?;
        if let Ok(last) = last {
            fs::remove_dir_all(self.path().join(last))?;
        }
        Ok(())
    }
}
