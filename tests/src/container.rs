// SPDX-License-Identifier: Apache-2.0
//! The container of the DaemonSet, as far as the kernel makes it one: its capabilities, its mounts and
//! nothing else, `/proc/sys` and `/sys` read-only as runtimes mount them.
//!
//! What is not here: seccomp, AppArmor, and a cgroup namespace.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::null;

use anyhow::{Context, Result, ensure};
use pintle_lab::agent::Confinement;
use serde_json::Value;
use tempfile::TempDir;

use crate::service_account::{self, ServiceAccount};

/// Numbers of the capabilities that a DaemonSet of ours may name, from `linux/capability.h`.
const CAPABILITIES: [(&str, u64); 7] = [
    ("NET_ADMIN", 12),
    ("NET_RAW", 13),
    ("SYS_PTRACE", 19),
    ("SYS_ADMIN", 21),
    ("SYS_RESOURCE", 24),
    ("PERFMON", 38),
    ("BPF", 39),
];
/// No kernel has more.
const MOST_CAPABILITIES: u64 = 64;
/// What a program that is not static needs of the machine.
const LIBRARIES: [&str; 4] = ["/usr", "/lib", "/lib64", "/etc"];

/// A place in the container where something of the machine is.
#[derive(Clone)]
struct Mount {
    source: CString,
    target: CString,
    /// With what is mounted below, or without.
    flags: libc::c_ulong,
    read_only: bool,
}

/// What a mount brings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Its own file system alone.
    Alone,
    /// What is mounted below it, too.
    Below,
}

/// What a process of the container is given.
pub struct Container {
    root: TempDir,
    capabilities: Vec<String>,
    mounts: Vec<Mount>,
}

impl Container {
    /// The container of a DaemonSet that is given capabilities, with the folders of a test where the
    /// test has them.
    pub fn of(daemon_set: &Value, folders: &[&Path]) -> Result<Self> {
        let pod = &daemon_set["spec"]["template"]["spec"];
        let given =
            |container: &&Value| container["securityContext"]["capabilities"]["add"].is_array();
        let all = ["initContainers", "containers"].map(|list| pod[list].as_array());
        let agent = all.into_iter().flatten().flatten().find(given);
        let agent = agent.context("no container is given capabilities")?;
        let capabilities = texts(&agent["securityContext"]["capabilities"]["add"]);
        let mut container = Self { root: tempfile::tempdir()?, capabilities, mounts: Vec::new() };
        for library in LIBRARIES.iter().map(Path::new).filter(|path| path.exists()) {
            container.mount([library, library], Extent::Below, true)?;
        }
        for own in ["/proc", "/proc/sys", "/sys"].map(Path::new) {
            container.mount([own, own], Extent::Alone, own != Path::new("/proc"))?;
        }
        for mount in agent["volumeMounts"].as_array().into_iter().flatten() {
            let volumes = pod["volumes"].as_array().into_iter().flatten();
            let mut volumes = volumes.filter(|volume| volume["name"] == mount["name"]);
            let volume = volumes.next().with_context(|| format!("no volume of {mount}"))?;
            let path = volume["hostPath"]["path"].as_str();
            let target = mount["mountPath"].as_str().context("a mount without path")?;
            // What a ConfigMap brings is a matter of the test.
            let Some(path) = path else { continue };
            prepare(path, &volume["hostPath"]["type"])?;
            let read_only = mount["readOnly"] == true;
            container.mount([path.as_ref(), target.as_ref()], Extent::Below, read_only)?;
        }
        for folder in folders {
            container.mount([folder, folder], Extent::Below, false)?;
        }
        Ok(container)
    }

    /// Gives the files of a service account.
    pub fn with_service_account(mut self, account: &ServiceAccount) -> Result<Self> {
        let place = Path::new(service_account::PLACE);
        self.mount([account.path(), place], Extent::Alone, true)?;
        Ok(self)
    }

    /// Takes a capability away.
    pub fn without(mut self, name: &str) -> Self {
        self.capabilities.retain(|capability| capability != name);
        self
    }

    fn mount(&mut self, [source, target]: [&Path; 2], of: Extent, read_only: bool) -> Result<()> {
        let inside = self.inside(target);
        let place = Path::new(std::ffi::OsStr::from_bytes(inside.as_bytes()));
        // Below another mount the place is that one's.
        if !self.is_covered(place) {
            make_place(source, place).with_context(|| place.display().to_string())?;
        }
        let source = CString::new(source.as_os_str().as_bytes())?;
        let below = if of == Extent::Below { libc::MS_REC } else { 0 };
        self.mounts.push(Mount { source, target: inside, flags: libc::MS_BIND | below, read_only });
        Ok(())
    }

    fn is_covered(&self, place: &Path) -> bool {
        let mut targets = self.mounts.iter().map(|mount| mount.target.as_bytes());
        targets.any(|target| place.starts_with(std::ffi::OsStr::from_bytes(target)))
    }

    fn inside(&self, path: &Path) -> CString {
        let path: PathBuf = self.root.path().join(path.strip_prefix("/").unwrap_or(path));
        CString::new(path.as_os_str().as_bytes()).expect("a path without zero bytes")
    }
}

impl Confinement for Container {
    fn confine(&self, command: &mut Command) -> Result<()> {
        let kept = self.capabilities.iter().map(|name| {
            let found = CAPABILITIES.iter().find(|(known, _)| known == name);
            found.map(|(_, number)| *number).with_context(|| format!("unknown capability {name}"))
        });
        let kept: Vec<u64> = kept.collect::<Result<_>>()?;
        let root = CString::new(self.root.path().as_os_str().as_bytes())?;
        let mounts = self.mounts.clone();
        // SAFETY: between fork and exec only system calls are made, on strings made before.
        unsafe {
            command.pre_exec(move || {
                enter_root(&root, &mounts)?;
                drop_all_but(&kept)
            });
        }
        Ok(())
    }
}

/// The strings of a list.
pub fn texts(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// What the kubelet does for the kinds of host paths that we use.
fn prepare(path: &str, kind: &Value) -> Result<()> {
    match kind.as_str() {
        Some("DirectoryOrCreate") => fs::create_dir_all(path)?,
        Some("FileOrCreate") => drop(fs::File::options().append(true).create(true).open(path)?),
        Some("Directory") => ensure!(Path::new(path).is_dir(), "{path} is no directory"),
        _ => ensure!(Path::new(path).exists(), "{path} is not there"),
    }
    Ok(())
}

fn make_place(source: &Path, place: &Path) -> io::Result<()> {
    if source.is_dir() {
        return fs::create_dir_all(place);
    }
    fs::create_dir_all(place.parent().unwrap_or(place))?;
    fs::File::create(place).map(drop)
}

fn enter_root(root: &CString, mounts: &[Mount]) -> io::Result<()> {
    // SAFETY: no pointers.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let nothing = c"";
    mount(nothing, c"/", libc::MS_REC | libc::MS_PRIVATE)?;
    mount(root, root, libc::MS_BIND)?;
    for Mount { source, target, flags, read_only } in mounts {
        mount(source, target, *flags)?;
        if *read_only {
            mount(nothing, target, libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY)?;
        }
    }
    mount(nothing, root, libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY)?;
    // SAFETY: both strings end with a zero.
    checked(unsafe { libc::chroot(root.as_ptr()) })?;
    // SAFETY: as above.
    checked(unsafe { libc::chdir(c"/".as_ptr()) })
}

fn mount(source: &std::ffi::CStr, target: &std::ffi::CStr, flags: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the strings end with a zero, and neither kind nor data are needed for these flags.
    checked(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), null(), flags, null()) })
}

/// Root has, from its next program on, what is left in its bounding set; and never more.
fn drop_all_but(kept: &[u64]) -> io::Result<()> {
    for capability in (0..MOST_CAPABILITIES).filter(|capability| !kept.contains(capability)) {
        // SAFETY: no pointers. A number that the kernel does not know is none that one could have.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
    // SAFETY: no pointers.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
