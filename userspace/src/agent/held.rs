// SPDX-License-Identifier: Apache-2.0
//! Changes that wait until the new pods of this node are found: who is sent to a pod must be let in
//! there, and a pod is let in once its interface is known. On a bridge it has to answer for that.

use std::{collections::VecDeque, time::Instant};

use crate::{node::solicit::ANSWER, source::event::Delivery};

/// Deliveries in their order.
#[derive(Debug, Default)]
pub struct Held {
    deliveries: VecDeque<Delivery>,
    until: Option<Instant>,
}

impl Held {
    /// Adds what came last. No delivery waits for longer than a pod takes to answer, however many
    /// pods come after it.
    pub fn push(&mut self, delivery: Delivery, now: Instant) {
        self.until.get_or_insert(now + ANSWER);
        self.deliveries.push_back(delivery);
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Until when it waits at most.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// The next one that waits no longer, if pods are still to answer or not.
    pub fn release(&mut self, pods_may_answer: bool, now: Instant) -> Option<Delivery> {
        if pods_may_answer && self.until.is_some_and(|until| now < until) {
            return None;
        }
        let next = self.deliveries.pop_front();
        if self.deliveries.is_empty() {
            self.until = None;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(held: &mut Held, now: Instant) {
        held.push(Delivery { noticed: now, batch: Vec::new() }, now);
    }

    #[test]
    fn changes_wait_for_pods_that_may_answer() {
        let (mut held, now) = (Held::default(), Instant::now());
        push(&mut held, now);
        assert!(held.release(true, now).is_none());
        let later = now + ANSWER / 2;
        push(&mut held, later);
        assert_eq!(held.release(false, later).unwrap().noticed, now);
        assert!(!held.is_empty(), "the second is not released with the first");
        assert_eq!(held.release(false, later).unwrap().noticed, later);
        assert!(held.is_empty() && held.until().is_none());
        assert!(held.release(false, later).is_none());
    }

    #[test]
    fn the_first_change_waits_for_no_longer_than_one_pod() {
        let (mut held, now) = (Held::default(), Instant::now());
        push(&mut held, now);
        push(&mut held, now + ANSWER / 2);
        assert_eq!(held.until(), Some(now + ANSWER));
        let end = now + ANSWER;
        assert!(held.release(true, end).is_some() && held.release(true, end).is_some());
    }
}
