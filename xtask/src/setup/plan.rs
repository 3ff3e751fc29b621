// SPDX-License-Identifier: Apache-2.0
//! From the state of the machine to a list of steps; pure.

use super::facts::Facts;
use crate::linker;

/// One thing to do, or one thing to tell because we cannot do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Install Debian packages.
    Packages {
        /// Their names.
        names: Vec<&'static str>,
        /// The build does not work without them.
        needed_to_build: bool,
    },
    /// `rustup component add rust-src`.
    RustSrc,
    /// `rustup target add` for the image's static binary.
    StaticTarget,
    /// `rustup component add` for what the checks need.
    Checkers(Vec<&'static str>),
    /// Build and install bpf-linker.
    Linker {
        /// Into our own target directory, because another version lives in the ordinary place.
        private: bool,
    },
    /// Mount the bpf file system.
    Bpffs,
    /// Something only the user can do.
    Tell {
        /// What is missing and what to do.
        message: String,
        /// The build does not work without it.
        needed_to_build: bool,
    },
}

impl Step {
    /// Whether a plain `cargo build` fails as long as this is not done.
    pub fn is_needed_to_build(&self) -> bool {
        match self {
            Self::RustSrc | Self::Linker { .. } => true,
            Self::StaticTarget | Self::Checkers(_) | Self::Bpffs => false,
            Self::Packages { needed_to_build, .. } | Self::Tell { needed_to_build, .. } => {
                *needed_to_build
            }
        }
    }
}

/// What to do on a machine like this, in order.
pub fn plan(facts: &Facts) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(packages(facts, [&facts.build_packages[..], &facts.linker_packages], true));
    steps.extend(rust_parts(facts));
    steps.extend(linker(facts));
    steps.extend(packages(facts, [&facts.test_packages[..], &[]], false));
    if !facts.bpffs {
        steps.push(if facts.root { Step::Bpffs } else { ask_for_root("mount bpffs", false) });
    }
    steps
}

fn packages(facts: &Facts, groups: [&[&'static str]; 2], needed_to_build: bool) -> Option<Step> {
    let names = groups.concat();
    if names.is_empty() {
        return None;
    }
    let list = names.join(" ");
    Some(match (facts.apt, facts.root) {
        (true, true) => Step::Packages { names, needed_to_build },
        (true, false) => ask_for_root(&format!("run `apt-get install {list}`"), needed_to_build),
        (false, _) => Step::Tell {
            message: format!("install what Debian calls {list} (no apt-get here)"),
            needed_to_build,
        },
    })
}

/// Without its packages the linker cannot be built; the user was told about those.
fn linker(facts: &Facts) -> Option<Step> {
    let has_packages = facts.linker_packages.is_empty() || (facts.apt && facts.root);
    match &facts.linker {
        linker::Found::Ready(_) => None,
        _ if !has_packages => None,
        linker::Found::Missing => Some(Step::Linker { private: false }),
        linker::Found::Other(_) => Some(Step::Linker { private: true }),
    }
}

fn rust_parts(facts: &Facts) -> Vec<Step> {
    let mut steps = Vec::new();
    if !facts.rust_src && facts.rustup {
        steps.push(Step::RustSrc);
    }
    if !facts.rust_src && !facts.rustup {
        let message = "install rustup, or the source of the standard library (rust-src)".into();
        steps.push(Step::Tell { message, needed_to_build: true });
    }
    if !facts.static_target && facts.rustup {
        steps.push(Step::StaticTarget);
    }
    if !facts.checkers.is_empty() && facts.rustup {
        steps.push(Step::Checkers(facts.checkers.clone()));
    }
    steps
}

fn ask_for_root(what: &str, needed_to_build: bool) -> Step {
    Step::Tell { message: format!("{what} as root"), needed_to_build }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn complete() -> Facts {
        Facts {
            root: true,
            apt: true,
            rustup: true,
            rust_src: true,
            static_target: true,
            checkers: vec![],
            linker: linker::Found::Ready(PathBuf::from("bpf-linker")),
            linker_packages: vec![],
            build_packages: vec![],
            test_packages: vec![],
            bpffs: true,
        }
    }

    fn bare() -> Facts {
        Facts {
            rust_src: false,
            static_target: false,
            checkers: vec!["clippy"],
            linker: linker::Found::Missing,
            linker_packages: vec!["llvm-22-dev"],
            build_packages: vec!["gcc"],
            test_packages: vec!["cpio"],
            bpffs: false,
            ..complete()
        }
    }

    #[test]
    fn a_complete_machine_needs_no_step() {
        assert_eq!(plan(&complete()), []);
    }

    #[test]
    fn a_bare_machine_gets_packages_before_what_is_built_from_them() {
        let expected = [
            Step::Packages { names: vec!["gcc", "llvm-22-dev"], needed_to_build: true },
            Step::RustSrc,
            Step::StaticTarget,
            Step::Checkers(vec!["clippy"]),
            Step::Linker { private: false },
            Step::Packages { names: vec!["cpio"], needed_to_build: false },
            Step::Bpffs,
        ];
        assert_eq!(plan(&bare()), expected);
    }

    #[test]
    fn another_version_of_the_linker_is_left_alone() {
        let facts = Facts { linker: linker::Found::Other("0.9.15".into()), ..complete() };
        assert_eq!(plan(&facts), [Step::Linker { private: true }]);
    }

    #[test]
    fn without_root_packages_and_mounts_become_advice() {
        let steps = plan(&Facts { root: false, ..bare() });
        let told = steps.iter().filter(|step| matches!(step, Step::Tell { .. })).count();
        assert_eq!(told, 3);
        assert!(steps[0].is_needed_to_build());
        assert!(!steps.iter().any(|step| matches!(step, Step::Packages { .. } | Step::Bpffs)));
        assert!(!steps.contains(&Step::Linker { private: false }));
        let with_packages = Facts { root: false, linker_packages: vec![], ..bare() };
        assert!(plan(&with_packages).contains(&Step::Linker { private: false }));
    }

    #[test]
    fn without_rustup_the_missing_source_is_told_and_blocks_the_build() {
        let steps = plan(&Facts { rustup: false, rust_src: false, ..complete() });
        assert!(matches!(&steps[..], [Step::Tell { needed_to_build: true, .. }]));
    }
}
