// SPDX-License-Identifier: Apache-2.0
//! What the machine has: read from files and local commands, never from the network.

use super::Extent;
use crate::{linker, workspace};
use std::path::Path;
use std::process::Command;

/// Static target for the tests that run inside a virtual machine.
pub const GUEST_TARGET: &str = "x86_64-unknown-linux-musl";

/// Packages that bpf-linker is built from, and their only purpose.
pub const LINKER_PACKAGES: &[&str] =
    &["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "libxml2-dev"];

/// Programs that a build needs, with the package that brings each.
const BUILD_PROGRAMS: &[(&str, &str)] = &[("cc", "gcc"), ("pkg-config", "pkg-config")];

/// Programs that the kernel tests need, with the package that brings each.
const TEST_PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
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
    /// The standard library for the guest is here, or is not wanted.
    pub guest_target: bool,
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
    let sysroot = sysroot();
    let library = Path::new(&sysroot).join("lib/rustlib");
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
        guest_target: !everything || library.join(GUEST_TARGET).join("lib").is_dir(),
        linker,
        linker_packages,
        build_packages: missing_programs(BUILD_PROGRAMS),
        test_packages: if everything { missing_programs(TEST_PROGRAMS) } else { Vec::new() },
        bpffs: !everything || bpffs_is_mounted(),
    }
}

/// The folder of the pinned toolchain; empty when there is no compiler.
fn sysroot() -> String {
    let output =
        Command::new("rustc").args(["--print", "sysroot"]).current_dir(workspace::root()).output();
    output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
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
