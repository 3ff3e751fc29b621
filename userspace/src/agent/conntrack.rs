// SPDX-License-Identifier: Apache-2.0
//! Settings of netfilter's connection tracking, as kube-proxy writes them at its start.
//!
//! Invariants: what is not configured is not touched; what is right already is not written.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;
use tracing::{info, warn};

use crate::{config::resolved::Conntrack, node::sysctl};

const MAX: &str = "proc/sys/net/netfilter/nf_conntrack_max";
const HASH_SIZE: &str = "sys/module/nf_conntrack/parameters/hashsize";
const ONLINE_CPUS: &str = "sys/devices/system/cpu/online";

/// kube-proxy never computes a higher limit from the number of CPUs.
const HIGHEST_MAX: u64 = 1024 * 1024;

/// A value that a file below the root shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    path: &'static str,
    value: u64,
    bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Exactly,
    AtLeast,
}

/// Why a setting is not as configured.
#[derive(Debug, Error)]
pub enum ConntrackError {
    /// It could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It could not be written.
    #[error("set {} to {value}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: u64,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Makes the settings so. `root` is `/`, except in tests.
pub fn apply(root: &Path, conntrack: &Conntrack) -> Result<(), ConntrackError> {
    let settings = settings(conntrack, online_cpus(root));
    if settings.is_empty() {
        return Ok(());
    }
    // Not a failure to write: there is nothing that could fill up or time out.
    if !root.join(MAX).exists() {
        warn!("the kernel does not track connections; its settings are left alone");
        return Ok(());
    }
    settings.iter().try_for_each(|setting| write(root, *setting))
}

/// What is to be set, in kube-proxy's order.
fn settings(conntrack: &Conntrack, cpus: u64) -> Vec<Setting> {
    let exactly = |path, value| Setting { path, value, bound: Bound::Exactly };
    let mut settings = Vec::new();
    if let Some(max) = limit(conntrack, cpus) {
        settings.push(exactly(MAX, max));
        settings.push(Setting { path: HASH_SIZE, value: max / 4, bound: Bound::AtLeast });
    }
    let timeouts = [
        ("proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established", conntrack.tcp_established),
        ("proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait", conntrack.tcp_close_wait),
        ("proc/sys/net/netfilter/nf_conntrack_udp_timeout", conntrack.udp),
        ("proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream", conntrack.udp_stream),
    ];
    let given = timeouts.iter().filter(|(_, timeout)| !timeout.is_zero());
    settings.extend(given.map(|(path, timeout)| exactly(path, timeout.as_secs())));
    if conntrack.tcp_be_liberal {
        settings.push(exactly("proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", 1));
    }
    settings
}

/// The highest limit wins over the configured minimum: that is how kube-proxy computes it.
fn limit(conntrack: &Conntrack, cpus: u64) -> Option<u64> {
    if conntrack.max_per_core == 0 {
        return None;
    }
    match u64::from(conntrack.max_per_core) * cpus {
        scaled if scaled > HIGHEST_MAX => Some(HIGHEST_MAX),
        scaled => Some(scaled.max(u64::from(conntrack.min))).filter(|max| *max > 0),
    }
}

fn write(root: &Path, setting: Setting) -> Result<(), ConntrackError> {
    let Setting { path, value, bound } = setting;
    let path = root.join(path);
    let found = fs::read_to_string(&path)
        .map_err(|source| ConntrackError::Read { path: path.clone(), source })?;
    let found: Option<u64> = found.trim().parse().ok();
    let is_right = found.is_some_and(|found| match bound {
        Bound::Exactly => found == value,
        Bound::AtLeast => found >= value,
    });
    if is_right {
        return Ok(());
    }
    match sysctl::write(&path, &value.to_string()) {
        Ok(()) => {
            info!(path = %path.display(), value, found, "set");
            Ok(())
        }
        // A container runtime may mount /sys so; kube-proxy goes on, too.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem && is_module(setting) => {
            warn!(path = %path.display(), value, %error, "not set; look-ups may be slow");
            Ok(())
        }
        Err(source) => Err(ConntrackError::Write { path, value, source }),
    }
}

fn is_module(setting: Setting) -> bool {
    setting.path == HASH_SIZE
}

/// The kernel's list, such as `0-3,6`: what this process may use says nothing about the node.
fn online_cpus(root: &Path) -> u64 {
    let list = fs::read_to_string(root.join(ONLINE_CPUS)).ok();
    let count = list.and_then(|list| count(list.trim()));
    count.or_else(|| Some(std::thread::available_parallelism().ok()?.get() as u64)).unwrap_or(1)
}

fn count(list: &str) -> Option<u64> {
    list.split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            (last + 1).checked_sub(first)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Files of a kernel, with the values they begin with.
    struct Kernel(tempfile::TempDir);

    impl Kernel {
        fn new(files: &[(&str, &str)]) -> Self {
            let root = tempfile::tempdir().unwrap();
            for (path, value) in files {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, value).unwrap();
            }
            Self(root)
        }

        fn value(&self, path: &str) -> String {
            fs::read_to_string(self.0.path().join(path)).unwrap()
        }
    }

    fn limits(max_per_core: u32, min: u32) -> Conntrack {
        Conntrack { max_per_core, min, ..Conntrack::default() }
    }

    #[test]
    fn the_limit_is_computed_as_kube_proxy_computes_it() {
        for (max_per_core, min, cpus, expected) in [
            (0, 0, 4, None),
            (0, 131_072, 4, None),
            (32_768, 131_072, 1, Some(131_072)),
            (32_768, 131_072, 4, Some(131_072)),
            (32_768, 131_072, 8, Some(262_144)),
            (32_768, 0, 2, Some(65_536)),
            (32_768, 131_072, 32, Some(1_048_576)),
            (32_768, 131_072, 64, Some(1_048_576)),
            // The quirk: more CPUs, and the minimum is forgotten.
            (32_768, 2_000_000, 32, Some(2_000_000)),
            (32_768, 2_000_000, 33, Some(1_048_576)),
        ] {
            let found = limit(&limits(max_per_core, min), cpus);
            assert_eq!(found, expected, "{max_per_core} {min} {cpus}");
        }
    }

    #[test]
    fn what_is_zero_is_left_alone() {
        assert_eq!(settings(&Conntrack::default(), 4), []);
        assert_eq!(settings(&limits(0, 131_072), 4), []);
        let conntrack = Conntrack {
            tcp_close_wait: Duration::from_secs(3600),
            tcp_be_liberal: true,
            udp_stream: Duration::from_millis(5900),
            ..Conntrack::default()
        };
        let found = settings(&conntrack, 4);
        let found: Vec<_> = found
            .iter()
            .map(|s| (s.path.rsplit_once("nf_conntrack_").unwrap().1, s.value))
            .collect();
        assert_eq!(
            found,
            [("tcp_timeout_close_wait", 3600), ("udp_timeout_stream", 5), ("tcp_be_liberal", 1)]
        );
    }

    #[test]
    fn only_what_differs_is_written() {
        let established = "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established";
        let kernel = Kernel::new(&[
            (MAX, "65536\n"),
            (HASH_SIZE, "65536\n"),
            (ONLINE_CPUS, "0-3\n"),
            (established, "86400\n"),
        ]);
        let conntrack =
            Conntrack { tcp_established: Duration::from_secs(86_400), ..limits(32_768, 0) };
        apply(kernel.0.path(), &conntrack).unwrap();
        assert_eq!(kernel.value(MAX), "131072");
        assert_eq!(kernel.value(HASH_SIZE), "65536\n", "enough already");
        assert_eq!(kernel.value(established), "86400\n", "right already");
        apply(kernel.0.path(), &limits(131_072, 0)).unwrap();
        assert_eq!(kernel.value(HASH_SIZE), "131072");
    }

    #[test]
    fn a_setting_that_cannot_be_made_is_an_error_with_its_path() {
        let kernel = Kernel::new(&[(MAX, "1"), (ONLINE_CPUS, "0")]);
        let error = apply(kernel.0.path(), &limits(1000, 0)).unwrap_err();
        assert!(error.to_string().contains(HASH_SIZE), "{error}");
    }

    #[test]
    fn a_kernel_that_tracks_nothing_is_left_alone() {
        let kernel = Kernel::new(&[(ONLINE_CPUS, "0-1")]);
        apply(kernel.0.path(), &limits(1000, 0)).unwrap();
        assert!(!kernel.0.path().join(MAX).exists());
    }

    #[test]
    fn cpus_are_counted_from_the_kernel_s_list() {
        for (list, expected) in
            [("0", Some(1)), ("0-3", Some(4)), ("0-1,4,6-7", Some(5)), ("x", None)]
        {
            assert_eq!(count(list), expected, "{list}");
        }
    }
}
