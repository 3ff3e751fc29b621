// SPDX-License-Identifier: Apache-2.0
//! Every command that is run, in one place; nothing here runs any.

use super::load;
use super::tools::{Runner, Tools};
use crate::workspace;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The cluster's name, which the kind overlay's address of the API server is made of.
pub const NAME: &str = "pintle";
/// Which of Kubernetes' tests: all of sig-network that a conformant cluster must pass, and those of
/// services that go further.
pub const FOCUS: &str = r"\[sig-network\].*\[Conformance\]|\[sig-network\] Services should";
/// But for those that break nodes, take for ever, need a cloud, or a feature that is off; and those of
/// Ingress, which is nothing of ours.
pub const SKIP: &str =
    r"\[Disruptive\]|\[Serial\]|\[Slow\]|\[Flaky\]|\[Feature:|\[Alpha\]|LoadBalancer|Ingress|ESIPP";
/// How many of them at a time.
const PARALLEL: &str = "4";
/// How long agents, nodes and pods may take: images have to be pulled.
const PATIENCE: &str = "--timeout=10m";

/// The commands for a set of tools.
pub struct Commands {
    tools: Tools,
    kubeconfig: PathBuf,
    results: PathBuf,
}

impl Commands {
    /// With a kubeconfig and a folder for results of our own below the target directory.
    pub fn new(tools: Tools) -> Self {
        let folder = workspace::target_dir().join("cluster");
        Self { tools, kubeconfig: folder.join("kubeconfig"), results: folder.join("results") }
    }

    /// Where the results of Kubernetes' own tests are left.
    pub fn results(&self) -> &Path {
        &self.results
    }

    pub fn clusters(&self) -> Command {
        command(&self.tools.kind, ["get", "clusters"])
    }

    /// Does not wait for the nodes: what runs there first is ours.
    pub fn create(&self) -> Command {
        let mut command = self.kind(["create", "cluster"]);
        command.arg("--config").arg(overlay().join("cluster.yaml"));
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command
    }

    pub fn delete(&self) -> Command {
        let mut command = self.kind(["delete", "cluster"]);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command
    }

    pub fn nodes(&self) -> Command {
        self.kind(["get", "nodes"])
    }

    pub fn load_image(&self, archive: &Path) -> Command {
        let mut command = self.kind(["load", "image-archive"]);
        command.arg(archive);
        command
    }

    pub fn mount_bpffs(&self, node: &str) -> Command {
        let mount = "mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf";
        command(&self.tools.engine, ["exec", node, "sh", "-c", mount])
    }

    pub fn apply(&self) -> Command {
        let mut command = self.kubectl(["apply", "-k"]);
        command.arg(overlay());
        command
    }

    pub fn apply_file(&self, file: &Path) -> Command {
        let mut command = self.kubectl(["apply", "-f"]);
        command.arg(file);
        command
    }

    pub fn wait_for_agents(&self) -> Command {
        self.kubectl(["--namespace=kube-system", "rollout", "status", "daemonset/pintle", PATIENCE])
    }

    pub fn wait_for_nodes(&self) -> Command {
        self.kubectl(["wait", "--for=condition=Ready", "nodes", "--all", PATIENCE])
    }

    pub fn wait_for_load(&self) -> Command {
        let namespace = load::NAMESPACE_FLAG;
        self.kubectl([namespace, "wait", "--for=condition=Ready", "pods", "--all", PATIENCE])
    }

    pub fn restart(&self) -> Command {
        self.kubectl(["--namespace=kube-system", "rollout", "restart", "daemonset/pintle"])
    }

    /// Prints the names of the clients' pods.
    pub fn clients(&self) -> Command {
        self.kubectl([
            load::NAMESPACE_FLAG,
            "get",
            "pods",
            "--selector=app=client",
            "--output=name",
        ])
    }

    /// Prints what a client has counted.
    pub fn count_of(&self, client: &str) -> Command {
        self.kubectl([load::NAMESPACE_FLAG, "exec", client, "--", "cat", load::COUNT_FILE])
    }

    /// What one would look at after a failure.
    pub fn evidence(&self) -> [Command; 3] {
        let logs = ["--namespace=kube-system", "logs", "daemonset/pintle", "--tail=50"];
        [
            self.kubectl(["get", "nodes,pods", "--all-namespaces", "--output=wide"]),
            self.kubectl(["--namespace=kube-system", "describe", "daemonset/pintle"]),
            self.kubectl(logs),
        ]
    }

    /// Prints which images Kubernetes' own tests use.
    pub fn images(&self) -> Command {
        let (Runner::Hydrophone(program) | Runner::E2eTest(program)) = &self.tools.runner;
        let mut command = command(program, ["--list-images"]);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command
    }

    /// Kubernetes' own tests.
    pub fn conformance(&self) -> Command {
        let [focus, skip] = [FOCUS, SKIP];
        let mut command = match &self.tools.runner {
            Runner::Hydrophone(program) => {
                command(program, ["--focus", focus, "--skip", skip, "--parallel", PARALLEL])
            }
            Runner::E2eTest(program) => {
                let [focus, skip] = [("focus", focus), ("skip", skip)]
                    .map(|(name, it)| format!("--ginkgo.{name}={it}"));
                let mut command = Command::new(program);
                command.args(["--provider=skeleton", "--num-nodes=2"]).args([focus, skip]);
                command
            }
        };
        let results = match &self.tools.runner {
            Runner::Hydrophone(_) => "--output-dir",
            Runner::E2eTest(_) => "--report-dir",
        };
        command.arg(results).arg(&self.results).arg("--kubeconfig").arg(&self.kubeconfig);
        command
    }

    fn kind<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = command(&self.tools.kind, arguments);
        command.args(["--name", NAME]);
        command
    }

    fn kubectl<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new(&self.tools.kubectl);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command
    }
}

fn command<const N: usize>(program: impl AsRef<OsStr>, arguments: [&str; N]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(workspace::root());
    command
}

/// The manifests for kind.
fn overlay() -> PathBuf {
    workspace::root().join("manifests/overlays/kind")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn with(runner: Runner) -> Commands {
        let [kind, kubectl, engine] = ["kind", "kubectl", "docker"].map(PathBuf::from);
        Commands {
            tools: Tools { kind, kubectl, engine, runner },
            kubeconfig: "config".into(),
            results: "results".into(),
        }
    }

    fn hydrophone() -> Commands {
        with(Runner::Hydrophone("hydrophone".into()))
    }

    #[test]
    fn the_cluster_is_the_one_that_the_overlay_is_made_for_and_has_no_kube_proxy() {
        let text = |name: &str| fs::read_to_string(overlay().join(name)).unwrap();
        let cluster = text("cluster.yaml");
        assert!(cluster.lines().any(|line| line == format!("name: {NAME}")), "{cluster}");
        assert!(cluster.lines().any(|line| line.trim() == "kubeProxyMode: none"), "{cluster}");
        assert!(text("api-server.yaml").contains(&format!("{NAME}-control-plane")));
        let commands = hydrophone();
        for command in [commands.create(), commands.delete(), commands.nodes()] {
            assert!(workspace::shown(&command).contains("--name pintle"), "{command:?}");
        }
    }

    #[test]
    fn the_same_tests_are_chosen_for_either_runner() {
        let words = |commands: &Commands| {
            let command = commands.conformance();
            let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
            words.collect::<Vec<_>>()
        };
        assert_eq!(
            words(&hydrophone()),
            [
                "--focus",
                FOCUS,
                "--skip",
                SKIP,
                "--parallel",
                "4",
                "--output-dir",
                "results",
                "--kubeconfig",
                "config"
            ]
        );
        let own = words(&with(Runner::E2eTest("e2e.test".into())));
        assert!(own.contains(&format!("--ginkgo.focus={FOCUS}")), "{own:?}");
        assert!(own.contains(&format!("--ginkgo.skip={SKIP}")), "{own:?}");
        assert_eq!(own[own.len() - 2..], ["--kubeconfig", "config"]);
    }

    #[test]
    fn kubectl_never_speaks_to_another_cluster() {
        let commands = hydrophone();
        let [first, second, third] = commands.evidence();
        for command in [
            commands.apply(),
            commands.restart(),
            commands.wait_for_agents(),
            commands.clients(),
            commands.count_of("pod/a"),
            commands.wait_for_load(),
            first,
            second,
            third,
        ] {
            let shown = workspace::shown(&command);
            assert!(shown.starts_with("kubectl --kubeconfig config "), "{shown}");
        }
    }
}
