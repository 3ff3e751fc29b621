// SPDX-License-Identifier: Apache-2.0
//! Writes the settings of the node's network. A container runtime mounts `/proc/sys` read-only; the
//! DaemonSet has the same files where they can be written.

use std::{fs, io, path::Path};

/// Below this the DaemonSet mounts what belongs to the node.
const HOST: &str = "/host";

/// Writes a file of `/proc/sys/net`.
pub fn write(path: &Path, value: &str) -> io::Result<()> {
    write_below(Path::new(HOST), path, value)
}

fn write_below(host: &Path, path: &Path, value: &str) -> io::Result<()> {
    let refused = match fs::write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => error,
        result => return result,
    };
    match fs::write(host.join(path.strip_prefix("/").unwrap_or(path)), value) {
        // There is no such mount: the first error is the one to tell.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(refused),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_read_only_file_is_written_where_the_node_s_is() {
        let dir = tempfile::tempdir().unwrap();
        let (host, path) = (dir.path().join("host"), dir.path().join("sys/a"));
        fs::create_dir(dir.path().join("sys")).unwrap();
        write_below(&host, &path, "1").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1");
        let missing = write_below(&host, &dir.path().join("none/a"), "1").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(!host.exists());
    }
}
