// SPDX-License-Identifier: Apache-2.0
//! The thread of a source: large files and long lists delay nobody else.

use std::thread;

use tokio::runtime;

use super::event::SourceError;

/// Starts a thread that does this work, and ends with it.
pub(super) fn spawn<F>(name: &str, work: F) -> Result<(), SourceError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(SourceError::Thread)?;
    let work = move || runtime.block_on(work);
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(SourceError::Thread)?;
    Ok(())
}
