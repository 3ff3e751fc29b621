// SPDX-License-Identifier: Apache-2.0
//! Rules for Rust files: how they open, how long they are, what they may import and print.

use super::File;

const CODE_CEILING: usize = 500;
const TEST_CEILING: usize = 800;
const LICENCE: &str = "// SPDX-License-Identifier: Apache-2.0";

/// Names that say nothing about what is inside.
const VAGUE: &[&str] = &["utils", "util", "helpers", "common", "misc"];

/// A crate that only some folders of user space may name, and why.
struct Border {
    name: &'static str,
    folder: &'static str,
    reason: &'static str,
}

const BORDERS: &[Border] = &[
    Border {
        name: "aya",
        folder: "userspace/src/datapath",
        reason: "only datapath touches the kernel",
    },
    Border {
        name: "k8s_openapi",
        folder: "userspace/src/source",
        reason: "only source knows Kubernetes' types",
    },
];

/// Places that may write to the terminal; a build script talks to cargo that way.
const PRINTERS: &[&str] = &["userspace/src/cli", "bench/src", "lab/src", "xtask/", "tests/"];

/// The violations in one Rust file.
pub fn check(file: &File) -> Vec<String> {
    let rules = [opening, length, name, borders, prints];
    let found = rules.iter().flat_map(|rule| rule(file));
    found.map(|what| format!("{}: {what}", file.path)).collect()
}

fn opening(file: &File) -> Option<String> {
    let mut lines = file.text.lines();
    if lines.next() != Some(LICENCE) {
        return Some(format!("the first line must be `{LICENCE}`"));
    }
    let purpose = lines.next().is_some_and(|line| line.starts_with("//! "));
    (!purpose).then(|| "the second line must be `//!` and the file's purpose".into())
}

fn length(file: &File) -> Option<String> {
    let is_test = file.path.starts_with("tests/") || file.path.ends_with("/tests.rs");
    let (count, ceiling) = match is_test {
        true => (file.text.lines().count(), TEST_CEILING),
        false => (code(&file.text).count(), CODE_CEILING),
    };
    (count > ceiling).then(|| format!("{count} lines, the ceiling is {ceiling}"))
}

/// The lines in front of the unit tests, which are at the bottom.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| *line != "#[cfg(test)]")
}

fn name(file: &File) -> Option<String> {
    let mut parts = file.path.trim_end_matches(".rs").split('/');
    let vague = parts.find(|part| VAGUE.contains(part))?;
    Some(format!("`{vague}` says nothing about what is inside"))
}

fn borders(file: &File) -> Option<String> {
    let outside = |border: &&Border| {
        file.path.starts_with("userspace/src/") && !within(&file.path, border.folder)
    };
    let crossed = BORDERS.iter().filter(outside).find(|border| {
        let path = format!("{}::", border.name);
        let lines = file.text.lines().map(str::trim_start);
        lines.filter(|line| !line.starts_with("//")).any(|line| names_crate(line, &path))
    })?;
    Some(format!("names {}, but {}", crossed.name, crossed.reason))
}

fn within(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// Whether `path` occurs in the line as the beginning of a path, not inside a longer name.
fn names_crate(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':')
    })
}

fn prints(file: &File) -> Option<String> {
    let may_print = PRINTERS.iter().any(|place| file.path.starts_with(place))
        || file.path.ends_with("/build.rs");
    if may_print {
        return None;
    }
    let line = code(&file.text).map(str::trim_start).position(|line| {
        !line.starts_with("//") && ["print!(", "println!("].iter().any(|call| line.contains(call))
    })?;
    Some(format!("line {} prints; only cli and main do", line + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, body: &str) -> Vec<String> {
        let text = format!("{LICENCE}\n//! Purpose.\n{body}");
        check(&File { path: path.into(), text })
    }

    #[test]
    fn a_file_opens_with_licence_and_purpose() {
        assert_eq!(complaints("abi/src/addr.rs", "fn f() {}"), [""; 0]);
        let file = |text: &str| File { path: "abi/src/addr.rs".into(), text: text.into() };
        assert!(check(&file("fn f() {}"))[0].contains("first line"));
        assert!(check(&file(&format!("{LICENCE}\nfn f() {{}}")))[0].contains("purpose"));
    }

    #[test]
    fn tests_at_the_bottom_do_not_count_as_code() {
        let long = "\n".repeat(CODE_CEILING);
        assert_eq!(complaints("abi/src/addr.rs", &format!("#[cfg(test)]\n{long}")), [""; 0]);
        assert!(complaints("abi/src/addr.rs", &long)[0].contains("502 lines"));
        assert_eq!(complaints("tests/datapath/clusterip.rs", &long), [""; 0]);
    }

    #[test]
    fn vague_names_are_refused() {
        assert_eq!(complaints("userspace/src/utils/time.rs", "").len(), 1);
        assert_eq!(complaints("userspace/src/helpers.rs", "").len(), 1);
    }

    #[test]
    fn crates_stay_behind_their_borders() {
        assert_eq!(complaints("userspace/src/datapath/maps.rs", "use aya::Ebpf;"), [""; 0]);
        assert_eq!(complaints("userspace/src/plan/mod.rs", "use aya::Ebpf;").len(), 1);
        assert_eq!(complaints("userspace/src/plan/mod.rs", "// as aya::Ebpf does"), [""; 0]);
        assert_eq!(complaints("userspace/src/plan/mod.rs", "use himalaya::Peak;"), [""; 0]);
        assert_eq!(complaints("userspace/src/server/mod.rs", "k8s_openapi::api::X").len(), 1);
    }

    #[test]
    fn only_the_command_line_prints() {
        assert_eq!(complaints("userspace/src/cli/status.rs", "println!()"), [""; 0]);
        assert!(complaints("userspace/src/plan/mod.rs", "eprintln!(\"x\")")[0].contains("line 3"));
        assert_eq!(complaints("userspace/src/plan/mod.rs", "// println!()"), [""; 0]);
    }
}
