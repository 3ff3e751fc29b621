// SPDX-License-Identifier: Apache-2.0
//! The time as XDP needs it, which is short of it: the kernel is asked once a tick on each CPU, which is as
//! often as its answer changes. The number of the tick is no call, but a load.

use crate::{
    kernel::{self, tick},
    maps,
};

/// [`kernel::now_ns`], as it was when this CPU first asked in this tick: never ahead, one tick behind at most.
#[inline(always)]
pub fn now_ns() -> u64 {
    let Some(clock) = maps::CLOCK.get(0) else { return kernel::now_ns() };
    // SAFETY: the element is this CPU's own, and lives as long as the map.
    let [asked, time] = unsafe { &mut *clock };
    let tick = tick();
    // Ticks only go up; one that never comes holds the clock.
    if *asked < tick {
        (*asked, *time) = (tick, kernel::now_ns());
    }
    *time
}
