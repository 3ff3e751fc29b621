// SPDX-License-Identifier: Apache-2.0
//! When policies begin to hold on a node where nothing was judged before: with the first complete
//! state, so that no pod is cut off that could talk until then.

use std::time::{Duration, Instant};

/// How long that state is waited for. What is not known by then is closed, or open, as configured.
const PATIENCE: Duration = Duration::from_secs(10);

/// Policies that do not hold yet.
#[derive(Clone, Copy, Debug)]
pub struct Beginning {
    /// How they are to hold: one of `pintle_abi::policy::policy_mode`.
    pub mode: u32,
    at_latest: Instant,
}

impl Beginning {
    /// Policies that are to hold in a mode.
    pub fn new(mode: u32, now: Instant) -> Self {
        Self { mode, at_latest: now + PATIENCE }
    }

    /// The first complete state was waited for long enough.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.at_latest <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_state_is_not_waited_for_without_end() {
        let now = Instant::now();
        let beginning = Beginning::new(1, now);
        assert!(!beginning.is_overdue(now + PATIENCE / 2));
        assert!(beginning.is_overdue(now + PATIENCE));
    }
}
