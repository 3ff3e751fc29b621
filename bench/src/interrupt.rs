// SPDX-License-Identifier: Apache-2.0
//! Ctrl-C ends a run at the next turn, so that everything it made is taken down as usual.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Result, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on SIGINT and SIGTERM ask for the end, once; a second one ends the process.
pub fn watch() -> io::Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, asked.clone())?;
        signal_hook::flag::register(signal, asked.clone())?;
    }
    Ok(())
}

/// Whether to go on.
pub fn check() -> Result<()> {
    let asked = ASKED.get().is_some_and(|asked| asked.load(Ordering::Relaxed));
    ensure!(!asked, "interrupted; what was measured so far is not kept");
    Ok(())
}
