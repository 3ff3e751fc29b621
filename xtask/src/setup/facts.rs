// SPDX-License-Identifier: Apache-2.0
//! What the machine has: read from files and local commands, never from the network.

use super::Extent;
use crate::{image, linker, workspace};
use std::path::Path;
use std::process::Command;

/// Packages that bpf-linker is built from, and their only purpose.
pub const LINKER_PACKAGES: &[&str] =
    &["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "libxml2-dev"];

/// Programs that a build needs, with the package that brings each.
const BUILD_PROGRAMS: &[(&str, &str)] = &[("cc", "gcc"), ("pkg-config", "pkg-config")];

/// Programs of the toolchain that the checks need, with the component that brings each.
const CHECKERS: &[(&str, &str)] = &[("bin/rustfmt", "rustfmt"), ("bin/cargo-clippy", "clippy")];

/// Programs that the kernel tests need, with the package that brings each.
const TEST_PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("ipvsadm", "ipvsadm"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
];

/// The state of the machine, as far as the set-up cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Effective user is root.
    pub root: bool,
    /// `apt-get` is here.
    pub apt: bool,
    /// `rustup` is here.
    pub rustup: bool,
    /// The source of the standard library is here.
    pub rust_src: bool,
    /// The standard library for the image's static binary is here, or is not wanted.
    pub static_target: bool,
    /// Missing parts of the toolchain that only the checks need.
    pub checkers: Vec<&'static str>,
    /// bpf-linker.
    pub linker: linker::Found,
    /// Missing packages that bpf-linker is built from.
    pub linker_packages: Vec<&'static str>,
    /// Missing packages that a build needs.
    pub build_packages: Vec<&'static str>,
    /// Missing packages that the tests need.
    pub test_packages: Vec<&'static str>,
    /// A bpf file system is mounted, or is not wanted.
    pub bpffs: bool,
}

/// Looks at the machine.
pub fn look(extent: Extent) -> Facts {
    let everything = extent == Extent::Everything;
    let sysroot = workspace::sysroot();
    let library = sysroot.join("lib/rustlib");
    let linker = linker::find(&workspace::target_dir());
    let linker_packages = match linker {
        linker::Found::Ready(_) => Vec::new(),
        _ => missing_packages(LINKER_PACKAGES),
    };
    Facts {
        root: workspace::is_root(),
        apt: workspace::find_program("apt-get").is_some(),
        rustup: workspace::find_program("rustup").is_some(),
        rust_src: library.join("src/rust/library/core/Cargo.toml").is_file(),
        static_target: extent < Extent::Image || workspace::has_target(image::TARGET),
        checkers: missing_checkers(&sysroot),
        linker,
        linker_packages,
        build_packages: missing_programs(BUILD_PROGRAMS),
        test_packages: if everything { missing_programs(TEST_PROGRAMS) } else { Vec::new() },
        bpffs: !everything || bpffs_is_mounted(),
    }
}

fn missing_checkers(sysroot: &Path) -> Vec<&'static str> {
    let missing = CHECKERS.iter().filter(|(program, _)| !sysroot.join(program).is_file());
    missing.map(|(_, component)| *component).collect()
}

fn missing_programs(wanted: &[(&str, &'static str)]) -> Vec<&'static str> {
    let missing = wanted.iter().filter(|(name, _)| workspace::find_program(name).is_none());
    missing.map(|(_, package)| *package).collect()
}

fn missing_packages(wanted: &[&'static str]) -> Vec<&'static str> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"])
        .args(wanted)
        .output();
    let text = output.map_or(Vec::new(), |output| output.stdout);
    let text = String::from_utf8_lossy(&text);
    let installed =
        |package: &&str| text.lines().any(|line| line == format!("{package} installed"));
    wanted.iter().filter(|package| !installed(package)).copied().collect()
}

fn bpffs_is_mounted() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == Some("/sys/fs/bpf"))
}
