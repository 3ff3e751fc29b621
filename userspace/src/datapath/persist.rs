// SPDX-License-Identifier: Apache-2.0
//! Single writes to maps that the kernel may refuse for the moment.

use std::io;

use aya::maps::MapError;
use pintle_abi::map::MapSpec;

use crate::reconcile::{
    policies::tables::{Stopped, Written},
    tables::WriteError,
};

/// How often a write is tried that the kernel refuses for want of memory just now, or because
/// another CPU holds a lock.
const ATTEMPTS: u32 = 8;

/// Writes, and again if the kernel says that it cannot just now.
pub(super) fn persist(
    spec: &MapSpec,
    mut write: impl FnMut() -> Result<(), MapError>,
) -> Result<(), WriteError> {
    let mut attempt = 1;
    loop {
        match write() {
            Ok(()) => return Ok(()),
            Err(error) if attempt < ATTEMPTS && is_transient(&error) => attempt += 1,
            Err(error) => return Err(refused(spec, error)),
        }
    }
}

/// Writes a list, and again from where it stopped if the kernel says that it cannot just now. `write`
/// is told how many are written, and says how many more are.
pub(super) fn persist_list(
    spec: &MapSpec,
    mut write: impl FnMut(usize) -> (usize, io::Result<()>),
) -> Written {
    let (mut made, mut attempt) = (0, 1);
    loop {
        let (more, result) = write(made);
        made += more;
        if more > 0 {
            attempt = 1;
        }
        match result.map_err(MapError::from) {
            Ok(()) => return Ok(()),
            Err(error) if attempt < ATTEMPTS && is_transient(&error) => attempt += 1,
            Err(error) => return Err(Stopped { made, error: refused(spec, error) }),
        }
    }
}

/// What was not there is removed.
pub(super) fn removed(spec: &MapSpec, result: Result<(), MapError>) -> Result<(), WriteError> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(refused(spec, error)),
    }
}

fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::IoError(error) => error.raw_os_error(),
        _ => None,
    }
}

fn is_transient(error: &MapError) -> bool {
    matches!(errno(error), Some(libc::EBUSY | libc::ENOMEM | libc::EAGAIN | libc::EINTR))
}

fn is_missing(error: &MapError) -> bool {
    errno(error) == Some(libc::ENOENT)
}

/// A write that the kernel refused for good.
pub(super) fn refused(spec: &MapSpec, error: MapError) -> WriteError {
    WriteError { map: spec.name, source: Box::new(error) }
}
