// SPDX-License-Identifier: Apache-2.0
//! Detaches what a pinned link attaches, at once: the kernel does it some time after the pin is
//! removed, and until then packets meet programs that the node's owner believes gone.

use std::{io, path::Path};

use super::link::Link;

/// Detaches the program of a pinned link; the pin stays.
pub fn detach(pin: &Path) -> io::Result<()> {
    Link::open(pin)?.detach()
}
