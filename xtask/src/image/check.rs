// SPDX-License-Identifier: Apache-2.0
//! Reads an archive as a runtime would: every digest is verified, the binary is taken out and run.

use super::archive::digest;
use crate::workspace::{self, run_quietly};
use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The whole image, unpacked, must be smaller.
const LIMIT: usize = 20_000_000;
const BINARY: &str = "usr/local/bin/pintle";
/// `PT_INTERP`: the program is to be started by another one.
const INTERPRETER: u32 = 3;

/// What is in an image.
#[derive(Debug)]
pub struct Report {
    digest: String,
    packed: usize,
    unpacked: usize,
    version: String,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { digest, packed, unpacked, version } = self;
        let megabytes = |bytes: &usize| *bytes as f64 / 1e6;
        writeln!(formatter, "digest     {digest}")?;
        writeln!(formatter, "packed     {:.1} MB", megabytes(packed))?;
        writeln!(formatter, "unpacked   {:.1} MB", megabytes(unpacked))?;
        write!(formatter, "runs       {version}")
    }
}

/// Checks an archive.
pub fn check(archive: &[u8]) -> Result<Report> {
    let files = unpack(archive)?;
    let file = |name: &str| files.get(Path::new(name)).with_context(|| format!("no {name}"));
    let index: ImageIndex = serde_json::from_slice(file("index.json")?)?;
    ensure!(file("oci-layout")?.starts_with(b"{"), "oci-layout is no JSON");
    let [manifest] = &index.manifests()[..] else { bail!("not one image, but several") };
    let blob = |descriptor: &Descriptor| blob(&files, descriptor);
    let whole = manifest.digest().to_string();
    let manifest: ImageManifest = serde_json::from_slice(blob(manifest)?)?;
    let configuration: ImageConfiguration = serde_json::from_slice(blob(manifest.config())?)?;
    let [layer] = &manifest.layers()[..] else { bail!("not one layer, but several") };
    let mut unpacked = Vec::new();
    GzDecoder::new(&blob(layer)?[..]).read_to_end(&mut unpacked)?;
    let expected = vec![format!("sha256:{}", digest(&unpacked))];
    ensure!(*configuration.rootfs().diff_ids() == expected, "the layer's digest is another one");
    ensure!(unpacked.len() < LIMIT, "{} bytes, and {LIMIT} are the limit", unpacked.len());
    let version = run(&unpack(&unpacked)?)?;
    Ok(Report { digest: whole, packed: archive.len(), unpacked: unpacked.len(), version })
}

/// The files of a tar archive.
fn unpack(archive: &[u8]) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            files.insert(entry.path()?.into_owned(), content);
        }
    }
    Ok(files)
}

/// A blob, if it is the one that is described.
fn blob<'a>(files: &'a BTreeMap<PathBuf, Vec<u8>>, descriptor: &Descriptor) -> Result<&'a Vec<u8>> {
    let name = descriptor.digest().digest();
    let blob = files.get(&Path::new("blobs/sha256").join(name));
    let blob = blob.with_context(|| format!("no blob {name}"))?;
    ensure!(digest(blob) == name, "the blob {name} has another digest");
    ensure!(blob.len() as u64 == descriptor.size(), "the blob {name} has another size");
    Ok(blob)
}

/// Runs the binary without the machine's libraries, and without its environment.
fn run(files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<String> {
    let binary = files.get(Path::new(BINARY)).context("no binary")?;
    ensure!(!has_interpreter(binary)?, "the binary is not static");
    let folder = workspace::target_dir().join("image/check");
    fs::create_dir_all(&folder)?;
    let path = folder.join("pintle");
    fs::write(&path, binary)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    let help = run_quietly(Command::new(&path).args(["agent", "--help"]).env_clear())?;
    ensure!(help.contains("--source"), "`pintle agent --help` says {help}");
    let version = run_quietly(Command::new(&path).arg("version").env_clear())?;
    fs::remove_dir_all(&folder)?;
    Ok(version.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Whether the kernel would need another program to start this one.
fn has_interpreter(elf: &[u8]) -> Result<bool> {
    let number = |at: usize, size: usize| -> Result<u64> {
        let bytes = elf.get(at..at + size).context("an ELF file that is cut off")?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    ensure!(elf.starts_with(b"\x7fELF\x02\x01"), "no ELF file of 64 bits");
    let (table, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    for at in (0..count).map(|index| table + index * size) {
        if number(at as usize, 4)? == u64::from(INTERPRETER) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::{archive, layer};
    use super::*;

    fn image(content: &[u8]) -> Vec<u8> {
        let file = layer::File { path: BINARY, mode: 0o755, content: content.to_vec() };
        archive::pack(&layer::tar(&[file]).unwrap(), "localhost/x:1", "1").unwrap()
    }

    #[test]
    fn the_same_files_make_the_same_archive() {
        assert_eq!(image(b"x"), image(b"x"));
        assert_ne!(image(b"x"), image(b"y"));
    }

    #[test]
    fn what_is_no_static_program_is_refused() {
        let error = check(&image(b"#!/bin/sh")).unwrap_err().to_string();
        assert!(error.contains("no ELF file"), "{error}");
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(has_interpreter(&own).unwrap(), "tests are linked with the C library");
    }

    #[test]
    fn a_blob_that_was_changed_is_noticed() {
        let whole = image(b"x");
        let files = unpack(&whole).unwrap();
        let index = files.keys().filter(|path| path.starts_with("blobs")).count();
        assert_eq!(index, 3, "layer, configuration, manifest");
        let at = whole.windows(8).position(|window| window == b"\"layers\"").unwrap();
        let mut changed = whole.clone();
        changed[at + 1] = b'L';
        let error = check(&changed).unwrap_err().to_string();
        assert!(error.contains("another digest"), "{error}");
    }

    #[test]
    fn a_large_image_is_refused() {
        let error = check(&image(&vec![0; LIMIT])).unwrap_err().to_string();
        assert!(error.contains("are the limit"), "{error}");
    }
}
