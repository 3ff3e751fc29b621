// SPDX-License-Identifier: Apache-2.0
//! The tiers: what each needs and how it is run.

use super::side_by_side::{self, Selection};
use crate::setup::Extent;
use crate::workspace::{self, cargo};
use crate::{cluster, image, tidy, vm};
use anyhow::{Context, Result, bail};
use std::fmt;
use std::path::Path;

/// How many tests with worlds of their own run at a time: half of what they do is waiting.
const WORLDS: usize = 4;

/// Clients outside once more, with XDP on the uplinks. Not among them is `overlay`: there the kernel alone
/// loses long datagrams of IPv6 once the senders' offloads are off, with and without an agent's XDP; and
/// `snat`, whose 20,000 clients talk at once: what XDP sends on overflows the queues of veths without NAPI
/// (`CPU_BACKLOG`), and now and then a client's patience ends.
const WITH_XDP: Selection = Selection {
    modules: &[
        "from_outside",
        "hops",
        "icmp_errors",
        "local_policy",
        "maglev",
        "node_addresses",
        "pmtu",
        "restart_outside",
        "reverse_path_filter",
        "service_types",
        "session_affinity",
        "source_ranges",
        "traffic_matrix",
        "transfer",
        "type_changes",
    ],
    variable: Some(("PINTLE_XDP", "always")),
};

/// A group of tests that run in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tier {
    /// Formatting.
    Fmt,
    /// Clippy, tidy, the manifests, and cargo-deny where it is installed.
    Lint,
    /// Everything else that needs no kernel.
    Unit,
    /// The API source against an API server with faults.
    Api,
    /// The OCI archive: made, unpacked, its binary run.
    Image,
    /// The loaded programs: packet in, packet out.
    Datapath,
    /// Real sockets across network namespaces.
    Netns,
    /// The datapath tests on other kernels.
    Vm,
    /// A kind cluster without kube-proxy; only by name.
    Cluster,
}

impl Tier {
    /// Every tier that runs without being named, in the order of cost.
    pub const ALL: &'static [Self] = &[
        Self::Fmt,
        Self::Lint,
        Self::Unit,
        Self::Api,
        Self::Image,
        Self::Datapath,
        Self::Netns,
        Self::Vm,
    ];

    /// One line for the heading.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Fmt => "formatting",
            Self::Lint => "clippy, the project's own rules and the manifests",
            Self::Unit => "pure code and packets through the host build",
            Self::Image => "the OCI archive and its static binary",
            Self::Api => "the API source against an API server with faults",
            Self::Datapath => "packets through the loaded programs",
            Self::Netns => "real sockets across network namespaces",
            Self::Vm => "the loaded programs on other kernels",
            Self::Cluster => "a kind cluster: sig-network's tests, rolling restart under load",
        }
    }

    /// What must be set up first.
    pub fn extent(self) -> Option<Extent> {
        match self {
            // A cluster's programs are nobody's to install; the image is set up once they are there.
            Self::Fmt | Self::Cluster => None,
            Self::Lint | Self::Unit | Self::Api => Some(Extent::Build),
            Self::Image => Some(Extent::Image),
            Self::Datapath | Self::Netns | Self::Vm => Some(Extent::Everything),
        }
    }

    /// Why this machine cannot run it, if so.
    pub fn obstacle(self) -> Option<String> {
        match self {
            Self::Fmt | Self::Lint | Self::Unit | Self::Api => None,
            Self::Image => image::obstacle(),
            Self::Datapath | Self::Netns => kernel_obstacle(),
            Self::Vm => vm::obstacle(),
            Self::Cluster => cluster::obstacle(),
        }
    }

    /// Runs it.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Fmt => workspace::run(&mut cargo(["fmt", "--all", "--check"])),
            Self::Lint => lint(),
            Self::Unit => unit(),
            Self::Api => api(),
            Self::Image => image::test(),
            Self::Datapath => datapath(),
            Self::Netns => {
                // The tests run the agent as a process, which their own build does not make.
                workspace::run(&mut cargo(["build", "--package", "pintle"]))?;
                side_by_side::run("netns", WORLDS, &Selection::EVERYTHING)?;
                side_by_side::run("netns", WORLDS, &WITH_XDP)
            }
            Self::Vm => vm::test(),
            Self::Cluster => cluster::test(),
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Fmt => "fmt",
            Self::Lint => "lint",
            Self::Unit => "unit",
            Self::Api => "api",
            Self::Image => "image",
            Self::Datapath => "datapath",
            Self::Netns => "netns",
            Self::Vm => "vm",
            Self::Cluster => "cluster",
        })
    }
}

/// Names the folder of kube-apiserver and etcd.
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The tests of the crate that holds the tests.
const TESTS: [&str; 3] = ["test", "--package", "pintle-tests"];

/// What `cargo test` runs, but for what other tiers do.
fn unit() -> Result<()> {
    workspace::run(&mut cargo(["test", "--workspace", "--exclude", "pintle-tests"]))?;
    workspace::run(cargo(TESTS).args(["--lib", "--test", "host"]))
}

/// With a real kube-apiserver, too, where the ecosystem's variable names the folder of one.
fn api() -> Result<()> {
    let mut command = cargo(TESTS);
    command.args(["--test", "api"]);
    match std::env::var_os(ASSETS).filter(|folder| !folder.is_empty()) {
        Some(folder) => {
            // Tests run elsewhere than we do.
            let folder = Path::new(&folder).canonicalize();
            let folder = folder.with_context(|| format!("the folder that {ASSETS} names"))?;
            println!("real kube-apiserver: {}", folder.display());
            command.env(ASSETS, folder);
        }
        None => println!("real kube-apiserver: not run, {ASSETS} is not set"),
    }
    workspace::run(&mut command)
}

fn lint() -> Result<()> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--features", "pintle-tests/kernel"];
    workspace::run(cargo(clippy).args(["--", "-D", "warnings"]))?;
    let complaints = tidy::check()?;
    complaints.iter().for_each(|complaint| println!("tidy: {complaint}"));
    if !complaints.is_empty() {
        bail!("tidy found {} violations", complaints.len());
    }
    manifests()?;
    match workspace::find_program("cargo-deny") {
        Some(_) => workspace::run(&mut cargo(["deny", "check", "licenses", "bans", "sources"])),
        None => {
            println!("cargo-deny is not installed: licences and sources are not checked");
            Ok(())
        }
    }
}

/// They build, with kubectl too where it is installed, and every object is one that Kubernetes knows.
fn manifests() -> Result<()> {
    let package = "--package=pintle-tests";
    workspace::run(&mut cargo(["run", "--quiet", package, "--bin=kustomize"]))?;
    workspace::run(&mut cargo(["test", "--quiet", package, "--test=manifests"]))
}

/// One thread: the tests share the loaded programs.
fn datapath() -> Result<()> {
    let mut command = cargo(["test", "--package", "pintle-tests", "--features", "kernel"]);
    workspace::run(command.args(["--test", "datapath", "--", "--test-threads=1"]))
}

fn kernel_obstacle() -> Option<String> {
    if !workspace::is_root() {
        return Some("loading programs needs root: repeat with sudo".into());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").is_file() {
        return Some("this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)".into());
    }
    let missing = ["ip", "nft"].into_iter().find(|name| workspace::find_program(name).is_none())?;
    Some(format!("the program `{missing}` is missing: run `cargo xtask setup` as root"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_only_made_for_who_asks_for_it() {
        assert!(!Tier::ALL.contains(&Tier::Cluster));
        let mut names = <Tier as clap::ValueEnum>::value_variants().iter().map(Tier::to_string);
        assert!(names.any(|name| name == "cluster"));
    }
}
