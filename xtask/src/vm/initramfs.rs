// SPDX-License-Identifier: Apache-2.0
//! The guest's whole file system: busybox, a few modules, our binaries and an init script.

use super::{Task, binaries::Placed, folder, image::Image};
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
/// What the benchmark uses beside: no guest loads a module by itself.
const BENCH_MODULES: &[&str] = &[
    "iptable_filter",
    "iptable_mangle",
    "iptable_nat",
    "ipt_REJECT",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_ipvs",
    "xt_mark",
    "xt_MASQUERADE",
    "xt_nat",
    "xt_statistic",
    "xt_tcpudp",
    "nf_tables",
    "nft_chain_nat",
    "nft_compat",
    "nft_ct",
    "nft_masq",
    "nft_nat",
    "nft_numgen",
    "nft_reject_ipv4",
    "ip_vs",
    "ip_vs_rr",
];

/// Programs of this machine that tests call; busybox's `ip` knows too little for them.
const TOOLS: &[&str] = &["ip"];
/// Those that the benchmark calls beside.
const BENCH_TOOLS: &[&str] = &["iptables-legacy-restore", "iptables-nft-restore", "nft", "ipvsadm"];
/// Where the extensions of iptables are, here and in a guest.
const EXTENSIONS: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/xtables", "xtables"];

/// What the init script and the tests use of busybox.
const APPLETS: &[&str] =
    &["sh", "mount", "insmod", "mkdir", "ip", "sed", "cat", "ls", "dmesg", "poweroff"];

/// What the init script says when a program ended; followed by its name and exit code.
pub const ENDED: &str = "pintle-ended";

/// What the init script puts before each line of the verify binary.
pub const VERIFY: &str = "pintle-verify";

/// What the init script puts before each line of a benchmark's run.
pub const BENCH: &str = "pintle-bench";

/// How many times as long as on this machine something may take in a guest.
const PATIENCE: u32 = 10;

/// Builds the archive and returns its path.
pub fn build(image: &Image, files: &[Placed], task: Task<'_>) -> Result<PathBuf> {
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
    for (file, place) in files {
        copy(file, &tree.join(place))?;
    }
    let (modules, tools) = match task {
        Task::Verify => (MODULES.to_vec(), Vec::new()),
        Task::Test => (MODULES.to_vec(), TOOLS.to_vec()),
        Task::Bench(_) => ([MODULES, BENCH_MODULES].concat(), [TOOLS, BENCH_TOOLS].concat()),
    };
    tools.iter().try_for_each(|tool| copy_tool(tool, &tree))?;
    if matches!(task, Task::Bench(_)) {
        copy_extensions(&tree)?;
    }
    let modules = copy_modules(image, &tree, &modules)?;
    write_init(&tree, &modules, task)?;
    pack(&tree)
}

/// Copies a program of this machine with what it is linked to.
fn copy_tool(name: &str, tree: &Path) -> Result<()> {
    let program = find_program(name).with_context(|| format!("{name} is missing"))?;
    copy_libraries(&program, tree)?;
    let place = tree.join("bin").join(name);
    if place.is_symlink() {
        fs::remove_file(&place).with_context(|| place.display().to_string())?;
    }
    copy(&program, &place)
}

fn copy_libraries(of: &Path, tree: &Path) -> Result<()> {
    for library in libraries(of)? {
        let place = tree.join(library.strip_prefix("/").unwrap_or(&library));
        if !place.exists() {
            fs::create_dir_all(place.parent().context("a library without a folder")?)?;
            copy(&library, &place)?;
        }
    }
    Ok(())
}

fn copy_extensions(tree: &Path) -> Result<()> {
    let [here, there] = EXTENSIONS;
    fs::create_dir_all(tree.join(there))?;
    for entry in fs::read_dir(here).context(here)? {
        let entry = entry?;
        copy_libraries(&entry.path(), tree)?;
        copy(&entry.path(), &tree.join(there).join(entry.file_name()))?;
    }
    Ok(())
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
fn copy_modules(image: &Image, tree: &Path, wanted: &[&str]) -> Result<Vec<String>> {
    let dependencies = fs::read_to_string(image.modules.join("modules.dep"))?;
    let builtin = fs::read_to_string(image.modules.join("modules.builtin")).unwrap_or_default();
    let mut names = Vec::new();
    for path in insertion_order(wanted, &dependencies, &builtin)? {
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

fn write_init(tree: &Path, modules: &[String], task: Task<'_>) -> Result<()> {
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
    script += &match task {
        Task::Test => tests() + &verify(),
        Task::Verify => verify(),
        Task::Bench(arguments) => bench(arguments),
    };
    script += "poweroff -f\n";
    let init = tree.join("init");
    fs::write(&init, script)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn tests() -> String {
    let mut script = format!("export PINTLE_BIN=/bin/pintle PINTLE_PATIENCE={PATIENCE}\n");
    script += &format!("datapath --test-threads=1; echo {ENDED} datapath $?\n");
    script += &format!("sctp --test-threads=1; echo {ENDED} sctp $?\n");
    // The clock of this machine is nobody else's.
    script + &format!("PINTLE_GUEST=1 clock --test-threads=1; echo {ENDED} clock $?\n")
}

fn verify() -> String {
    format!(
        "verify --json /object > /tmp/verify; echo {ENDED} verify $?\n\
         sed 's/^/{VERIFY} /' /tmp/verify\n"
    )
}

fn bench(arguments: &str) -> String {
    let [_, extensions] = EXTENSIONS;
    format!(
        "export XTABLES_LIBDIR=/{extensions}\n\
         mkdir -p /run\n\
         pintle bench --json {arguments} > /tmp/run 2> /tmp/error; echo {ENDED} bench $?\n\
         cat /tmp/error\n\
         sed 's/^/{BENCH} /' /tmp/run\n"
    )
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
