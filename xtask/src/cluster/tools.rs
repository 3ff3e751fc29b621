// SPDX-License-Identifier: Apache-2.0
//! The programs that a cluster needs. None is installed by us: each is somebody's choice.

use crate::workspace;
use anyhow::{Result, bail};
use std::path::PathBuf;

/// How to get what is missing.
const KIND: &str = "`kind` makes the cluster: `go install sigs.k8s.io/kind@latest`, or a release of \
    kubernetes-sigs/kind";
const KUBECTL: &str = "`kubectl` talks to the cluster: kubernetes.io/docs/tasks/tools";
const ENGINE: &str = "a container engine runs its nodes: Docker, nerdctl or Podman \
    (KIND_EXPERIMENTAL_PROVIDER names the one to use)";
const TESTS: &str = "`hydrophone` runs Kubernetes' own tests: \
    `go install sigs.k8s.io/hydrophone@latest`; or put Kubernetes' `e2e.test` into PATH";

/// Container engines that kind works with, the one that it prefers first.
const ENGINES: [&str; 3] = ["docker", "nerdctl", "podman"];

/// What runs Kubernetes' own tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// In the cluster, from the image of the cluster's version.
    Hydrophone(PathBuf),
    /// From here; must be of the cluster's version.
    E2eTest(PathBuf),
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Tools {
    pub kind: PathBuf,
    pub kubectl: PathBuf,
    pub engine: PathBuf,
    pub runner: Runner,
}

impl Tools {
    /// Finds them all; an error names all that are missing, with where to get them.
    pub fn find() -> Result<Self> {
        let provider = std::env::var("KIND_EXPERIMENTAL_PROVIDER").ok();
        Self::choose(provider.as_deref(), workspace::find_program)
    }

    fn choose(provider: Option<&str>, find: impl Fn(&str) -> Option<PathBuf>) -> Result<Self> {
        let engine = match provider {
            Some(name) => find(name),
            None => ENGINES.into_iter().find_map(&find),
        };
        let runner = find("hydrophone").map(Runner::Hydrophone);
        let runner = runner.or_else(|| find("e2e.test").map(Runner::E2eTest));
        match (find("kind"), find("kubectl"), engine, runner) {
            (Some(kind), Some(kubectl), Some(engine), Some(runner)) => {
                Ok(Self { kind, kubectl, engine, runner })
            }
            (kind, kubectl, engine, runner) => {
                let lacks = [
                    (kind.is_none(), KIND),
                    (kubectl.is_none(), KUBECTL),
                    (engine.is_none(), ENGINE),
                    (runner.is_none(), TESTS),
                ];
                let missing = lacks.into_iter().filter(|(is_missing, _)| *is_missing);
                let lines: Vec<&str> = missing.map(|(_, advice)| advice).collect();
                bail!("missing for a cluster: {}", lines.join("; "))
            }
        }
    }
}

/// Why this machine cannot run a cluster, if so.
pub fn obstacle() -> Option<String> {
    Tools::find().err().map(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(provider: Option<&str>, present: &[&str]) -> Result<Tools, String> {
        let find = |name: &str| present.contains(&name).then(|| PathBuf::from(name));
        Tools::choose(provider, find).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_that_is_missing_is_named_with_where_to_get_it() {
        let message = choose(None, &[]).unwrap_err();
        for word in ["`kind`", "`kubectl`", "Docker", "`hydrophone`", "go install"] {
            assert!(message.contains(word), "{word}: {message}");
        }
        let message = choose(None, &["podman", "kubectl", "hydrophone"]).unwrap_err();
        assert!(message.contains("`kind`") && !message.contains("`kubectl`"), "{message}");
    }

    #[test]
    fn the_engine_is_the_one_that_kind_takes() {
        let others = ["kind", "kubectl", "hydrophone"];
        let with = |engines: &[&'static str]| [&others[..], engines].concat();
        let engine = |provider, engines| choose(provider, &with(engines)).map(|it| it.engine);
        assert_eq!(engine(None, &["podman", "docker"]), Ok("docker".into()));
        assert_eq!(engine(None, &["podman", "nerdctl"]), Ok("nerdctl".into()));
        assert_eq!(engine(Some("podman"), &["podman", "docker"]), Ok("podman".into()));
        assert!(engine(Some("nerdctl"), &["docker"]).unwrap_err().contains("container engine"));
    }

    #[test]
    fn hydrophone_is_preferred_and_the_tests_themselves_will_do() {
        let base = ["kind", "kubectl", "docker", "e2e.test"];
        let runner = choose(None, &base).unwrap().runner;
        assert_eq!(runner, Runner::E2eTest("e2e.test".into()));
        let runner = choose(None, &[&base[..], &["hydrophone"]].concat()).unwrap().runner;
        assert_eq!(runner, Runner::Hydrophone("hydrophone".into()));
    }
}
