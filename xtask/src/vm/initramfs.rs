// SPDX-License-Identifier: Apache-2.0
//! The guest's whole file system: busybox, a few modules, our binaries and an init script.

use super::{Binaries, Task, binaries::Tests, folder, image::Image};
use crate::workspace::{find_program, run_quietly};
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the tests use of the kernel that Debian builds as modules.
const MODULES: &[&str] = &["veth", "dummy", "bridge", "sch_ingress", "cls_bpf", "sctp"];

/// What the init script and the tests use of busybox.
const APPLETS: &[&str] = &["sh", "mount", "insmod", "ip", "sed", "cat", "ls", "dmesg", "poweroff"];

/// What the init script says when a program ended; followed by its name and exit code.
pub const ENDED: &str = "pintle-ended";

/// What the init script puts before each line of the verify binary.
pub const VERIFY: &str = "pintle-verify";

/// Builds the archive and returns its path.
pub fn build(image: &Image, binaries: &Binaries, task: Task) -> Result<PathBuf> {
    let tree = folder(image.series).join("initramfs");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| tree.display().to_string())?;
    }
    for place in ["bin", "modules", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(tree.join(place)).with_context(|| tree.display().to_string())?;
    }
    let busybox = find_program("busybox").context("busybox is missing")?;
    copy(&busybox, &tree.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", tree.join("bin").join(applet))?;
    }
    copy(&binaries.verify, &tree.join("bin/verify"))?;
    copy(&binaries.object, &tree.join("object"))?;
    if let Some(tests) = &binaries.tests {
        copy_tests(tests, &tree)?;
    }
    let modules = copy_modules(image, &tree)?;
    write_init(&tree, &modules, task)?;
    pack(&tree)
}

/// Copies the tests and the tools that they call; busybox's `ip` knows too little for them.
fn copy_tests(tests: &Tests, tree: &Path) -> Result<()> {
    copy(&tests.datapath, &tree.join("bin/datapath"))?;
    copy(&tests.sctp, &tree.join("bin/sctp"))?;
    copy(&tests.clock, &tree.join("bin/clock"))?;
    copy(&tests.agent, &tree.join("bin/pintle"))?;
    let ip = find_program("ip").context("ip is missing")?;
    for library in libraries(&ip)? {
        let place = tree.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(place.parent().context("a library without a folder")?)?;
        copy(&library, &place)?;
    }
    let place = tree.join("bin/ip");
    fs::remove_file(&place).with_context(|| place.display().to_string())?;
    copy(&ip, &place)
}

/// What a program is linked to, the loader included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = run_quietly(Command::new("ldd").arg(program))?;
    let words = listed.lines().filter_map(|line| line.split_whitespace().find(is_path));
    Ok(words.map(PathBuf::from).collect())
}

fn is_path(word: &&str) -> bool {
    word.starts_with('/')
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

/// Copies the modules and what they depend on, unpacked; in the order of insertion.
fn copy_modules(image: &Image, tree: &Path) -> Result<Vec<String>> {
    let dependencies = fs::read_to_string(image.modules.join("modules.dep"))?;
    let builtin = fs::read_to_string(image.modules.join("modules.builtin")).unwrap_or_default();
    let mut names = Vec::new();
    for path in insertion_order(MODULES, &dependencies, &builtin)? {
        let name = module_name(&path).to_owned() + ".ko";
        let target = tree.join("modules").join(&name);
        copy(&image.modules.join(&path), &target.with_file_name(file_name(&path)))?;
        if path.ends_with(".xz") {
            run_quietly(Command::new("xz").arg("-d").arg(target.with_file_name(file_name(&path))))?;
        }
        names.push(name);
    }
    Ok(names)
}

/// `modules.dep` lists the dependencies of each module, those that others need last.
fn insertion_order(modules: &[&str], dependencies: &str, builtin: &str) -> Result<Vec<String>> {
    let entries: HashMap<&str, (&str, &str)> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (module_name(path), (path, needs)))
        .collect();
    let mut order: Vec<String> = Vec::new();
    for wanted in modules {
        let Some((path, needs)) = entries.get(wanted) else {
            if builtin.lines().any(|line| module_name(line) == *wanted) {
                continue;
            }
            bail!("the kernel has no module {wanted}");
        };
        for path in needs.split_whitespace().rev().chain([*path]) {
            if !order.iter().any(|known| known == path) {
                order.push(path.to_owned());
            }
        }
    }
    Ok(order)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn module_name(path: &str) -> &str {
    file_name(path).split('.').next().unwrap_or(path)
}

fn write_init(tree: &Path, modules: &[String], task: Task) -> Result<()> {
    let mut script = String::from(
        "#!/bin/sh\n\
         export PATH=/bin\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev\n\
         mount -t tmpfs tmpfs /tmp\n\
         mount -t bpf bpffs /sys/fs/bpf\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         ip link set lo up\n",
    );
    for module in modules {
        script += &format!("insmod /modules/{module}\n");
    }
    if task == Task::Test {
        script += &format!("datapath --test-threads=1; echo {ENDED} datapath $?\n");
        script += "export PINTLE_BIN=/bin/pintle\n";
        script += &format!("sctp --test-threads=1; echo {ENDED} sctp $?\n");
        // The clock of this machine is nobody else's.
        script += &format!("PINTLE_GUEST=1 clock --test-threads=1; echo {ENDED} clock $?\n");
    }
    script += &format!("verify --json /object > /tmp/verify; echo {ENDED} verify $?\n");
    script += &format!("sed 's/^/{VERIFY} /' /tmp/verify\npoweroff -f\n");
    let init = tree.join("init");
    fs::write(&init, script)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn pack(tree: &Path) -> Result<PathBuf> {
    let archive = tree.with_extension("cpio");
    let mut cpio = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc", "-F"])
        .arg(&archive)
        .current_dir(tree)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start cpio")?;
    let mut names = cpio.stdin.take().context("cpio has no input")?;
    list(tree, Path::new(""), &mut names)?;
    drop(names);
    if !cpio.wait()?.success() {
        bail!("cpio failed");
    }
    Ok(archive)
}

/// Writes every path below `tree`, a folder before what is in it.
fn list(tree: &Path, below: &Path, names: &mut impl Write) -> Result<()> {
    for entry in fs::read_dir(tree.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        writeln!(names, "{}", path.display())?;
        if entry.file_type()?.is_dir() {
            list(tree, &path, names)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_what_it_needs() {
        let dependencies = "net/veth.ko: net/a.ko net/b.ko\nnet/a.ko: net/b.ko\nnet/b.ko:\n\
                            net/dummy.ko.xz:\nsched/cls_bpf.ko:\n";
        let modules = ["veth", "dummy", "sch_ingress", "cls_bpf"];
        let order =
            insertion_order(&modules, dependencies, "kernel/net/sched/sch_ingress.ko\n").unwrap();
        let expected =
            ["net/b.ko", "net/a.ko", "net/veth.ko", "net/dummy.ko.xz", "sched/cls_bpf.ko"];
        assert_eq!(order, expected);
        assert!(insertion_order(&modules, dependencies, "").is_err());
    }
}
