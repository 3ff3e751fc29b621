// SPDX-License-Identifier: Apache-2.0
//! Replies to the host's own connections come to it through loopback, from addresses that are the
//! host's own (a node port) or loopback's (a node port at 127.0.0.1). The kernel takes such packets for
//! forged unless it is told otherwise; for loopback alone nobody else can send them.
//!
//! A setting that we changed is remembered by an empty directory, so that `cleanup` can take it back.

use std::{fs, io, path::Path};

use super::sysctl;

/// Settings of the loopback device that have to be on.
const SETTINGS: &[&str] = &["accept_local", "route_localnet"];

/// Where the settings of the loopback device are in `/proc`.
pub const LOOPBACK_SETTINGS: &str = "/proc/sys/net/ipv4/conf/lo";

/// Switches the settings on; remembers in `marks` which were off.
pub fn prepare(settings: &Path, marks: &Path) -> io::Result<()> {
    for name in SETTINGS {
        let path = settings.join(name);
        if fs::read_to_string(&path)?.trim() == "0" {
            fs::create_dir_all(marks.join(name))?;
            sysctl::write(&path, "1")?;
        }
    }
    Ok(())
}

/// Switches off again what was off.
pub fn restore(settings: &Path, marks: &Path) -> io::Result<()> {
    for name in SETTINGS {
        let mark = marks.join(name);
        if mark.exists() {
            sysctl::write(&settings.join(name), "0")?;
            fs::remove_dir(mark)?;
        }
    }
    match fs::remove_dir(marks) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_off_is_switched_off_again() {
        let dir = tempfile::tempdir().unwrap();
        let (settings, marks) = (dir.path().join("lo"), dir.path().join("marks"));
        fs::create_dir(&settings).unwrap();
        fs::write(settings.join("accept_local"), "0\n").unwrap();
        fs::write(settings.join("route_localnet"), "1\n").unwrap();
        let read = || SETTINGS.iter().map(|name| fs::read_to_string(settings.join(name)).unwrap());
        prepare(&settings, &marks).unwrap();
        prepare(&settings, &marks).unwrap();
        assert_eq!(read().collect::<Vec<_>>(), ["1", "1\n"]);
        restore(&settings, &marks).unwrap();
        assert_eq!(read().collect::<Vec<_>>(), ["0", "1\n"]);
        assert!(!marks.exists());
        restore(&settings, &marks).unwrap();
    }
}
