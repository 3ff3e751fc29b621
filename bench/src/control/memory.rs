// SPDX-License-Identifier: Apache-2.0
//! The kernel's memory as a memory cgroup charges it: x_tables, nf_tables and maps alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// A memory cgroup that this process, and what it starts, is in.
pub struct MemoryGroup {
    path: PathBuf,
    /// Where this process came from.
    home: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl MemoryGroup {
    /// Moves this process into a new one; none where memory is not charged to cgroups.
    pub fn enter() -> Result<Option<Self>> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let Some((root, home, version)) = find(&mounts, &own) else { return Ok(None) };
        let home = root.join(home);
        static SEQUENCE: AtomicU32 = AtomicU32::new(0);
        let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let path = home.join(format!("pintle-lab-{}-{sequence}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let group = Self { path, home, version };
        // A v2 hierarchy may not hand the controller on to this place.
        if group.kernel_bytes().is_err() {
            return Ok(None);
        }
        group.move_to(&group.path).context("enter the memory cgroup")?;
        Ok(Some(group))
    }

    /// What the kernel holds for this process and what it started.
    pub fn kernel_bytes(&self) -> Result<u64> {
        let read = |name: &str| fs::read_to_string(self.path.join(name));
        let text = match self.version {
            Version::V1 => read("memory.kmem.usage_in_bytes")?,
            Version::V2 => {
                let stat = read("memory.stat")?;
                let line = stat.lines().find_map(|line| line.strip_prefix("kernel "));
                line.context("memory.stat has no kernel memory")?.to_owned()
            }
        };
        text.trim().parse().context("kernel memory")
    }

    fn move_to(&self, folder: &Path) -> std::io::Result<()> {
        fs::write(folder.join("cgroup.procs"), std::process::id().to_string())
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = self.move_to(&self.home);
        let _ = fs::remove_dir(&self.path);
    }
}

/// Mount and own place in the hierarchy of the memory controller.
fn find(mounts: &str, own: &str) -> Option<(PathBuf, PathBuf, Version)> {
    let mount = |wanted: &dyn Fn(&str, &str) -> bool| {
        mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            wanted(fields.get(2)?, fields.get(3)?).then(|| PathBuf::from(fields[1]))
        })
    };
    let is_v1 = |kind: &str, options: &str| {
        kind == "cgroup" && options.split(',').any(|option| option == "memory")
    };
    let place = |is: &dyn Fn(&str) -> bool| {
        own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let controllers = parts.next()?;
            let path = parts.next()?;
            is(controllers).then(|| PathBuf::from(path.trim_start_matches('/')))
        })
    };
    let of_memory = |controllers: &str| controllers.split(',').any(|name| name == "memory");
    if let (Some(root), Some(home)) = (mount(&is_v1), place(&of_memory)) {
        return Some((root, home, Version::V1));
    }
    let root = mount(&|kind, _| kind == "cgroup2")?;
    Some((root, place(&str::is_empty)?, Version::V2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_is_found_in_either_hierarchy() {
        let mounts = "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let (root, home, version) = find(mounts, "4:memory:/a/b\n0::/c\n").unwrap();
        assert_eq!((root, home), ("/sys/fs/cgroup/memory".into(), "a/b".into()));
        assert!(version == Version::V1);
        let (root, home, version) =
            find("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "0::/user.slice\n").unwrap();
        assert_eq!((root, home), ("/sys/fs/cgroup".into(), "user.slice".into()));
        assert!(version == Version::V2);
        assert!(find("proc /proc proc rw 0 0\n", "").is_none());
    }
}
