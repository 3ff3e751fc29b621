// SPDX-License-Identifier: Apache-2.0
//! Where processes are: the cgroup v2 hierarchy, wherever it is mounted.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// The root of the cgroup v2 hierarchy; `None` if it is not mounted.
pub fn find_root() -> io::Result<Option<PathBuf>> {
    Ok(root_in(&fs::read_to_string("/proc/mounts")?))
}

/// The first mount of the hierarchy in a table of mounts.
fn root_in(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| unescape(path).into())
    })
}

/// The kernel writes blanks in paths as octal numbers.
fn unescape(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (code, letter)| path.replace(code, letter))
}

/// The threads in a cgroup and in those below it; what ends meanwhile may be missing.
pub fn threads(cgroup: &Path) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut open = vec![cgroup.to_owned()];
    while let Some(dir) = open.pop() {
        // Threads and not processes: a cgroup may hold some of a process only.
        let text = fs::read_to_string(dir.join("cgroup.threads")).unwrap_or_default();
        // 0 is a thread of a process that this one cannot see.
        let ids = text.lines().filter_map(|line| line.parse::<u32>().ok());
        found.extend(ids.filter(|id| *id != 0));
        let below = fs::read_dir(&dir).into_iter().flatten().flatten();
        let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        open.extend(below.filter(is_dir).map(|entry| entry.path()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_wherever_it_is_mounted() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(root_in(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let unified = "proc /proc proc rw 0 0\nnone /a\\040b cgroup2 rw 0 0\n";
        assert_eq!(root_in(unified), Some("/a b".into()));
        assert_eq!(root_in("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"), None);
    }

    #[test]
    fn threads_of_cgroups_below_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(dir.path().join("cgroup.threads"), "7\n0\n").unwrap();
        fs::write(below.join("cgroup.threads"), "9\n8\n").unwrap();
        assert_eq!(threads(dir.path()), BTreeSet::from([7, 8, 9]));
    }
}
