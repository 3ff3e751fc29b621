// SPDX-License-Identifier: Apache-2.0
//! Changes that wait until the new pods of this node are found: who is sent to a pod must be let in
//! there, and a pod is let in once its interface is known. On a bridge it has to answer for that.

use std::{mem, time::Instant};

use crate::{node::solicit::ANSWER, source::event::Delivery};

/// Deliveries in their order.
#[derive(Debug, Default)]
pub struct Held {
    deliveries: Vec<Delivery>,
    until: Option<Instant>,
}

impl Held {
    /// Adds what came last. No delivery waits for longer than a pod takes to answer, however many
    /// pods come after it.
    pub fn push(&mut self, delivery: Delivery, now: Instant) {
        self.until.get_or_insert(now + ANSWER);
        self.deliveries.push(delivery);
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Until when it waits at most.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// What waits no longer, if pods are still to answer or not.
    pub fn release(&mut self, pods_may_answer: bool, now: Instant) -> Vec<Delivery> {
        if pods_may_answer && self.until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        self.until = None;
        mem::take(&mut self.deliveries)
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
        assert!(held.release(true, now).is_empty());
        push(&mut held, now + ANSWER / 2);
        assert_eq!(held.release(false, now + ANSWER / 2).len(), 2);
        assert!(held.is_empty() && held.until().is_none());
    }

    #[test]
    fn the_first_change_waits_for_no_longer_than_one_pod() {
        let (mut held, now) = (Held::default(), Instant::now());
        push(&mut held, now);
        push(&mut held, now + ANSWER / 2);
        assert_eq!(held.until(), Some(now + ANSWER));
        assert_eq!(held.release(true, now + ANSWER).len(), 2);
    }
}
