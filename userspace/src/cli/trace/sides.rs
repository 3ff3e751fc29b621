// SPDX-License-Identifier: Apache-2.0
//! What policies say of a connection: on the client's side and on the server's.

use std::{io, net::IpAddr};

use pintle_abi::policy::ruleset;

use super::{Candidate, Lead, Said};
use crate::{
    cli::{
        client::Agent,
        output::{Cell, Tone, hint::CommandError},
        verdict,
    },
    datapath::{
        policy_entry::EndpointEntry,
        policy_view::PolicyMode,
        view::{Maps, ReadError},
    },
    model::{addr::Protocol, policy::Direction},
    server::policy::{Answer, Cause, Party, PartyKind, Question},
};

/// Whether the maps hold what the agent has compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    Agree,
    Differ,
}

impl Agreement {
    pub(super) fn cell(self) -> Cell {
        match self {
            Self::Agree => Cell::Word("agree", Tone::Good),
            Self::Differ => Cell::Word("differ", Tone::Bad),
        }
    }
}

/// Why something is said.
#[derive(Clone, Debug)]
enum Reason {
    Policy(Cause),
    /// Something else, in a word.
    Other(&'static str),
}

/// What is said of a connection on one side.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// `None` if no pod of this node is at either end.
    pub direction: Option<Direction>,
    /// The pod that is judged.
    pub pod: Option<String>,
    pub said: Said,
    reason: Reason,
    /// `None` if there is nothing to compare.
    pub maps: Option<Agreement>,
}

impl Side {
    fn other(said: Said, reason: &'static str) -> Self {
        let reason = Reason::Other(reason);
        Self { direction: None, pod: None, said, reason, maps: None }
    }

    /// Tier, policies and rule.
    pub fn reason(&self) -> [Cell; 3] {
        match &self.reason {
            Reason::Policy(cause) => verdict::cells(Some(cause)),
            Reason::Other(word) => [Cell::None, Cell::None, Cell::text(*word)],
        }
    }
}

/// Judges the connections of a client.
pub(super) struct Judge<'a> {
    protocol: Option<Protocol>,
    client: &'a Party,
    maps: &'a dyn Maps,
    mode: PolicyMode,
    endpoints: Vec<EndpointEntry>,
}

impl<'a> Judge<'a> {
    pub fn new(
        protocol: Option<Protocol>,
        client: &'a Party,
        maps: &'a dyn Maps,
    ) -> Result<Self, ReadError> {
        let (mode, _) = maps.policy_mode()?;
        Ok(Self { protocol, client, maps, mode, endpoints: maps.endpoints()? })
    }

    /// What is said of a connection from an address of the client, on each side that is here.
    pub fn sides(
        &self,
        from: IpAddr,
        candidate: Candidate,
        server: &Party,
        agent: &dyn Agent,
    ) -> anyhow::Result<Vec<Side>> {
        let to = match candidate.lead {
            Lead::To(ip) => ip,
            Lead::Nowhere(why) => return Ok(vec![Side::other(Said::Refused, why)]),
        };
        if self.mode == PolicyMode::Off {
            return Ok(vec![Side::other(Said::Allowed, "policies-off")]);
        }
        let question = |pod, direction, peer| Question {
            pod,
            direction,
            peer,
            protocol: self.protocol,
            port: candidate.port,
        };
        let mut sides = Vec::new();
        if self.client.kind == PartyKind::LocalPod {
            sides.push(self.side(&question(from, Direction::Egress, to), self.client, agent)?);
        }
        if server.kind == PartyKind::LocalPod {
            sides.push(match self.client.kind {
                PartyKind::OwnNode => Side {
                    direction: Some(Direction::Ingress),
                    pod: server.name.clone(),
                    said: Said::Allowed,
                    reason: Reason::Policy(Cause::OwnNode),
                    maps: None,
                },
                _ => self.side(&question(to, Direction::Ingress, from), server, agent)?,
            });
        }
        if sides.is_empty() {
            sides.push(Side::other(Said::Allowed, "not-judged-here"));
        }
        Ok(sides)
    }

    fn side(&self, question: &Question, pod: &Party, agent: &dyn Agent) -> anyhow::Result<Side> {
        let answers = agent.judge(std::slice::from_ref(question)).map_err(CommandError::NoAgent)?;
        let silent = || CommandError::NoAgent(io::ErrorKind::InvalidData.into());
        let answer = answers.into_iter().next().ok_or_else(silent)?;
        let (said, cause, maps) = self.compared(question, &answer)?;
        let reason = Reason::Policy(cause);
        let direction = Some(question.direction);
        Ok(Side { direction, pod: answer.pod.or_else(|| pod.name.clone()), said, reason, maps })
    }

    /// What the agent says, unless the maps hold the pod closed.
    fn compared(
        &self,
        question: &Question,
        answer: &Answer,
    ) -> Result<(Said, Cause, Option<Agreement>), ReadError> {
        let has_it = |entry: &&EndpointEntry| entry.ips.contains(&question.pod);
        let Some(entry) = self.endpoints.iter().find(has_it) else {
            let said = match self.mode {
                PolicyMode::Closed => Said::Denied,
                PolicyMode::Open | PolicyMode::Off => Said::Allowed,
            };
            return Ok((said, Cause::NotProgrammed, None));
        };
        let programmed = entry.ruleset(question.direction, question.peer);
        let agreement =
            |agree: bool| Some(if agree { Agreement::Agree } else { Agreement::Differ });
        if programmed == ruleset::CLOSED {
            let reason = match &answer.cause {
                Cause::Closed { reason } => reason.clone(),
                _ => None,
            };
            let agree = agreement(answer.ruleset == programmed);
            return Ok((Said::Denied, Cause::Closed { reason }, agree));
        }
        let (said, cause) = match (answer.is_allowed, &answer.would_deny) {
            (true, None) => (Said::Allowed, answer.cause.clone()),
            (true, Some(cause)) => (Said::WouldDeny, cause.clone()),
            (false, _) => (Said::Denied, answer.cause.clone()),
        };
        let expected = (answer.is_allowed, answer.is_allowed && answer.would_deny.is_none());
        let agree = match programmed {
            _ if programmed != answer.ruleset => false,
            ruleset::OPEN => answer.is_allowed,
            id => match self.maps.row(id, answer.class, answer.port_class)? {
                // What is denied is not judged by the audited policies.
                Some((allowed, staged)) => (allowed, allowed && staged) == expected,
                None => false,
            },
        };
        Ok((said, cause, agreement(agree)))
    }
}
