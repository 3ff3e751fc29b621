// SPDX-License-Identifier: Apache-2.0
//! Finds and downloads a kernel package with apt.
//!
//! First with the machine's own lists. When they do not have the series, with lists of our own in
//! `target/vm/apt`: the same mirrors, and on the main one the suites that carry the series. No
//! mirror is named here; it is the machine's.

use super::folder;
use crate::workspace::run_quietly;
use anyhow::{Context, Result, anyhow};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Suites of the main archive that carry one of our series.
const EXTRA_SUITES: &[&str] = &["bookworm", "bookworm-backports", "trixie"];

/// Where apt keeps its state: the machine's own places, or a folder of ours.
enum Lists {
    System,
    Private(PathBuf),
}

impl Lists {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-o", "APT::Sandbox::User="]);
        if let Self::Private(folder) = self {
            let option =
                |name: &str, place: &str| format!("{name}={}", folder.join(place).display());
            command
                .args(["-o", &option("Dir::Etc::sourcelist", "sources.list")])
                .args(["-o", "Dir::Etc::sourceparts=-"])
                .args(["-o", &option("Dir::State::lists", "lists")])
                .args(["-o", &option("Dir::Cache", "cache")]);
        }
        command
    }

    /// The newest signed kernel package of the series.
    fn newest(&self, series: &str) -> Option<String> {
        let pattern = format!("^linux-image-{}\\.[0-9].*-cloud-amd64$", series.replace('.', "\\."));
        let mut search = self.command("apt-cache");
        let text = run_quietly(search.args(["search", "--names-only", &pattern])).ok()?;
        newest(text.lines().filter_map(|line| line.split_whitespace().next()))
    }
}

/// Downloads the package into `into` and returns its path.
pub fn download(series: &str, into: &Path) -> Result<PathBuf> {
    let system = fetch(&Lists::System, series, into);
    let package = system.or_else(|_| fetch(&private_lists()?, series, into))?;
    fs::canonicalize(&package).with_context(|| package.display().to_string())
}

fn fetch(lists: &Lists, series: &str, into: &Path) -> Result<PathBuf> {
    let name =
        lists.newest(series).ok_or_else(|| anyhow!("no apt source has a kernel {series}"))?;
    run_quietly(lists.command("apt-get").args(["download", &name]).current_dir(into))?;
    let files = fs::read_dir(into).with_context(|| into.display().to_string())?.flatten();
    let prefix = format!("{name}_");
    let mut files = files.filter(|file| file.file_name().to_string_lossy().starts_with(&prefix));
    Ok(files.next().context("apt-get download left no file")?.path())
}

/// Lists of our own, refreshed. A suite that the mirror does not have fails alone.
fn private_lists() -> Result<Lists> {
    let own = folder("apt");
    for place in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(own.join(place)).with_context(|| own.display().to_string())?;
    }
    let sources = system_sources();
    let mirror = sources.iter().find(|line| !line.contains("security"));
    let mirror = mirror.and_then(|line| line.split_whitespace().find(|word| word.contains(":/")));
    let mirror = mirror.context("this machine has no apt source to take the mirror from")?;
    let extra = EXTRA_SUITES.iter().map(|suite| format!("deb {mirror} {suite} main"));
    let lines: Vec<_> = sources.iter().cloned().chain(extra).collect();
    fs::write(own.join("sources.list"), lines.join("\n") + "\n")?;
    let lists = Lists::Private(own);
    if let Err(error) = run_quietly(lists.command("apt-get").args(["update", "-qq"])) {
        eprintln!("some apt sources did not answer: {error:#}");
    }
    Ok(lists)
}

/// The machine's binary sources as one-line entries, without options.
fn system_sources() -> Vec<String> {
    let mut texts = vec![(false, fs::read_to_string("/etc/apt/sources.list").unwrap_or_default())];
    for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
        let is_stanza = entry.path().extension().is_some_and(|extension| extension == "sources");
        let is_list = entry.path().extension().is_some_and(|extension| extension == "list");
        if is_stanza || is_list {
            texts.push((is_stanza, fs::read_to_string(entry.path()).unwrap_or_default()));
        }
    }
    let lines = texts.iter().flat_map(|(is_stanza, text)| match is_stanza {
        true => stanza_entries(text),
        false => list_entries(text),
    });
    lines.filter(|line| line.contains("debian")).collect()
}

/// `deb [options] URI suite component...`
fn list_entries(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("deb "));
    let without_options = lines.map(|line| match (line.find('['), line.find(']')) {
        (Some(open), Some(close)) if open < close => format!("deb{}", &line[close + 1..]),
        _ => line.to_owned(),
    });
    without_options.collect()
}

/// Paragraphs of `URIs:`, `Suites:`, `Components:`.
fn stanza_entries(text: &str) -> Vec<String> {
    let mut entries = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            let line = stanza.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().collect::<Vec<_>>())
        };
        let (Some(uris), Some(suites)) = (field("URIs:"), field("Suites:")) else { continue };
        let components = field("Components:").unwrap_or_default().join(" ");
        for uri in uris {
            entries.extend(suites.iter().map(|suite| format!("deb {uri} {suite} {components}")));
        }
    }
    entries
}

/// The name with the highest numbers.
fn newest<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let numbers = |name: &str| -> Vec<u32> {
        name.split(|letter: char| !letter.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .collect()
    };
    names.max_by_key(|name| numbers(name)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_wins_not_the_last_word() {
        let names = ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64"];
        assert_eq!(newest(names.into_iter()).as_deref(), Some(names[1]));
        assert_eq!(newest([].into_iter()), None);
    }

    #[test]
    fn both_forms_of_apt_sources_are_understood() {
        let stanza = "Types: deb\nURIs: http://mirror/debian\nSuites: a b\nComponents: main\n";
        let expected = ["deb http://mirror/debian a main", "deb http://mirror/debian b main"];
        assert_eq!(stanza_entries(stanza), expected);
        let list =
            "# no\ndeb [signed-by=/k] http://mirror/debian a main\ndeb-src http://x a main\n";
        assert_eq!(list_entries(list), ["deb http://mirror/debian a main"]);
    }
}
