// SPDX-License-Identifier: Apache-2.0
//! `pintle agent`: its flags, and what is checked before it starts.

use std::{
    fs,
    io::IsTerminal,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use pintle_abi::map;
use tracing::warn;
use tracing_subscriber::EnvFilter;

use super::{
    Global, Outcome,
    kube_proxy_flags::{HasFile, KubeProxyFlags},
    output::hint::CommandError,
};
use crate::{
    agent::{Configured, conntrack},
    config::{
        self, Inputs, Resolution,
        decode::decode,
        file::ConfigFile,
        resolved::{BindAddress, Log, LogFormat},
    },
    datapath::{attach::Mode, socket::Scope},
    model::service::BackendSelection,
    node::{MasqueradePorts, PodInterfaces},
    plan::maglev::TableSize,
};

/// Flags of the agent; each also reads the environment variable `PINTLE_<FLAG>`.
#[derive(Clone, Debug, Args)]
pub struct AgentArgs {
    /// Where Kubernetes objects come from: `dir:PATH` (YAML or JSON files) or `kube`.
    #[arg(long, env = "PINTLE_SOURCE", value_name = "kube|dir:PATH", default_value = "kube")]
    pub source: SourceArg,
    /// Name of this node, as in its Node object; the host's if nothing else is said.
    #[arg(long, env = "PINTLE_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// A KubeProxyConfiguration file; flags of ours win over it, and a change of it ends the agent.
    #[arg(long, env = "PINTLE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the cgroup v2 whose processes' sockets may be translated; the root unless given.
    #[arg(long, env = "PINTLE_CGROUP", value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// Whose connections are translated at connect time, and not packet by packet.
    #[arg(long, env = "PINTLE_SOCKET_LB", value_enum, default_value = "host")]
    pub socket_lb: SocketLb,
    /// Host sides of pods' veths: `auto`, or names with `*`, separated by commas.
    #[arg(
        long,
        env = "PINTLE_POD_INTERFACES",
        value_name = "auto|PATTERN,...",
        default_value = "auto"
    )]
    pub pod_interfaces: PodInterfaces,
    /// Interfaces to other nodes: `auto` (those with a default route), or names.
    #[arg(long, env = "PINTLE_UPLINKS", value_name = "auto|NAME,...", default_value = "auto")]
    pub uplinks: Uplinks,
    /// Address of /healthz, /livez and /readyz; empty for none [default: 0.0.0.0:10256].
    #[arg(long, env = "PINTLE_HEALTHZ_BIND_ADDRESS", value_name = "ADDR")]
    pub healthz_bind_address: Option<BindAddress>,
    /// Address of /metrics and /proxyMode; empty for none [default: 127.0.0.1:10249].
    #[arg(long, env = "PINTLE_METRICS_BIND_ADDRESS", value_name = "ADDR")]
    pub metrics_bind_address: Option<BindAddress>,
    /// How the backend of a connection from outside is chosen, unless its service has the annotation
    /// `pintle.dev/backend-selection` [default: random].
    #[arg(long, env = "PINTLE_BACKEND_SELECTION", value_enum)]
    pub backend_selection: Option<BackendSelection>,
    /// Slots of a service's table where Maglev chooses: a prime, the same on every node, about a
    /// hundred times as many as a service has backends.
    #[arg(
        long,
        env = "PINTLE_MAGLEV_TABLE_SIZE",
        value_name = "SLOTS",
        default_value_t = TableSize::default()
    )]
    pub maglev_table_size: TableSize,
    /// Redirect packets past the host's stack where that skips nothing.
    #[arg(long, env = "PINTLE_FAST_PATH", value_enum, default_value = "auto")]
    pub fast_path: FastPath,
    /// Source addresses a pod sees when it reaches itself through a service; one per family.
    #[arg(
        long,
        env = "PINTLE_HAIRPIN_ADDRESSES",
        value_name = "IP,...",
        value_delimiter = ',',
        default_value = "169.254.77.1,fd77:6e74:6c65::1"
    )]
    pub hairpin_addresses: Vec<IpAddr>,
    /// Source ports of masqueraded clients, FIRST-LAST; by default the largest range that the host's
    /// own sockets do not use.
    #[arg(long, env = "PINTLE_MASQUERADE_PORTS", value_name = "FIRST-LAST")]
    pub masquerade_ports: Option<MasqueradePorts>,
    /// How programs are attached to interfaces.
    #[arg(long, env = "PINTLE_ATTACH", value_enum, default_value = "auto")]
    pub attach: Attach,
    /// Whether uplinks' drivers run XDP for connections from outside to other nodes. It may cost a
    /// device its receive offloads, for everybody's packets.
    #[arg(long, env = "PINTLE_XDP", value_enum, default_value = "off")]
    pub xdp: XdpMode,
    /// What to do about a kube-proxy that was on this node, or still is.
    #[arg(long, env = "PINTLE_TAKE_OVER", value_enum, default_value = "auto")]
    pub take_over: TakeOver,
    /// Whether network policies hold.
    #[arg(long, env = "PINTLE_POLICY", value_enum, default_value = "on")]
    pub policy: Policy,
    /// What pods may do of which nothing is known yet.
    #[arg(long, env = "PINTLE_POLICY_STARTUP", value_enum, default_value = "closed")]
    pub policy_startup: PolicyStartup,
    /// Report what policies would drop, and drop nothing.
    #[arg(long, env = "PINTLE_POLICY_AUDIT")]
    pub policy_audit: bool,
    /// Form of the log [default: text].
    #[arg(long, env = "PINTLE_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// What is logged: a level, or a filter such as `info,pintle::node=debug` [default: info].
    #[arg(long, env = "PINTLE_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Entries of a map, such as `TCP_FLOWS_V4=1048576`; may be repeated.
    #[arg(
        long = "map-size",
        env = "PINTLE_MAP_SIZE",
        value_name = "NAME=N",
        value_delimiter = ','
    )]
    pub map_sizes: Vec<MapSize>,
    /// kube-proxy's own flags.
    #[command(flatten)]
    pub kube_proxy: KubeProxyFlags,
    /// From the global options: directory of the pinned maps and links.
    #[arg(skip)]
    pub bpf_root: PathBuf,
    /// From the global options: directory of the agent's socket.
    #[arg(skip)]
    pub run_dir: PathBuf,
}

/// Where Kubernetes objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceArg {
    /// The API server.
    Kube,
    /// A directory of files.
    Dir(PathBuf),
}

impl FromStr for SourceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("dir:")) {
            ("kube", _) => Ok(Self::Kube),
            (_, Some(path)) if !path.is_empty() => Ok(Self::Dir(path.into())),
            _ => Err("give `kube` or `dir:PATH`".into()),
        }
    }
}

/// Which processes' connections are translated at connect time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SocketLb {
    /// None.
    Off,
    /// Those in the node's network namespace.
    Host,
    /// Those of pods, too.
    All,
}

impl From<SocketLb> for Scope {
    fn from(mode: SocketLb) -> Self {
        match mode {
            SocketLb::Off => Self::Off,
            SocketLb::Host => Self::Host,
            SocketLb::All => Self::All,
        }
    }
}

/// Whether packets are redirected past the host's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FastPath {
    /// Where that skips nothing the node's owner relies on.
    Auto,
    /// Never.
    Off,
}

/// Whether uplinks' drivers run XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum XdpMode {
    /// Where they can; not on a veth.
    Auto,
    /// Never.
    Off,
    /// Where they can, and on veths, whose peers need a program of XDP themselves: without, they lose
    /// what is sent back.
    Always,
}

/// How programs are attached to interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Attach {
    /// As the kernel can.
    Auto,
    /// tcx links (Linux 6.6 and later).
    Tcx,
    /// Filters on a clsact qdisc.
    Clsact,
}

impl From<Attach> for Option<Mode> {
    fn from(attach: Attach) -> Self {
        match attach {
            Attach::Auto => None,
            Attach::Tcx => Some(Mode::Tcx),
            Attach::Clsact => Some(Mode::Clsact),
        }
    }
}

/// What to do about a kube-proxy that was on this node, or still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TakeOver {
    /// Remove what it has left, without breaking connections; refuse to start while it runs.
    Auto,
    /// Leave alone what it has left; refuse to start while it runs.
    Off,
    /// Like auto, but start beside one that runs, and leave its rules alone.
    Force,
}

/// Whether network policies hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// They do.
    On,
    /// Nothing is judged.
    Off,
}

/// What pods may do of which nothing is known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyStartup {
    /// Nothing, except answer their own node.
    Closed,
    /// Everything.
    Open,
}

/// Interfaces to other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uplinks {
    /// Those that carry a default route.
    Auto,
    /// Those of these names.
    Names(Vec<String>),
}

impl FromStr for Uplinks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        match names.iter().any(String::is_empty) {
            true => Err("a name is empty; give `auto` or names such as `eth0,eth1`".into()),
            false => Ok(Self::Names(names)),
        }
    }
}

/// How many entries a map shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSize {
    /// Name of the map.
    pub name: &'static str,
    /// Entries.
    pub entries: u32,
}

impl FromStr for MapSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, entries) = text.split_once('=').ok_or("give NAME=ENTRIES")?;
        // Maps without a number of entries grow with what they are kept for.
        let known = map::ALL.iter().filter(|spec| spec.entries > 0 && !spec.is_fixed());
        let known: Vec<&str> = known.map(|spec| spec.name).collect();
        let name = known
            .iter()
            .find(|known| **known == name)
            .ok_or_else(|| format!("no map {name}; there are {}", known.join(", ")))?;
        match entries.parse() {
            Ok(entries) if entries > 0 => Ok(Self { name, entries }),
            _ => Err(format!("{entries} is not a number of entries")),
        }
    }
}

/// Resolves the configuration, and runs the agent or what else the flags ask for.
pub fn run(mut args: AgentArgs, global: &Global) -> anyhow::Result<Outcome> {
    let file = args.config.as_deref().map(ConfigFile::read).transpose();
    let file = file.with_context(|| format!("--config {}", shown(args.config.as_deref())))?;
    let Resolution { config, effective, warnings } = resolve(&args, file.as_ref(), global)?;
    if let Some(path) = &args.kube_proxy.write_config_to {
        let text = serde_yaml_ng::to_string(&effective)?;
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        return Ok(Outcome::Good);
    }
    start_log(&config.log)?;
    for warning in &warnings {
        warn!("{warning}");
    }
    if args.kube_proxy.init_only == Some(true) {
        conntrack::apply(Path::new("/"), &config.conntrack)?;
        return Ok(Outcome::Good);
    }
    check(&args)?;
    check_source(&args.source)?;
    args.bpf_root = global.bpf_root.clone();
    args.run_dir = global.run_dir.clone();
    let kube_proxy = has_kube_proxy(&args, file.as_ref()).then_some(effective);
    let configured = Configured { config, kube_proxy, file };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().context("start the async runtime")?;
    runtime.block_on(crate::agent::run(args, configured))?;
    Ok(Outcome::Good)
}

/// File and flags → what the agent shall do.
fn resolve(
    args: &AgentArgs,
    file: Option<&ConfigFile>,
    global: &Global,
) -> anyhow::Result<Resolution> {
    let decoded = file.map(|file| decode(file.text())).transpose();
    let decoded = decoded.with_context(|| format!("--config {}", shown(args.config.as_deref())))?;
    let flags = &args.kube_proxy;
    let has_file = if decoded.is_some() { HasFile::Yes } else { HasFile::No };
    let (file, mut warnings) = match decoded {
        Some(decoded) => (Some(decoded.configuration), decoded.warnings),
        None => (None, Vec::new()),
    };
    warnings.extend(flags.warnings(has_file));
    let inputs = Inputs {
        file,
        flags: flags.configuration(),
        node_name: args.node_name.clone(),
        hostname_override: flags.hostname_override.clone(),
        hostname: fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default(),
        healthz_bind_address: args.healthz_bind_address,
        metrics_bind_address: args.metrics_bind_address,
        kubeconfig: flags.kubeconfig.clone(),
        master: flags.master.clone(),
        backend_selection: args.backend_selection,
        table_size: args.maglev_table_size,
        log_format: args.log_format.or(flags.logging_format),
        log_level: args.log_level.clone(),
        verbosity: flags.v.or_else(|| global.verbosity()),
    };
    let mut resolution = config::resolve(inputs).context("configuration")?;
    warnings.append(&mut resolution.warnings);
    Ok(Resolution { warnings, ..resolution })
}

fn has_kube_proxy(args: &AgentArgs, file: Option<&ConfigFile>) -> bool {
    file.is_some() || args.kube_proxy.configuration().is_some()
}

fn shown(path: Option<&Path>) -> impl std::fmt::Display {
    path.unwrap_or(Path::new("")).display()
}

fn check(args: &AgentArgs) -> anyhow::Result<()> {
    anyhow::ensure!(args.node_name.as_deref() != Some(""), "--node-name is empty");
    for is_family in [IpAddr::is_ipv4 as fn(&IpAddr) -> bool, IpAddr::is_ipv6] {
        let count = args.hairpin_addresses.iter().filter(|ip| is_family(ip)).count();
        anyhow::ensure!(count <= 1, "--hairpin-addresses takes one address per family");
    }
    Ok(())
}

/// Nothing is attached for a source that is not there.
fn check_source(source: &SourceArg) -> Result<(), CommandError> {
    match source {
        SourceArg::Dir(path) if !path.is_dir() => {
            Err(CommandError::NoDirectory { path: path.clone() })
        }
        _ => Ok(()),
    }
}

/// The client library warns of each watch that is cut, which is every day's business.
const ROUTINE: &str = "kube_client::client=error";

fn start_log(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{ROUTINE},{}", log.filter))
        .with_context(|| format!("--log-level {}", log.filter))?;
    let format = log.format;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("start the log: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: AgentArgs,
    }

    fn parse(flags: &[&str]) -> Result<AgentArgs, String> {
        let flags = ["agent", "--node-name", "n"].iter().chain(flags);
        let args = Wrapper::try_parse_from(flags).map_err(|error| error.to_string())?.args;
        check(&args).map_err(|error| error.to_string())?;
        Ok(args)
    }

    #[test]
    fn flags_are_parsed_into_their_types() {
        let args = parse(&[
            "--source=dir:/yaml",
            "--uplinks=eth0,eth1",
            "--pod-interfaces=veth*",
            "--metrics-bind-address=",
            "--healthz-bind-address=:1",
            "--map-size=TCP_FLOWS_V4=7",
            "--map-size=DEVICES=8",
        ])
        .unwrap();
        assert_eq!(args.source, SourceArg::Dir("/yaml".into()));
        assert_eq!(args.uplinks, Uplinks::Names(vec!["eth0".into(), "eth1".into()]));
        assert_eq!(args.pod_interfaces, PodInterfaces::Patterns(vec!["veth*".into()]));
        assert_eq!(args.metrics_bind_address, Some(BindAddress::Nowhere));
        assert_eq!(args.healthz_bind_address, "0.0.0.0:1".parse().ok());
        let sizes: Vec<_> = args.map_sizes.iter().map(|size| (size.name, size.entries)).collect();
        assert_eq!(sizes, [("TCP_FLOWS_V4", 7), ("DEVICES", 8)]);
    }

    #[test]
    fn what_cannot_be_done_is_refused_in_words() {
        let refused = |flags: &[&str], words: &str| {
            let error = parse(flags).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        refused(&["--source=dir:/y", "--map-size=SOCKETS_V4=1"], "no map SOCKETS_V4");
        refused(&["--source=dir:/y", "--map-size=EXITS_V4=2048"], "no map EXITS_V4");
        refused(&["--source=dir:"], "dir:PATH");
        refused(&["--source=dir:/y", "--map-size=FLOWS=1"], "no map FLOWS");
        refused(&["--source=dir:/y", "--hairpin-addresses=10.0.0.1,10.0.0.2"], "one address");
    }
}
