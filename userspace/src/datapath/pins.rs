// SPDX-License-Identifier: Apache-2.0
//! Where maps and links are pinned: `<bpf-root>/v<ABI_VERSION>/maps/<NAME>` and
//! `<bpf-root>/v<ABI_VERSION>/links/<hook>-<ifindex>`. An empty directory
//! `<bpf-root>/v<ABI_VERSION>/qdiscs/<ifindex>` remembers that the clsact qdisc of that interface is ours:
//! like the qdisc itself, it outlives the agent and ends with the machine's uptime.
//!
//! The version stands in the path, so that a binary never opens maps that another layout wrote.

use std::{
    ffi::CString,
    fs, io,
    mem::MaybeUninit,
    path::{Path, PathBuf},
};

use pintle_abi::{ABI_VERSION, counter::Hook, map::MapSpec};
use thiserror::Error;

use crate::node::IfIndex;

/// Default of `--bpf-root`.
pub const DEFAULT_ROOT: &str = "/sys/fs/bpf/pintle";

/// The pin directory of this binary's ABI version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Pins below this `--bpf-root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The `--bpf-root`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of this ABI version.
    pub fn version_dir(&self) -> PathBuf {
        self.root.join(format!("v{ABI_VERSION}"))
    }

    /// The directory of the maps.
    pub fn maps(&self) -> PathBuf {
        self.version_dir().join("maps")
    }

    /// The directory of the links.
    pub fn links(&self) -> PathBuf {
        self.version_dir().join("links")
    }

    /// The pin of a map.
    pub fn map(&self, map: &MapSpec) -> PathBuf {
        self.maps().join(map.name)
    }

    /// The pin of a program's link to an interface.
    pub fn link(&self, hook: Hook, index: IfIndex) -> PathBuf {
        self.links().join(format!("{}-{index}", hook.as_str()))
    }

    /// The directory of the marks of our clsact qdiscs.
    pub fn qdiscs(&self) -> PathBuf {
        self.version_dir().join("qdiscs")
    }

    /// The mark of our clsact qdisc on an interface.
    pub fn qdisc(&self, index: IfIndex) -> PathBuf {
        self.qdiscs().join(index.to_string())
    }

    /// The directory of the marks of settings of the node that we changed.
    pub fn settings(&self) -> PathBuf {
        self.version_dir().join("settings")
    }

    /// Makes the directories; they must be in a bpf filesystem.
    pub fn create(&self) -> Result<(), PinError> {
        let existing = self.root.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
        match is_bpffs(existing) {
            Ok(true) => {}
            Ok(false) => return Err(PinError::NotBpffs { path: self.root.clone() }),
            Err(source) => return Err(PinError::Create { path: existing.to_owned(), source }),
        }
        for path in [self.maps(), self.links(), self.qdiscs()] {
            fs::create_dir_all(&path).map_err(|source| PinError::Create { path, source })?;
        }
        Ok(())
    }

    /// The pinned links, sorted; files of other names are left out. None if nothing is loaded.
    pub fn list_links(&self) -> io::Result<Vec<(IfIndex, Hook)>> {
        let mut links: Vec<_> =
            names(&self.links())?.iter().filter_map(|name| parse_link(name)).collect();
        links.sort_by_key(|(index, hook)| (*index, *hook as u32));
        Ok(links)
    }

    /// ABI versions that have a pin directory below the root, ascending.
    pub fn versions(&self) -> io::Result<Vec<u32>> {
        let number = |name: &String| name.strip_prefix('v')?.parse().ok();
        let mut versions: Vec<u32> = names(&self.root)?.iter().filter_map(number).collect();
        versions.sort_unstable();
        Ok(versions)
    }
}

/// Why pins cannot be made.
#[derive(Debug, Error)]
pub enum PinError {
    /// The directory is in a filesystem of another kind, in which nothing can be pinned.
    #[error("{} is not in a bpf filesystem", path.display())]
    NotBpffs {
        /// The `--bpf-root`.
        path: PathBuf,
    },
    /// A directory cannot be made.
    #[error("create {}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    let mut found = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path ends with a zero and the buffer has room for what the call writes.
    if unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has filled the buffer.
    let found = unsafe { found.assume_init() };
    // The type's sign depends on the C library.
    Ok(i128::from(found.f_type) == i128::from(libc::BPF_FS_MAGIC))
}

fn parse_link(name: &str) -> Option<(IfIndex, Hook)> {
    let (hook, index) = name.rsplit_once('-')?;
    let hook = Hook::ALL.iter().find(|known| known.as_str() == hook)?;
    Some((IfIndex(index.parse().ok()?), *hook))
}

/// Names in a directory; none if it does not exist.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use pintle_abi::map;

    use super::*;

    #[test]
    fn a_pin_names_version_kind_and_object() {
        let pins = Pins::new("/bpf");
        let version = format!("/bpf/v{ABI_VERSION}");
        assert_eq!(pins.map(&map::SETTINGS), PathBuf::from(format!("{version}/maps/SETTINGS")));
        let link = pins.link(Hook::FromPod, IfIndex(7));
        assert_eq!(link, PathBuf::from(format!("{version}/links/from_pod-7")));
    }

    #[test]
    fn pins_are_made_in_a_bpf_filesystem_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("below/pintle");
        let error = Pins::new(&root).create().unwrap_err();
        assert!(matches!(error, PinError::NotBpffs { .. }), "{error}");
        assert!(!root.exists());
    }

    #[test]
    fn links_and_versions_are_listed_in_order_and_strangers_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::new(dir.path());
        assert!(pins.list_links().unwrap().is_empty());
        fs::create_dir_all(pins.links()).unwrap();
        fs::create_dir_all(dir.path().join("v0")).unwrap();
        fs::create_dir_all(dir.path().join("vx")).unwrap();
        for name in ["to_pod-12", "from_pod-12", "from_pod-7", "other-7", "from_pod-x"] {
            fs::write(pins.links().join(name), "").unwrap();
        }
        let links = pins.list_links().unwrap();
        let expected = [(7, Hook::FromPod), (12, Hook::FromPod), (12, Hook::ToPod)];
        assert_eq!(links, expected.map(|(index, hook)| (IfIndex(index), hook)));
        assert_eq!(pins.versions().unwrap(), [0, ABI_VERSION]);
    }
}
