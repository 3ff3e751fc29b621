// SPDX-License-Identifier: Apache-2.0
//! May packets be redirected past the host's stack on this node?

use crate::{cli::agent, node::netfilter};

/// The node's answer; each interface has a say of its own besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastPath {
    /// They may.
    On,
    /// The operator has switched it off.
    Off,
    /// Another agent enforces policy in netfilter, which redirected packets would escape.
    Policed(&'static str),
}

impl FastPath {
    /// The answer at the start.
    pub fn at_start(flag: agent::FastPath) -> Self {
        match flag {
            agent::FastPath::Off => Self::Off,
            agent::FastPath::Auto => Self::On.given(look()),
        }
    }

    /// The answer once netfilter was looked at again.
    pub fn given(self, engine: Option<&'static str>) -> Self {
        match (self, engine) {
            (Self::Off, _) => Self::Off,
            (_, Some(engine)) => Self::Policed(engine),
            (_, None) => Self::On,
        }
    }

    /// Whether packets may be redirected.
    pub fn is_on(self) -> bool {
        self == Self::On
    }

    /// Why they may not.
    pub fn reason(self) -> Option<String> {
        match self {
            Self::On => None,
            Self::Off => Some("switched off".to_owned()),
            Self::Policed(engine) => Some(format!("{engine} enforces policy in netfilter")),
        }
    }
}

/// The policy engine in netfilter. What cannot be read counts as one: redirecting must be safe.
pub fn look() -> Option<&'static str> {
    netfilter::policy_engine().unwrap_or_else(|error| {
        tracing::warn!(%error, "read the node's netfilter rules");
        Some("something unreadable")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_engine_ends_the_fast_path_and_its_leaving_restores_it() {
        let policed = FastPath::On.given(Some("Calico"));
        assert_eq!(policed, FastPath::Policed("Calico"));
        assert!(!policed.is_on());
        assert_eq!(policed.given(None), FastPath::On);
    }

    #[test]
    fn what_is_switched_off_stays_off() {
        assert_eq!(FastPath::Off.given(None), FastPath::Off);
        assert_eq!(FastPath::Off.given(Some("Calico")), FastPath::Off);
    }
}
