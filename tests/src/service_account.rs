// SPDX-License-Identifier: Apache-2.0
//! What the kubelet puts into each pod: token, authority and namespace of its service account, and how
//! it replaces them. All names lead through `..data`, which is renamed over the last one, so that
//! nobody ever sees files of two versions.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;

use crate::certificate::Authority;

/// Where pods find it.
pub const PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const DATA: &str = "..data";
const NAMESPACE: &str = "kube-system";

/// A projected volume.
pub struct ServiceAccount(TempDir);

impl ServiceAccount {
    /// Makes the files of a first token, and of who signs for the server.
    pub fn new(authority: &Authority, token: &str) -> Result<Self> {
        let account = Self(tempfile::tempdir()?);
        account.replace(authority, token)?;
        for name in ["token", "ca.crt", "namespace"] {
            symlink(Path::new(DATA).join(name), account.path().join(name))?;
        }
        Ok(account)
    }

    /// Where the files are on the machine.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// These take the place of the last ones.
    pub fn replace(&self, authority: &Authority, token: &str) -> Result<()> {
        let version = tempfile::Builder::new().prefix("..version-").tempdir_in(&self.0)?.keep();
        fs::write(version.join("token"), token)?;
        fs::write(version.join("ca.crt"), authority.pem())?;
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
