// SPDX-License-Identifier: Apache-2.0
//! Counting: the only writer of `COUNTERS`.

use pintle_abi::{
    counter::{CONNECT_ROW, Counter, Hook, counter_in, counter_index, drop_in, drop_index},
    drop_reason::DropReason,
};

use crate::maps::COUNTERS;

/// Counts an event at a hook.
#[inline(always)]
pub fn count(hook: Hook, counter: Counter) {
    increment(counter_index(hook, counter));
}

/// Takes back an event that was counted.
#[inline(always)]
pub fn uncount(hook: Hook, counter: Counter) {
    advance(counter_index(hook, counter), u64::MAX);
}

/// Counts a dropped packet; called once for each, where its fate is sealed.
#[inline(always)]
pub fn dropped(hook: Hook, reason: DropReason) {
    increment(drop_index(hook, reason));
}

/// Counts at a hook, by its number, a packet that the audited policies would drop.
#[inline(always)]
pub fn would_drop(hook: u32) {
    increment(counter_in(hook, Counter::WouldDrop));
}

/// Counts a socket for which a backend was chosen.
#[inline(always)]
pub fn connected() {
    increment(counter_in(CONNECT_ROW, Counter::NewFlow));
}

/// Counts a socket that was refused.
#[inline(always)]
pub fn refused(reason: DropReason) {
    increment(drop_in(CONNECT_ROW, reason));
}

#[inline(always)]
fn increment(index: u32) {
    advance(index, 1);
}

#[inline(always)]
fn advance(index: u32, number: u64) {
    if let Some(count) = COUNTERS.get(index) {
        // SAFETY: the element is this CPU's own, and lives as long as the map.
        unsafe { *count = (*count).wrapping_add(number) };
    }
}
