// SPDX-License-Identifier: Apache-2.0
//! What users must know goes to where they look: Kubernetes Events at their objects.
//!
//! Everything is in `pintle status`, too; but who has written a Service that is not in force looks at
//! the Service.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::node_agent::NodeAgent;
use crate::{
    model::name::{Kind, ObjectName, ObjectRef},
    source::event::{Announcement, Announcements, Whose},
};

/// So many may be told at once, and another one each time that this has passed: what changes its words
/// all the time must not become a flood.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(10);

/// Tells the source what users must know, each thing once until it is over.
pub struct Announcer {
    /// A source that cannot be told anything has none.
    announcements: Option<Announcements>,
    told: HashSet<Announcement>,
    left: u32,
    refilled: Instant,
}

impl Announcer {
    /// Nothing was told yet.
    pub fn new(announcements: Option<Announcements>) -> Self {
        Self { announcements, told: HashSet::new(), left: BURST, refilled: Instant::now() }
    }

    /// Tells what is wrong now and was not before. What cannot be told now is told later.
    pub fn follow(&mut self, agent: &NodeAgent) {
        let Some(announcements) = self.announcements.clone() else { return };
        self.refill(Instant::now());
        let mut told = HashSet::new();
        for problem in problems(agent) {
            let is_known = self.told.contains(&problem);
            if !is_known && self.left > 0 && announcements.try_send(problem.clone()).is_ok() {
                self.left -= 1;
                told.insert(problem);
            } else if is_known {
                told.insert(problem);
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
    let rejected = agent.planner.rejections().map(|rejection| Announcement {
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
