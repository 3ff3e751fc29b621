// SPDX-License-Identifier: Apache-2.0
//! Debian's kernel packages, unpacked: downloaded once with the machine's own apt sources.

use super::{archive, folder};
use crate::workspace::run_quietly;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An unpacked kernel.
pub struct Image {
    /// `6.1`, `6.12`.
    pub series: &'static str,
    /// As `uname -r` says it.
    pub release: String,
    /// The kernel itself.
    pub vmlinuz: PathBuf,
    /// Its modules, with `modules.dep`.
    pub modules: PathBuf,
}

/// The newest kernel of a series; what was unpacked before is taken again.
pub fn obtain(series: &&'static str) -> Result<Image> {
    let folder = folder(series);
    let root = folder.join("root");
    if let Some(image) = unpacked(series, &root) {
        return Ok(image);
    }
    eprintln!("downloading Debian's kernel {series} ...");
    fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
    let package = archive::download(series, &folder)?;
    run_quietly(Command::new("dpkg").arg("-x").arg(&package).arg(&root))?;
    let image = describe(series, &root).context("the package has no kernel")?;
    // depmod wants lib/modules; newer packages have usr/lib/modules.
    let tree = if root.join("lib").is_dir() { root.clone() } else { root.join("usr") };
    run_quietly(Command::new("depmod").arg("-b").arg(tree).arg(&image.release))?;
    Ok(image)
}

fn unpacked(series: &'static str, root: &Path) -> Option<Image> {
    describe(series, root).filter(|image| image.modules.join("modules.dep").is_file())
}

fn describe(series: &'static str, root: &Path) -> Option<Image> {
    let names = fs::read_dir(root.join("boot")).ok()?.flatten();
    let release = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))?;
    let modules = ["lib/modules", "usr/lib/modules"]
        .map(|place| root.join(place).join(&release))
        .into_iter()
        .find(|place| place.is_dir())?;
    let vmlinuz = root.join("boot").join(format!("vmlinuz-{release}"));
    Some(Image { series, release, vmlinuz, modules })
}
