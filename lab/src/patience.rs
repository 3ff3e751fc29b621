// SPDX-License-Identifier: Apache-2.0
//! How long things may take: on an interpreted machine, several times as long as on others.

use std::{env, sync::LazyLock, time::Duration};

/// The factor for this machine, which the guests' init script sets.
const VARIABLE: &str = "PINTLE_PATIENCE";

static FACTOR: LazyLock<u32> = LazyLock::new(|| match env::var(VARIABLE) {
    Ok(value) => value.parse().unwrap_or_else(|error| panic!("{VARIABLE}={value}: {error}")),
    Err(_) => 1,
});

/// What takes this long elsewhere may take so long here.
pub fn at_most(elsewhere: Duration) -> Duration {
    elsewhere * *FACTOR
}
