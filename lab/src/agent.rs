// SPDX-License-Identifier: Apache-2.0
//! The agent as a process in a node's network namespace, driven by its command line alone; how far it
//! has read is asked at its socket.
//!
//! It keeps the mounts of the test, so bpffs stays visible. Its maps and links live under a root
//! of its own, which is removed with the handle, also when a test panics.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pintle::cli::client::{Agent as _, SocketAgent};
use pintle::server::socket_path;
use serde_json::Value;
use tempfile::TempDir;

use crate::manifest::ManifestDir;
use crate::netns::NetNs;
use crate::patience::at_most;
use crate::topology::Node;
use crate::xdp;

const BPFFS: &str = "/sys/fs/bpf";
const ROOT_PREFIX: &str = "pintle-lab-";
/// How long the agent may take to notice a file; a change without effect costs as much.
const NOTICE: Duration = Duration::from_secs(1);
/// How long it may take to load its programs.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to end.
const END: Duration = Duration::from_secs(5);
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Whether packets may skip the node's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastPath {
    /// Where the agent finds it safe.
    Auto,
    /// Never.
    Off,
}

/// Where an agent reads.
enum Source {
    /// Its directory.
    Directory,
    /// The API server of a kubeconfig.
    Kubeconfig(PathBuf),
    /// The API server that a pod is told of in its environment.
    Cluster(SocketAddr),
}

/// What a process of an agent may be put into.
pub trait Confinement: Send + Sync {
    /// Lets a command run inside.
    fn confine(&self, command: &mut Command) -> Result<()>;
}

/// One agent, running or stopped, with everything it owns.
pub struct Agent {
    /// The directory it watches; the objects of its world are in it, too.
    pub manifests: Arc<ManifestDir>,
    netns: NetNs,
    node_name: String,
    xdp: bool,
    fast_path: FastPath,
    binary: PathBuf,
    /// Where it reads.
    source: Source,
    bpf_root: PathBuf,
    files: TempDir,
    child: Option<Child>,
    /// The revision that the agent had read when it was last ready.
    settled: u64,
    /// Whose sockets it translates when they dial; nobody's unless a test says so.
    socket_args: Vec<String>,
    /// Further flags, for tests of one flag.
    pub extra_args: Vec<String>,
    /// What it and its command line run in, if not in the machine's own mounts and with all rights.
    container: Option<Box<dyn Confinement>>,
}

impl Agent {
    /// Prepares an agent for `node`; nothing runs yet, and its manifest directory has the objects of
    /// the node's world.
    pub fn new(node: &Node, fast_path: FastPath) -> Result<Agent> {
        let agent = Agent::without_objects(node, fast_path)?;
        node.objects().show(&agent.manifests)?;
        Ok(agent)
    }

    /// The same with an empty manifest directory.
    pub fn without_objects(node: &Node, fast_path: FastPath) -> Result<Agent> {
        Agent::of_binary(node, fast_path, default_binary()?)
    }

    /// The same of a binary.
    pub fn of_binary(node: &Node, fast_path: FastPath, binary: PathBuf) -> Result<Agent> {
        mount_bpffs()?;
        remove_dead_roots()?;
        let files = tempfile::Builder::new().prefix("pintle-lab-").tempdir()?;
        static SEQUENCE: AtomicU32 = AtomicU32::new(0);
        let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let root = format!("{ROOT_PREFIX}{}-{sequence}", std::process::id());
        std::fs::create_dir(files.path().join("run"))?;
        Ok(Agent {
            manifests: Arc::new(ManifestDir::new(files.path().join("manifests"))?),
            netns: (**node).clone(),
            node_name: node.name.clone(),
            xdp: node.runs_xdp(),
            fast_path,
            binary,
            source: Source::Directory,
            bpf_root: Path::new(BPFFS).join(root),
            files,
            child: None,
            settled: 0,
            socket_args: vec!["--socket-lb=off".into()],
            extra_args: Vec::new(),
            container: None,
        })
    }

    /// Starts the process and returns when everything in the directory is programmed.
    pub fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_ready()
    }

    /// Starts the process and waits for nothing.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the agent runs already");
        let mut command = self.agent_command()?;
        let log = File::options().create(true).append(true).open(self.log_path())?;
        command.stdout(log.try_clone()?).stderr(log);
        die_with_parent(&mut command);
        let spawned = command.spawn();
        self.child = Some(spawned.with_context(|| format!("run {}", self.binary.display()))?);
        Ok(())
    }

    /// Runs the process until it ends by itself, because it cannot start.
    pub fn fail_to_start(&self) -> Result<Output> {
        Ok(self.agent_command()?.output()?)
    }

    fn agent_command(&self) -> Result<Command> {
        let fast_path = match self.fast_path {
            FastPath::Auto => "auto",
            FastPath::Off => "off",
        };
        let mut command = self.command()?;
        if let Source::Cluster(address) = self.source {
            command.env("KUBERNETES_SERVICE_HOST", address.ip().to_string());
            command.env("KUBERNETES_SERVICE_PORT", address.port().to_string());
        }
        if self.xdp {
            command.env(xdp::VARIABLE, "always");
        }
        command
            .args(["agent", "--node-name", &self.node_name])
            .args(self.source_args())
            .args(["--pod-interfaces", "auto", "--fast-path", fast_path])
            .args(["--healthz-bind-address", "127.0.0.1:10256"])
            .args(self.directory_args())
            .args(&self.socket_args)
            .args(&self.extra_args);
        if !self.extra_args.iter().any(|flag| flag.starts_with("--metrics-bind-address")) {
            command.args(["--metrics-bind-address", ""]);
        }
        Ok(command)
    }

    fn source_args(&self) -> Vec<String> {
        match &self.source {
            Source::Kubeconfig(path) => {
                vec!["--source=kube".into(), format!("--kubeconfig={}", path.display())]
            }
            Source::Cluster(_) => vec!["--source=kube".into()],
            Source::Directory => vec![format!("--source=dir:{}", self.manifests.path().display())],
        }
    }

    /// From the next start on it reads from the API server of a kubeconfig.
    pub fn read_from(&mut self, kubeconfig: &Path) {
        self.source = Source::Kubeconfig(kubeconfig.to_owned());
    }

    /// From the next start on it reads from an API server as every pod can: it is told where that is,
    /// and has the service account that is in its container.
    pub fn read_as_pod(&mut self, server: SocketAddr) {
        self.source = Source::Cluster(server);
    }

    /// The network namespace of its node.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// A folder that lives as long as it does.
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    /// Returns when everything that the agent has read so far is programmed.
    pub fn wait_ready(&mut self) -> Result<()> {
        let end = Instant::now() + at_most(READY);
        loop {
            let out = self.cli(&["status", "--wait", "--timeout", "10"])?;
            if out.status.success() {
                self.settled = self.revision_read().unwrap_or_default();
                return Ok(());
            }
            let exited = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if exited.is_some() || Instant::now() > end {
                let [stdout, stderr] = [&out.stdout, &out.stderr].map(|text| lossy(text));
                bail!("agent not ready ({exited:?}): {stdout}{stderr}\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets the agent notice the files just written, then waits until they are programmed.
    pub fn settle(&mut self) -> Result<()> {
        let end = Instant::now() + at_most(NOTICE);
        while self.revision_read().is_some_and(|read| read <= self.settled) && Instant::now() < end
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Several files may be several revisions, of which that was the first.
        std::thread::sleep(Duration::from_millis(100));
        self.wait_ready()
    }

    fn revision_read(&self) -> Option<u64> {
        Some(self.socket().status().ok()?.revision_read)
    }

    /// Its socket, for what is asked so often that a process for each question would be most of a
    /// test's work.
    fn socket(&self) -> SocketAgent {
        SocketAgent { path: socket_path(&self.run_dir(), &self.bpf_root) }
    }

    /// Kills the process at once, as the kernel's OOM killer would.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the agent does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Waits for the process to end by itself.
    pub fn wait_for_end(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the agent does not run")?;
        let end = Instant::now() + at_most(END);
        while Instant::now() < end {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill()?;
        child.wait()?;
        bail!("the agent did not end\n{}", self.log())
    }

    /// Asks the process to stop and waits for it; what it attached stays.
    pub fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the agent does not run")?;
        // SAFETY: the child is not reaped yet, so its pid is still its own.
        unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
        let end = Instant::now() + at_most(END);
        while Instant::now() < end {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "agent stopped with {status}\n{}", self.log());
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill()?;
        child.wait()?;
        bail!("agent ignored SIGTERM\n{}", self.log())
    }

    /// Stops the process and starts another binary in its place.
    pub fn upgrade(&mut self, binary: &Path) -> Result<()> {
        self.stop()?;
        self.binary = binary.into();
        self.start()
    }

    /// The binary that runs, for an upgrade to the same one.
    pub fn binary(&self) -> PathBuf {
        self.binary.clone()
    }

    /// Runs `pintle ARGS` against this agent and returns what it printed.
    pub fn text(&self, args: &[&str]) -> Result<String> {
        let out = self.cli(args)?;
        let stderr = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "pintle {}: {stderr}", args.join(" "));
        Ok(String::from_utf8(out.stdout)?)
    }

    /// Runs `pintle ARGS -o json` against this agent.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.text(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("pintle {}: {text}", args.join(" ")))
    }

    /// Runs `pintle cleanup`, with the process stopped.
    pub fn cleanup(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "stop the agent before cleanup");
        let out = self.cli(&["cleanup"])?;
        let stderr = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "pintle cleanup: {stderr}");
        Ok(())
    }

    /// The sum of a counter, or of a drop reason, over all hooks.
    pub fn counter(&self, reason: &str) -> Result<u64> {
        let rows = self.json(&["counters"])?;
        let row = rows.as_array().into_iter().flatten().find(|row| row["reason"] == reason);
        let row = row.with_context(|| format!("no counter {reason}: {rows}"))?;
        let hooks = row.as_object().into_iter().flatten();
        Ok(hooks.filter_map(|(_, count)| count.as_u64()).sum())
    }

    /// A counter, or a drop reason, at one place: a hook, or `connect` for sockets that dial.
    pub fn counter_at(&self, place: &str, reason: &str) -> Result<u64> {
        let rows = self.json(&["counters"])?;
        let row = rows.as_array().into_iter().flatten().find(|row| row["reason"] == reason);
        let value = row.and_then(|row| row[place].as_u64());
        value.with_context(|| format!("{reason} at {place}: {rows}"))
    }

    /// The directory of its socket.
    pub fn run_dir(&self) -> PathBuf {
        self.files.path().join("run")
    }

    /// Pins elsewhere from the next start on.
    pub fn set_bpf_root(&mut self, path: &Path) {
        self.bpf_root = path.into();
    }

    /// From the next start on it translates sockets of a cgroup when they dial: `off`, `host` or `all`.
    pub fn translate_sockets(&mut self, mode: &str, cgroup: &Path) {
        let cgroup = format!("--cgroup={}", cgroup.display());
        self.socket_args = vec![format!("--socket-lb={mode}"), cgroup];
    }

    /// From the next start on it runs in a container, which must have the agent's folders.
    pub fn put_into(&mut self, container: impl Confinement + 'static) {
        self.container = Some(Box::new(container));
    }

    /// The folders that its container must have: those of its binary and of its files.
    pub fn folders(&self) -> Vec<PathBuf> {
        let binary = self.binary.parent().map(Path::to_path_buf);
        binary.into_iter().chain([self.files.path().to_path_buf()]).collect()
    }

    /// Where its maps and links are pinned.
    pub fn bpf_root(&self) -> &Path {
        &self.bpf_root
    }

    /// Its process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs `pintle ARGS` against this agent, whatever its exit code.
    pub fn cli(&self, args: &[&str]) -> Result<Output> {
        let run = self.command()?.args(args).args(self.directory_args()).output();
        run.with_context(|| format!("run {}", self.binary.display()))
    }

    fn command(&self) -> Result<Command> {
        let mut command = self.netns.command(&self.binary);
        command.stdin(Stdio::null());
        if let Some(container) = &self.container {
            container.confine(&mut command)?;
        }
        Ok(command)
    }

    fn directory_args(&self) -> [String; 4] {
        let run_dir = self.run_dir().display().to_string();
        let bpf_root = self.bpf_root.display().to_string();
        ["--bpf-root".into(), bpf_root, "--run-dir".into(), run_dir]
    }

    /// What helps to understand a test that has failed.
    fn report(&self) {
        let name = &self.node_name;
        for question in ["status", "counters"] {
            let answer = self.cli(&[question]).map(|output| lossy(&output.stdout));
            eprintln!("--- {question} of the agent on {name} ---\n{}", answer.unwrap_or_default());
        }
        eprintln!("--- log of the agent on {name} ---\n{}", self.log());
    }

    fn log_path(&self) -> PathBuf {
        self.files.path().join("agent.log")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.report();
        }
        if self.child.is_some() {
            let _ = self.kill();
        }
        let _ = std::fs::remove_dir_all(&self.bpf_root);
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// The binary under test: `PINTLE_BIN`, or `pintle` beside this test's own build.
pub fn default_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PINTLE_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let built = own.ancestors().map(|dir| dir.join("pintle")).find(|path| path.is_file());
    built.context("no pintle binary: set PINTLE_BIN or run `cargo build -p pintle`")
}

/// The kernel ends the child with the thread that started it, even if that is killed.
fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and takes no pointers here.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}

fn mount_bpffs() -> Result<()> {
    let path = CString::new(BPFFS)?;
    // SAFETY: all-zero bytes are a valid statfs.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    let rc = unsafe { libc::statfs(path.as_ptr(), &raw mut found) };
    if rc == 0 && found.f_type as i64 == BPF_FS_MAGIC {
        return Ok(());
    }
    let kind = c"bpf";
    // SAFETY: all strings end in NUL and the data pointer may be null.
    let rc =
        unsafe { libc::mount(kind.as_ptr(), path.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    ensure!(rc == 0, "mount bpffs on {BPFFS} (needs root): {}", io::Error::last_os_error());
    Ok(())
}

/// Removes what test processes that no longer live have left under bpffs.
fn remove_dead_roots() -> Result<()> {
    for entry in std::fs::read_dir(BPFFS)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(ROOT_PREFIX) else { continue };
        let Some(Ok(pid)) = rest.split('-').next().map(str::parse::<u32>) else { continue };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}
