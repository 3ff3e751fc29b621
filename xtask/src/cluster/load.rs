// SPDX-License-Identifier: Apache-2.0
//! The load of the rolling restart: servers behind a service, and on every node a client that makes one
//! connection after the other and counts those that fail.

use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::fs;
use std::path::PathBuf;

/// Servers, service and clients.
const OBJECTS: &str = include_str!("load.yaml");
/// Where they are.
pub const NAMESPACE_FLAG: &str = "--namespace=pintle-load";
/// Where a client writes what it has counted.
pub const COUNT_FILE: &str = "/tmp/count";
/// Fewer connections of a client than this show nothing.
const ENOUGH: u64 = 100;

/// What a client has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    made: u64,
    failed: u64,
}

impl Count {
    /// Two numbers: connections, and those of them that failed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().map(str::parse);
        let count = Self { made: numbers.next()?.ok()?, failed: numbers.next()?.ok()? };
        numbers.next().is_none().then_some(count)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} connections, {} failed", self.made, self.failed)
    }
}

/// All clients have worked, and none of their connections has failed.
pub fn judge(counts: &[Count]) -> Result<()> {
    ensure!(!counts.is_empty(), "there are no clients");
    for count in counts {
        ensure!(count.made >= ENOUGH, "a client has made {count}: too few to say anything");
        ensure!(count.failed == 0, "a client has made {count}");
    }
    Ok(())
}

/// The image for both sides in a list of the images that Kubernetes' own tests use: agnhost has a server
/// and a client. Another agnhost in that list, for tests of credentials, cannot be pulled by anybody.
pub fn image(list: &str) -> Result<&str> {
    let found = list.split_whitespace().find(|word| word.contains("e2e-test-images/agnhost:"));
    found.with_context(|| format!("no agnhost among the images of the tests: {list}"))
}

/// Writes the objects where kubectl can read them.
pub fn write(image: &str) -> Result<PathBuf> {
    let folder = workspace::target_dir().join("cluster");
    fs::create_dir_all(&folder)?;
    let path = folder.join("load.yaml");
    fs::write(&path, OBJECTS.replace("image: IMAGE", &format!("image: {image}")))
        .with_context(|| path.display().to_string())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_connection_is_one_too_many_and_too_few_are_nothing() {
        let count = |made, failed| Count { made, failed };
        assert!(judge(&[count(500, 0), count(100, 0)]).is_ok());
        assert!(judge(&[count(500, 0), count(500, 1)]).is_err());
        assert!(judge(&[count(99, 0)]).is_err());
        assert!(judge(&[]).is_err());
    }

    #[test]
    fn a_count_is_two_numbers() {
        assert_eq!(Count::parse("120 3\n"), Some(Count { made: 120, failed: 3 }));
        for text in ["", "120", "120 x", "1 2 3"] {
            assert_eq!(Count::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_image_is_the_one_of_kubernetes_own_tests() {
        let list = "17:03:01 list of images\nexample.org/private/agnhost:2.6\nexample.org/e2e-test-images/agnhost:2.53\n\
             example.org/pause:3.10\n";
        assert_eq!(image(list).unwrap(), "example.org/e2e-test-images/agnhost:2.53");
        assert!(image("example.org/pause:3.10").is_err());
        assert_eq!(OBJECTS.matches("image: IMAGE\n").count(), 2);
    }

    #[test]
    fn the_clients_write_where_the_count_is_read() {
        assert!(OBJECTS.contains(&format!("> {COUNT_FILE}.next")), "{OBJECTS}");
        let namespace = NAMESPACE_FLAG.trim_start_matches("--namespace=");
        assert!(OBJECTS.contains(&format!("name: {namespace}\n")));
    }
}
