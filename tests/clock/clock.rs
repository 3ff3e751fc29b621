// SPDX-License-Identifier: Apache-2.0
//! A clock that shows what a test wants, and can tell the truth all the same.

use std::{
    env, io,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Seconds.
pub const DAY: i64 = 86_400;

/// Only the guests' init script sets it.
const IN_A_GUEST: &str = "PINTLE_GUEST";

/// The machine's clock, which is right again when this is dropped.
pub struct Clock {
    started: SystemTime,
    since: Instant,
}

impl Clock {
    /// Takes it over.
    pub fn new() -> Self {
        assert!(
            env::var_os(IN_A_GUEST).is_some(),
            "this sets the machine's clock, so it runs in guests only: `cargo xtask test vm`"
        );
        Self { started: SystemTime::now(), since: Instant::now() }
    }

    /// The time that others have.
    pub fn truth(&self) -> SystemTime {
        self.started + self.since.elapsed()
    }

    /// Shows a time that is so many seconds wrong.
    pub fn show(&self, shift: i64) {
        let truth = self.truth().duration_since(UNIX_EPOCH).expect("after 1970");
        let seconds = i64::try_from(truth.as_secs()).expect("seconds") + shift;
        let time = libc::timespec { tv_sec: seconds, tv_nsec: truth.subsec_nanos().into() };
        // SAFETY: the time outlives the call.
        let result = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) };
        assert_eq!(result, 0, "set the clock: {}", io::Error::last_os_error());
        let shown = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let wrong = shown.abs_diff(Duration::from_secs(seconds.unsigned_abs()));
        assert!(wrong < Duration::from_secs(10), "it shows {shown:?}");
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.show(0);
    }
}
