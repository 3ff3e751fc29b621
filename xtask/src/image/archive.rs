// SPDX-License-Identifier: Apache-2.0
//! The OCI archive: layer, configuration and manifest as blobs under their digests, and an index.

use super::layer::append;
use anyhow::Result;
use flate2::{Compression, GzBuilder};
use oci_spec::image::{
    ANNOTATION_DESCRIPTION, ANNOTATION_LICENSES, ANNOTATION_REF_NAME, ANNOTATION_TITLE,
    ANNOTATION_VERSION, Arch, ConfigBuilder, Descriptor, DescriptorBuilder,
    ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType,
    OciLayoutBuilder, Os, PlatformBuilder, RootFsBuilder, Sha256Digest,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::str::FromStr as _;
use tar::{Builder, EntryType};

/// Who the image runs as unless somebody says otherwise: nobody. It does for the command line; the
/// agent is told to run as root, since capabilities are given to root only.
const USER: &str = "65532:65532";
/// Where containerd looks for the name of an image that it imports.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Blobs by their digests.
type Blobs = BTreeMap<String, Vec<u8>>;

/// Packs a layer into an archive of an image with this name.
pub fn pack(layer: &[u8], name: &str, version: &str) -> Result<Vec<u8>> {
    let mut blobs = Blobs::new();
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(layer)?;
    let compressed = add(&mut blobs, MediaType::ImageLayerGzip, gzip.finish()?)?.build()?;
    let configuration = configuration(&digest(layer), version)?;
    let configuration = add(&mut blobs, MediaType::ImageConfig, configuration)?.build()?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(configuration)
        .layers(vec![compressed])
        .build()?;
    let platform = PlatformBuilder::default().os(Os::Linux).architecture(architecture()).build()?;
    let tag = name.rsplit(':').next().unwrap_or(name);
    let annotations = [(ANNOTATION_REF_NAME, tag), (CONTAINERD_NAME, name)];
    let manifest = add(&mut blobs, MediaType::ImageManifest, text(&manifest)?)?
        .platform(platform)
        .annotations(words(annotations))
        .build()?;
    write(&blobs, &index(manifest)?)
}

/// How the layout writes a digest.
pub fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn configuration(layer: &str, version: &str) -> Result<Vec<u8>> {
    let labels = [
        (ANNOTATION_TITLE, "pintle"),
        (ANNOTATION_DESCRIPTION, "eBPF kube-proxy replacement and NetworkPolicy data plane"),
        (ANNOTATION_VERSION, version),
        (ANNOTATION_LICENSES, "Apache-2.0"),
    ];
    let config = ConfigBuilder::default()
        .user(USER)
        .entrypoint(vec!["/usr/local/bin/pintle".to_owned()])
        .env(vec!["PATH=/usr/local/bin".to_owned()])
        .labels(words(labels))
        .build()?;
    let layers = RootFsBuilder::default().typ("layers").diff_ids(vec![format!("sha256:{layer}")]);
    let configuration = ImageConfigurationBuilder::default()
        .created(CREATED)
        .architecture(architecture())
        .os(Os::Linux)
        .config(config)
        .rootfs(layers.build()?)
        .build()?;
    text(&configuration)
}

fn index(manifest: Descriptor) -> Result<Vec<u8>> {
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![manifest])
        .build()?;
    text(&index)
}

/// Notes a blob and begins its descriptor.
fn add(blobs: &mut Blobs, kind: MediaType, bytes: Vec<u8>) -> Result<DescriptorBuilder> {
    let digest = digest(&bytes);
    let descriptor = DescriptorBuilder::default()
        .media_type(kind)
        .size(bytes.len() as u64)
        .digest(Sha256Digest::from_str(&digest)?);
    blobs.insert(digest, bytes);
    Ok(descriptor)
}

/// JSON whose keys are sorted: the crate keeps labels in no order.
fn text(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let sorted: Value = serde_json::to_value(value)?;
    Ok(serde_json::to_vec(&sorted)?)
}

fn write(blobs: &Blobs, index: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for folder in ["blobs", "blobs/sha256"] {
        append(&mut tar, folder.as_ref(), (EntryType::Directory, 0o755), &[])?;
    }
    let file = (EntryType::Regular, 0o644);
    for (digest, bytes) in blobs {
        append(&mut tar, format!("blobs/sha256/{digest}").as_ref(), file, bytes)?;
    }
    append(&mut tar, "index.json".as_ref(), file, index)?;
    let layout = OciLayoutBuilder::default().image_layout_version("1.0.0".to_owned()).build()?;
    append(&mut tar, "oci-layout".as_ref(), file, &text(&layout)?)?;
    Ok(tar.into_inner()?)
}

fn architecture() -> Arch {
    if cfg!(target_arch = "aarch64") { Arch::ARM64 } else { Arch::Amd64 }
}

fn words<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
