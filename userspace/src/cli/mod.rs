// SPDX-License-Identifier: Apache-2.0
//! The command line: arguments, joining names to numbers, rendering. The only module that prints.
//!
//! Invariants:
//! - data goes to stdout, everything else to stderr, and the same data gives the same bytes;
//! - table and JSON come from the same cells;
//! - exit codes: 0 done, 1 could not do it, 2 wrong usage, 3 done, and the answer is bad.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::datapath::pins;

pub mod agent;
pub mod cleanup;
pub mod client;
pub mod counters;
pub mod env;
pub mod get;
pub mod kube_proxy_flags;
pub mod names;
pub mod output;
pub mod status;
pub mod trace;
pub mod verdict;
pub mod version;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod policy_golden;

use env::Env;
use output::{Format, Style, hint};

/// An eBPF kube-proxy replacement.
#[derive(Debug, Parser)]
#[command(name = "pintle", version, max_term_width = 100, propagate_version = false)]
pub struct Cli<A: Subcommand = Nothing> {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Either<A>,
}

/// A command of ours or one that was added.
#[derive(Debug, Subcommand)]
pub enum Either<A: Subcommand> {
    /// One of this crate's.
    #[command(flatten)]
    Ours(Command),
    /// One of the binary's.
    #[command(flatten)]
    Added(A),
}

/// Commands that the binary adds to those of this crate, because they are made of more than it.
pub trait Added: Subcommand {
    /// Runs one.
    fn run(self, global: &Global) -> anyhow::Result<Outcome>;
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub output: Format,
    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub color: When,
    /// Print tables without their first line.
    #[arg(long, global = true)]
    pub no_headers: bool,
    /// Show addresses instead of names.
    #[arg(long, global = true)]
    pub numeric: bool,
    /// Directory of the pinned maps and links.
    #[arg(long, global = true, value_name = "DIR", env = "PINTLE_BPF_ROOT",
          default_value = pins::DEFAULT_ROOT)]
    pub bpf_root: PathBuf,
    /// Directory of the agent's socket.
    #[arg(long, global = true, value_name = "DIR", env = "PINTLE_RUN_DIR",
          default_value = crate::server::socket::DEFAULT_RUN_DIR)]
    pub run_dir: PathBuf,
    /// Tell more on stderr; twice, or with a number, for even more.
    // kube-proxy's -v takes a number.
    #[arg(short, long, global = true, value_name = "N", action = clap::ArgAction::Append,
          num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    pub verbose: Vec<u8>,
}

impl Global {
    /// How much more is to be told; `None` if nothing was said.
    pub fn verbosity(&self) -> Option<u32> {
        let all = self.verbose.iter().map(|verbose| u32::from(*verbose));
        (!self.verbose.is_empty()).then(|| all.sum())
    }
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// No further commands.
#[derive(Debug, Subcommand)]
pub enum Nothing {}

impl Added for Nothing {
    fn run(self, _: &Global) -> anyhow::Result<Outcome> {
        match self {}
    }
}

/// The commands of this crate.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run on the node: keep the maps equal to the source (changes the node)
    Agent(Box<agent::AgentArgs>),
    /// One screen: is this node fine?
    Status(status::StatusArgs),
    /// List what is in the maps
    Get {
        /// What.
        #[command(subcommand)]
        what: get::Resource,
    },
    /// Explain a connection: which backend, and which rule lets it pass or not
    Trace(trace::TraceArgs),
    /// Totals by reason and hook
    Counters,
    /// Remove every program, pin and map we own (changes the node)
    Cleanup(cleanup::CleanupArgs),
    /// Completions for a shell, to be sourced by it
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Versions of this binary, its maps and its output
    Version,
}

/// How a command ended that did what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Good,
    /// The answer is bad: unhealthy, or not in time.
    Bad,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Good => Self::SUCCESS,
            Outcome::Bad => Self::from(3),
        }
    }
}

/// Parses the arguments, runs the command, reports its error.
pub fn main<A: Added>() -> ExitCode {
    let cli = Cli::<A>::parse();
    let format = cli.global.output;
    match run(cli) {
        Ok(outcome) => outcome.into(),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if stderr is closed, too.
            let _ = hint::report(&mut io::stderr(), &error, format);
            ExitCode::FAILURE
        }
    }
}

fn run<A: Added>(cli: Cli<A>) -> anyhow::Result<Outcome> {
    let global = &cli.global;
    let command = match cli.command {
        Either::Ours(command) => command,
        Either::Added(command) => return command.run(global),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut err = io::stderr();
    let mut env = Env::of_this_machine(global, style(global), &mut out, &mut err);
    let outcome = match command {
        Command::Agent(args) if args.kube_proxy.cleanup == Some(true) => {
            cleanup::run(&cleanup::CleanupArgs::default(), global, &mut env)?
        }
        Command::Agent(args) => agent::run(*args, global)?,
        Command::Status(args) => status::run(&args, &mut env)?,
        Command::Get { what } => get::run(&what, &mut env)?,
        Command::Trace(args) => trace::run(&args, &mut env)?,
        Command::Counters => counters::run(&mut env)?,
        Command::Cleanup(args) => cleanup::run(&args, global, &mut env)?,
        Command::Completion { shell } => completion::<A>(shell, &mut env)?,
        Command::Version => version::run(&mut env)?,
    };
    env.out.flush()?;
    Ok(outcome)
}

/// Prints what makes a shell complete our commands.
fn completion<A: Added>(shell: clap_complete::Shell, env: &mut Env<'_>) -> anyhow::Result<Outcome> {
    // The generator panics when it cannot write: a closed pipe must not look like that.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::<A>::command(), "pintle", &mut text);
    env.out.write_all(&text)?;
    Ok(Outcome::Good)
}

fn style(global: &Global) -> Style {
    let color = match global.color {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            !refused && io::stdout().is_terminal()
        }
    };
    let Global { output: format, no_headers, numeric, .. } = *global;
    Style { format, color, headers: !no_headers, numeric }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    // The agent's socket is read, not written to, when its peer goes away: only stdout breaks so.
    causes.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::<Nothing>::command().debug_assert();
    }

    #[test]
    fn more_is_told_by_repetition_or_by_number() {
        let verbosity = |arguments: &[&str]| {
            let arguments = ["pintle"].iter().chain(arguments);
            Cli::<Nothing>::try_parse_from(arguments).unwrap().global.verbosity()
        };
        assert_eq!(verbosity(&["version"]), None);
        assert_eq!(verbosity(&["-v", "version"]), Some(1));
        assert_eq!(verbosity(&["-vv", "version"]), Some(2));
        assert_eq!(verbosity(&["version", "-v", "-v"]), Some(2));
        assert_eq!(verbosity(&["agent", "-v=4"]), Some(4));
    }

    #[test]
    fn a_broken_pipe_is_recognised_below_context() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&error.context("print")));
    }
}
