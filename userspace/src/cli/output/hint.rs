// SPDX-License-Identifier: Apache-2.0
//! Errors for people: what went wrong, why, and what to do next. All hints stand here.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use thiserror::Error;

use super::Format;
use crate::{
    datapath::{object::LoadError, pins::PinError, view::OpenError},
    server::socket::AnotherAgent,
    takeover::running::KubeProxyRuns,
};

/// What a command cannot do for reasons of its own.
#[derive(Debug, Error)]
pub enum CommandError {
    /// A name that nothing has.
    #[error("no {kind} {name}")]
    NoSuch {
        /// What was looked for.
        kind: &'static str,
        /// The name.
        name: String,
        /// The name that is most like it.
        nearest: Option<String>,
    },
    /// `--source dir:PATH` without a directory.
    #[error("there is no directory {}", path.display())]
    NoDirectory {
        /// The path.
        path: PathBuf,
    },
    /// A connection without port.
    #[error("{to} has no port")]
    NoPort {
        /// What was dialled.
        to: String,
    },
    /// What only the agent knows cannot be asked for.
    #[error("the agent does not answer")]
    NoAgent(#[source] io::Error),
    /// `cleanup` while an agent runs.
    #[error("an agent is running on this node")]
    AgentRuns,
}

/// Prints an error, and its hint if there is one.
pub fn report(err: &mut dyn Write, error: &anyhow::Error, format: Format) -> io::Result<()> {
    let text = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let hint = hint(error);
    if format.is_json() {
        return writeln!(err, "{}", serde_json::json!({ "error": text, "hint": hint }));
    }
    writeln!(err, "error: {text}")?;
    match hint {
        Some(hint) => writeln!(err, "hint:  {hint}"),
        None => Ok(()),
    }
}

/// What to do about an error.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    let root = "run as root, or: kubectl -n kube-system exec ds/pintle -- pintle ...";
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    if error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(denied)) {
        return Some(root.into());
    }
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<OpenError>() {
            return Some(match error {
                OpenError::Denied { .. } => root.into(),
                OpenError::NothingLoaded => {
                    "start the agent, or name its directory with --bpf-root".into()
                }
                OpenError::OtherVersion { .. } | OpenError::Incompatible { .. } => {
                    "use the pintle binary of the running agent: \
                     kubectl -n kube-system exec ds/pintle -- pintle ..."
                        .into()
                }
                OpenError::Map { .. } | OpenError::Directory { .. } => {
                    "restart the agent, which completes what is missing".into()
                }
            });
        }
        if let Some(hint) = hint_of_start(cause) {
            return Some(hint);
        }
        if let Some(error) = cause.downcast_ref::<CommandError>() {
            return match error {
                CommandError::NoSuch { nearest, .. } => {
                    nearest.as_ref().map(|nearest| format!("did you mean {nearest}?"))
                }
                CommandError::NoDirectory { .. } => Some(
                    "--source dir:PATH names a directory of Kubernetes YAML or JSON files".into(),
                ),
                CommandError::NoPort { to } => {
                    Some(format!("name it, as in {to}:80, or take --protocol icmp"))
                }
                CommandError::NoAgent(_) => {
                    Some("policies and rules have their names in the agent: start it".into())
                }
                CommandError::AgentRuns => Some(
                    "stop the agent first, or give --force: it will not put things back".into(),
                ),
            };
        }
    }
    None
}

/// What to do when the agent cannot start.
fn hint_of_start(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(PinError::NotBpffs { .. }) = cause.downcast_ref() {
        return Some(
            "mount -t bpf bpf /sys/fs/bpf, or name a directory in a bpf filesystem with --bpf-root"
                .into(),
        );
    }
    if cause.is::<AnotherAgent>() {
        return Some("stop it first; agents side by side need a --bpf-root each".into());
    }
    if cause.is::<KubeProxyRuns>() {
        return Some(
            "remove it first: kubectl -n kube-system delete daemonset kube-proxy (kubeadm), or \
             --disable-kube-proxy (k3s, rke2), or its add-on;\n       \
             --take-over=force starts beside it"
                .into(),
        );
    }
    match cause.downcast_ref::<LoadError>()? {
        LoadError::ForeignMap { .. } => {
            Some("nothing was changed; remove that pin, or give another --bpf-root".into())
        }
        LoadError::Object(_) => Some("with a smaller --map-size the maps may fit".into()),
        LoadError::Program { .. } => Some("Linux 6.1 or later is needed".into()),
        LoadError::UnknownMap(_) => Some("`pintle get maps` lists the maps".into()),
        _ => None,
    }
}

/// The candidate most like the name, if one is close enough to be a slip.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let distances = candidates.map(|candidate| (distance(name, candidate), candidate));
    let (distance, candidate) = distances.min()?;
    (distance <= 1 + name.len() / 4).then(|| candidate.to_owned())
}

/// Insertions, deletions and replacements that turn one word into the other; a swap of neighbours
/// counts as two.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(error: impl Into<anyhow::Error>, format: Format) -> String {
        let mut text = Vec::new();
        report(&mut text, &error.into(), format).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn an_error_says_what_why_and_what_next() {
        let denied = || OpenError::Denied { path: "/bpf".into() };
        assert_eq!(
            printed(denied(), Format::Table),
            "error: open /bpf: permission denied\n\
             hint:  run as root, or: kubectl -n kube-system exec ds/pintle -- pintle ...\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&printed(denied(), Format::Json)).unwrap();
        assert_eq!(json["error"], "open /bpf: permission denied");
        assert_eq!(printed(anyhow::anyhow!("plain"), Format::Table), "error: plain\n");
    }

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = || ["shop/web", "shop/cart"].into_iter();
        assert_eq!(nearest("shop/wbe", known()).as_deref(), Some("shop/web"));
        assert_eq!(nearest("other/thing", known()), None);
    }
}
