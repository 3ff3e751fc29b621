// SPDX-License-Identifier: Apache-2.0
//! The one layer: files of root's, with a time of zero, in the order of their names.

use anyhow::Result;
use std::collections::BTreeSet;
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// A file of the image.
pub struct File {
    /// From the root, without a slash in front.
    pub path: &'static str,
    /// Its mode.
    pub mode: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

/// The layer as a tar archive, with the folders that its files are in.
pub fn tar(files: &[File]) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let folders: BTreeSet<&Path> =
        files.iter().flat_map(|file| Path::new(file.path).ancestors().skip(1)).collect();
    for folder in folders.into_iter().filter(|folder| *folder != Path::new("")) {
        append(&mut tar, folder, (EntryType::Directory, 0o755), &[])?;
    }
    let mut sorted: Vec<&File> = files.iter().collect();
    sorted.sort_by_key(|file| file.path);
    for file in sorted {
        let kind = (EntryType::Regular, file.mode);
        append(&mut tar, file.path.as_ref(), kind, &file.content)?;
    }
    Ok(tar.into_inner()?)
}

/// Adds an entry that says nothing but its name, kind, mode and content.
pub fn append(
    tar: &mut Builder<Vec<u8>>,
    path: &Path,
    (kind, mode): (EntryType, u32),
    content: &[u8],
) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_sorted_and_tell_nothing_of_the_machine() {
        let file = |path| File { path, mode: 0o755, content: b"x".to_vec() };
        let one = tar(&[file("usr/b"), file("usr/a")]).unwrap();
        assert_eq!(one, tar(&[file("usr/a"), file("usr/b")]).unwrap());
        let mut archive = ::tar::Archive::new(&one[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let numbers = [header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()];
            assert_eq!(numbers, [0, 0, 0]);
            entry.path().unwrap().display().to_string()
        });
        assert_eq!(entries.collect::<Vec<_>>(), ["usr", "usr/a", "usr/b"]);
    }
}
