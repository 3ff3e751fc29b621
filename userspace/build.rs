// SPDX-License-Identifier: Apache-2.0
//! Builds the kernel programs and hands the object to the crate as `PINTLE_EBPF_OBJECT`.
//!
//! A child cargo does it, with a target directory of its own (`target/bpf`), because the parent holds
//! the lock of the ordinary one; every profile shares the result. `RUSTC_BOOTSTRAP` lets the pinned
//! stable compiler build `core` for the BPF target, and is set for that child only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{
    Object, ObjectSymbol,
    build::elf::{Builder, SectionData},
};

#[path = "../xtask/src/linker.rs"]
mod linker;

const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "bpf";
const OBJECT: &str = "pintle-ebpf";
const HINT: &str = "run `cargo xtask setup`";

/// Cargo fails the build for `cargo::error`; ending in success keeps it from printing the rest of
/// our output around the message.
fn main() {
    if let Err(message) = build() {
        for line in message.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), String> {
    let root = parent_of(&variable("CARGO_MANIFEST_DIR")?)?;
    let out = variable("OUT_DIR")?;
    let target_dir = target_dir(&out);
    for input in ["ebpf", "abi/src", "abi/Cargo.toml", "Cargo.toml", "xtask/src/linker.rs"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PATH");
    require_rust_src()?;
    let linker = require_linker(&target_dir)?;
    println!("cargo::rerun-if-changed={}", linker.display());

    let bpf_dir = target_dir.join("bpf");
    run_cargo(&root, &bpf_dir, &linker)?;
    let object = fs::read(bpf_dir.join(TARGET).join(PROFILE).join(OBJECT))
        .map_err(|error| format!("cannot read the built object: {error}"))?;
    refuse_panics(&object)?;
    let stripped = without_dwarf(&object)
        .map_err(|error| format!("cannot strip the built object: {error}"))?;

    let copy = out.join(OBJECT);
    fs::write(&copy, &stripped).map_err(|error| format!("{}: {error}", copy.display()))?;
    println!("cargo::rustc-env=PINTLE_EBPF_OBJECT={}", copy.display());
    Ok(())
}

fn variable(name: &str) -> Result<PathBuf, String> {
    std::env::var_os(name).map(PathBuf::from).ok_or(format!("cargo did not set {name}"))
}

fn parent_of(path: &Path) -> Result<PathBuf, String> {
    path.parent().map(Path::to_path_buf).ok_or(format!("{} has no parent", path.display()))
}

/// The target directory that `out` lies in: cargo marks it with a tag file, and also the folder in
/// it that `--target` makes.
fn target_dir(out: &Path) -> PathBuf {
    let is_tagged = |folder: &&Path| folder.join("CACHEDIR.TAG").is_file();
    let nearest = out.ancestors().find(is_tagged).unwrap_or(out);
    nearest.parent().filter(is_tagged).unwrap_or(nearest).to_path_buf()
}

fn require_rust_src() -> Result<(), String> {
    let output = Command::new(variable("RUSTC")?)
        .args(["--print", "sysroot"])
        .output()
        .map_err(|error| format!("cannot ask rustc for its sysroot: {error}"))?;
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let library = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    match library.is_file() {
        true => Ok(()),
        false => Err(format!("the kernel programs need the rust-src component: {HINT}")),
    }
}

fn require_linker(target_dir: &Path) -> Result<PathBuf, String> {
    let wanted = linker::VERSION;
    match linker::find(target_dir) {
        linker::Found::Ready(path) => Ok(path),
        linker::Found::Other(version) => {
            Err(format!("bpf-linker {version} is installed, {wanted} is needed: {HINT}"))
        }
        linker::Found::Missing => {
            Err(format!("the kernel programs need bpf-linker {wanted}: {HINT}"))
        }
    }
}

fn run_cargo(root: &Path, bpf_dir: &Path, linker: &Path) -> Result<(), String> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.current_dir(root);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(belongs_to_parent_build) {
            cargo.env_remove(name);
        }
    }
    cargo
        .args(["build", "--package", OBJECT, "--bin", OBJECT, "--profile", PROFILE])
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(bpf_dir)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    let output = cargo.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("building the kernel programs failed\n{messages}"));
    }
    if messages.contains("warning:") {
        messages.lines().for_each(|line| println!("cargo::warning={line}"));
    }
    Ok(())
}

/// `--btf` describes maps and functions to the kernel. Without the second argument bpf-linker turns
/// every zeroed array into a call to a byte loop. v3 has 32-bit jumps and atomics, known to every
/// kernel we support.
const RUSTFLAGS: &[&str] = &[
    "-Clink-arg=--btf",
    "-Clink-arg=--disable-expand-memcpy-in-order",
    "-Ctarget-cpu=v3",
    "-Cdebuginfo=2",
];

/// What a build script inherits and a cargo of its own must not see: flags for the host, clippy's
/// wrapper, the description of this very package.
fn belongs_to_parent_build(name: &str) -> bool {
    const KEPT: &[&str] =
        &["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    const EXACT: &[&str] = &["CLIPPY_ARGS", "TARGET", "HOST", "PROFILE", "OPT_LEVEL", "DEBUG"];
    let scrubbed = name.starts_with("CARGO") || name.starts_with("RUSTC") || {
        name == "RUSTFLAGS" || name.starts_with("RUSTDOC") || EXACT.contains(&name)
    };
    scrubbed && !KEPT.iter().any(|kept| name.starts_with(kept))
}

/// The verifier rejects a program that can reach a panic, with a message that does not say so.
fn refuse_panics(object: &[u8]) -> Result<(), String> {
    let file = object::File::parse(object)
        .map_err(|error| format!("the built object is not an ELF file: {error}"))?;
    let mut names = file.symbols().filter_map(|symbol| symbol.name().ok());
    match names.find(|name| name.contains("panicking")) {
        None => Ok(()),
        Some(name) => Err(format!(
            "the kernel programs can reach a panic (symbol {name}); \
             look for indexing, division, slicing or unwrap in ebpf/src"
        )),
    }
}

/// The object without what only debuggers read, which is most of it: BTF, which the kernel reads, was
/// made of that.
fn without_dwarf(object: &[u8]) -> object::build::Result<Vec<u8>> {
    let mut builder = Builder::read(object)?;
    for section in builder.sections.iter_mut() {
        let name = section.name.as_slice();
        section.delete = [&b".debug_"[..], b".rel.debug_"].iter().any(|of| name.starts_with(of));
    }
    builder.delete_orphans();
    // LLVM keeps the names of sections among those of symbols, which the builder does not.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}
