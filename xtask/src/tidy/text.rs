// SPDX-License-Identifier: Apache-2.0
//! Rules for every text file: nothing in it may belong to one machine or one mirror.

use super::File;

/// Hosts that packages and images come from, in two pieces so that this file passes its own rule.
const HOSTS: &[(&str, &str)] = &[
    ("docker", ".io"),
    ("gcr", ".io"),
    ("ghcr", ".io"),
    ("quay", ".io"),
    ("registry.k8s", ".io"),
    ("crates", ".io"),
    ("deb.debian", ".org"),
    ("security.debian", ".org"),
    ("snapshot.debian", ".org"),
    ("static.rust-lang", ".org"),
    ("pypi", ".org"),
    ("registry.", "npmjs.org"),
    ("proxy.golang", ".org"),
];

/// The folder of the machine this was written on, in two pieces for the same reason.
const MACHINE_FOLDER: (&str, &str) = ("/wo", "rk/");

/// The violations in one file. The lock file names its registry; cargo writes it.
pub fn check(file: &File) -> Vec<String> {
    if file.path == "Cargo.lock" {
        return Vec::new();
    }
    let hosts = HOSTS.iter().map(|(head, tail)| (format!("{head}{tail}"), "names the host"));
    let folder = (MACHINE_FOLDER.0.to_owned() + MACHINE_FOLDER.1, "has a path of one machine:");
    let patterns: Vec<_> = hosts.chain([folder]).collect();
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for (pattern, complaint) in &patterns {
            if stands_alone(line, pattern) {
                complaints.push(format!("{}: line {number} {complaint} {pattern}", file.path));
            }
        }
    }
    complaints
}

/// Whether the pattern occurs where a name begins: `/a/b/` is not in `/x/a/b/`.
fn stands_alone(line: &str, pattern: &str) -> bool {
    line.match_indices(pattern).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || "._-$}".contains(before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&File { path: path.into(), text: text.into() }).len()
    }

    #[test]
    fn hosts_of_registries_are_refused() {
        let image = ["image: ghcr", ".io/pintle:1"].concat();
        assert_eq!(count("manifests/base/daemonset.yaml", &image), 1);
        assert_eq!(count("manifests/base/daemonset.yaml", "image: pintle:1"), 0);
        assert_eq!(count("Cargo.lock", &["https://crates", ".io"].concat()), 0);
    }

    #[test]
    fn paths_of_one_machine_are_refused() {
        let path = ["\"/wo", "rk/main\""].concat();
        assert_eq!(count("README.md", &path), 1);
        assert_eq!(count("README.md", &["target", "/wo", "rk/x"].concat()), 0);
    }
}
