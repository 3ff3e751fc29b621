// SPDX-License-Identifier: Apache-2.0
//! Removes every pin we own; a link that is no longer pinned detaches its program. Filters on clsact
//! qdiscs have no pin: ours go from every interface of the network namespace that this runs in.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{attach, clsact, detach::detach};
use crate::node::loopback::{self, LOOPBACK_SETTINGS};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Attached programs.
    pub programs: usize,
    /// Maps.
    pub maps: usize,
}

/// Removes the pins of every ABI version below the root, and clsact filters; programs go before maps.
pub fn cleanup(root: &Path) -> anyhow::Result<Cleaned> {
    let mut cleaned = Cleaned::default();
    let versions = versions(root)?;
    for version in &versions {
        let links = version.join("links");
        for link in entries(&links)? {
            // Without its pin it goes anyway, only later.
            let _ = detach(&link);
        }
        cleaned.programs += remove_pins(&links)?;
    }
    if !versions.is_empty() {
        cleaned.programs += remove_filters(&versions)?;
    }
    for version in versions {
        remove_marks(&version.join("qdiscs"))?;
        loopback::restore(Path::new(LOOPBACK_SETTINGS), &version.join("settings"))
            .context("restore the settings of loopback")?;
        cleaned.maps += remove_pins(&version.join("maps"))?;
        remove_dir(&version)?;
    }
    remove_dir(root)?;
    Ok(cleaned)
}

fn versions(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let is_version = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.strip_prefix('v')).is_some_and(|v| v.parse::<u32>().is_ok())
    };
    Ok(entries(root)?.into_iter().filter(is_version).collect())
}

/// Removes our filters, and the clsact qdiscs that an agent has added for them.
fn remove_filters(versions: &[PathBuf]) -> anyhow::Result<usize> {
    let mut removed = 0;
    for (index, name) in clsact::interfaces().context("list the interfaces")? {
        removed += attach::remove_filters(index, &name)
            .with_context(|| format!("remove the filters of {name}"))?;
        for version in versions {
            let mark = version.join("qdiscs").join(index.to_string());
            attach::release_qdisc(&mark, index)
                .with_context(|| format!("remove the clsact qdisc of {name}"))?;
        }
    }
    Ok(removed)
}

/// Removes the marks of qdiscs whose interfaces are gone, and their directory.
fn remove_marks(dir: &Path) -> anyhow::Result<()> {
    entries(dir)?.iter().try_for_each(|mark| remove_dir(mark))?;
    remove_dir(dir)
}

fn remove_pins(dir: &Path) -> anyhow::Result<usize> {
    let pins = entries(dir)?;
    for pin in &pins {
        fs::remove_file(pin).with_context(|| format!("remove {}", pin.display()))?;
    }
    remove_dir(dir)?;
    Ok(pins.len())
}

fn entries(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.with_context(|| format!("read {}", dir.display())),
    }
}

/// Removes a directory unless it holds something that is not ours.
fn remove_dir(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir(dir) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleanup_removes_all_versions_and_nothing_that_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("pintle");
        for version in ["v1", "v2"] {
            fs::create_dir_all(root.join(version).join("maps")).unwrap();
            fs::create_dir_all(root.join(version).join("links")).unwrap();
            fs::create_dir_all(root.join(version).join("qdiscs/4000000000")).unwrap();
            fs::write(root.join(version).join("maps/A"), "").unwrap();
            fs::write(root.join(version).join("links/from_pod-1"), "").unwrap();
        }
        fs::write(root.join("note"), "").unwrap();
        assert_eq!(cleanup(&root).unwrap(), Cleaned { programs: 2, maps: 2 });
        assert_eq!(entries(&root).unwrap(), [root.join("note")]);
        assert_eq!(cleanup(&root).unwrap(), Cleaned::default());
    }
}
