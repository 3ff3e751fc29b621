// SPDX-License-Identifier: Apache-2.0
//! What users must know goes to where they look: Kubernetes Events at their objects.
//!
//! Everything is in `pintle status`, too; but who has written a Service that is not in force looks at
//! the Service.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::node_agent::NodeAgent;
use crate::{
    model::{
        name::{Kind, ObjectName, ObjectRef},
        rejection::Rejection,
    },
    source::event::{Announcement, Announcements, Whose},
};

/// So many may be told at once, and another one each time that this has passed: what changes its words
/// all the time must not become a flood.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(10);
/// The API server forgets Events after an hour; what is still so then is told again.
const AGAIN: Duration = Duration::from_secs(3600);

/// Tells the source what users must know, each thing once until it is over.
pub struct Announcer {
    /// A source that cannot be told anything has none.
    announcements: Option<Announcements>,
    /// With the time.
    told: HashMap<Announcement, Instant>,
    left: u32,
    refilled: Instant,
}

impl Announcer {
    /// Nothing was told yet.
    pub fn new(announcements: Option<Announcements>) -> Self {
        Self { announcements, told: HashMap::new(), left: BURST, refilled: Instant::now() }
    }

    /// Tells what is wrong now and was not before. What cannot be told now is told later.
    pub fn follow(&mut self, agent: &NodeAgent) {
        let Some(announcements) = self.announcements.clone() else { return };
        let now = Instant::now();
        self.refill(now);
        let mut told = HashMap::new();
        for problem in problems(agent) {
            let known = self.told.get(&problem).copied();
            if let Some(at) = known.filter(|at| now.duration_since(*at) < AGAIN) {
                told.insert(problem, at);
            } else if self.left > 0 && announcements.try_send(problem.clone()).is_ok() {
                self.left -= 1;
                told.insert(problem, now);
            }
        }
        self.told = told;
    }

    fn refill(&mut self, now: Instant) {
        let due = now.duration_since(self.refilled).as_secs() / REFILL.as_secs();
        if due > 0 {
            self.left = BURST.min(self.left.saturating_add(due.try_into().unwrap_or(BURST)));
            self.refilled = now;
        }
    }
}

/// What is wrong now.
fn problems(agent: &NodeAgent) -> impl Iterator<Item = Announcement> {
    let node = ObjectRef::new(Kind::Node, ObjectName::cluster(&agent.node_name));
    let here = move |reason, note| Announcement {
        object: node.clone(),
        reason,
        note,
        whose: Whose::ThisNode,
    };
    // That the API server is away cannot be told to it.
    let is_object = |rejection: &Rejection| rejection.object.kind != Kind::Watch;
    let rejected = agent.planner.rejections().filter(is_object).map(|rejection| Announcement {
        note: rejection.reason.to_string(),
        object: rejection.object,
        reason: "Rejected",
        whose: Whose::Everybody,
    });
    let unwritten = agent.reconciler.errors().map({
        let here = here.clone();
        move |(frontend, error)| here("NotProgrammed", format!("{frontend}: {error}"))
    });
    let unanswered = agent.unanswered.iter().map({
        let here = here.clone();
        // As kube-proxy names it.
        move |note| here("FailedToStartServiceHealthcheck", note.clone())
    });
    let closed = agent.policies.failures().map(move |note| here("PolicyNotInForce", note));
    rejected.chain(unwritten).chain(unanswered).chain(closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_told_comes_back_with_time_up_to_a_burst() {
        let mut announcer = Announcer::new(None);
        let start = announcer.refilled;
        announcer.left = 0;
        announcer.refill(start + REFILL - Duration::from_secs(1));
        assert_eq!(announcer.left, 0);
        announcer.refill(start + REFILL);
        assert_eq!(announcer.left, 1);
        announcer.refill(start + REFILL * 1000);
        assert_eq!(announcer.left, BURST);
    }
}
