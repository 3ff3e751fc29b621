// SPDX-License-Identifier: Apache-2.0
//! A directory of Kubernetes YAML or JSON as a source, kept current with inotify.
//!
//! Files are `.yaml`, `.yml` and `.json`, not hidden, not in subdirectories. Write them atomically
//! (to another name, then rename) if half of a file must never be seen. A mounted ConfigMap works:
//! its files are links, and the swap of its `..data` link reads everything again.
//!
//! Invariant: a change costs reading the files that it touched, and yields no event for an object
//! that is as it was.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use inotify::{EventMask, Inotify, WatchMask};
use tokio::{
    io::{Interest, unix::AsyncFd},
    select,
    sync::mpsc,
    time,
};
use tracing::{info, warn};

use super::{
    catalog::Catalog,
    convert::Converter,
    event::{BATCHES_IN_FLIGHT, Batch, Batches, Delivery, Event, Source, SourceError},
    load::{self, Content},
    parse, thread,
};
use crate::model::{
    name::{Kind, ObjectName, ObjectRef},
    rejection::RejectReason,
};

/// The link that ConfigMap and Secret mounts swap when they change.
const MOUNT_LINK: &str = "..data";
/// Space for the events of one read; what does not fit is read next.
const EVENT_BUFFER: usize = 64 * 1024;
/// How often a directory that went away is looked for.
const RETRY: Duration = Duration::from_secs(1);

/// Watches one directory.
#[derive(Clone, Debug)]
pub struct DirSource {
    path: PathBuf,
}

impl DirSource {
    /// Will watch the directory at `path`, which has to exist when the source is started.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Source for DirSource {
    /// Watches and reads on a thread of its own, so that a large file delays nobody else.
    fn start(self) -> Result<Batches, SourceError> {
        // The watch comes before the first look, so that no change falls between the two.
        let inotify = watch(&self.path).map_err(|error| self.error(error))?;
        fs::read_dir(&self.path).map_err(|error| self.error(error))?;
        let (sender, batches) = mpsc::channel(BATCHES_IN_FLIGHT);
        let watcher = Watcher {
            path: self.path,
            catalog: Catalog::default(),
            converter: Converter::default(),
            sender,
        };
        thread::spawn("source-dir", watcher.run(inotify))?;
        Ok(batches)
    }
}

impl DirSource {
    fn error(&self, error: io::Error) -> SourceError {
        SourceError::Directory { path: self.path.clone(), error }
    }
}

fn watch(path: &Path) -> io::Result<Inotify> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::CLOSE_WRITE
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR;
    inotify.watches().add(path, mask)?;
    Ok(inotify)
}

/// What a read of the inotify queue asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Touched {
    files: BTreeSet<Arc<str>>,
    everything: bool,
    directory_gone: bool,
}

/// Why the loop around one inotify instance ended.
enum Stop {
    ReceiverGone,
    DirectoryGone,
}

struct Watcher {
    path: PathBuf,
    catalog: Catalog,
    converter: Converter,
    sender: mpsc::Sender<Delivery>,
}

impl Watcher {
    async fn run(mut self, inotify: Inotify) {
        let mut noticed = Instant::now();
        let everything = Touched { everything: true, ..Touched::default() };
        let mut batch = self.read(everything);
        info!(path = %self.path.display(), events = batch.len(), "read the directory");
        batch.push(Event::Synced);
        let mut inotify = inotify;
        loop {
            if !self.send(noticed, batch).await {
                return;
            }
            match self.follow(inotify).await {
                Ok(Stop::ReceiverGone) => return,
                Ok(Stop::DirectoryGone) => {}
                Err(error) => warn!(path = %self.path.display(), %error, "watching the directory"),
            }
            (inotify, noticed, batch) = match self.find_again().await {
                Some(found) => found,
                None => return,
            };
        }
    }

    /// Delivers changes until the directory or the receiver goes away.
    async fn follow(&mut self, inotify: Inotify) -> io::Result<Stop> {
        // SAFETY: the descriptor belongs to the `Inotify` that the `AsyncFd` owns, which neither
        // changes nor closes it before it is dropped.
        let mut inotify = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }?;
        let mut buffer = vec![0; EVENT_BUFFER];
        loop {
            let mut ready = select! {
                ready = inotify.readable_mut() => ready?,
                () = self.sender.closed() => return Ok(Stop::ReceiverGone),
            };
            let events = match ready.get_inner_mut().read_events(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    continue;
                }
                events => events?,
            };
            let noticed = Instant::now();
            let mut touched = Touched::default();
            for event in events {
                touched.note(&self.path, event.mask, event.name.and_then(|name| name.to_str()));
            }
            if touched.directory_gone {
                return Ok(Stop::DirectoryGone);
            }
            let batch = self.read(touched);
            if !self.send(noticed, batch).await {
                return Ok(Stop::ReceiverGone);
            }
        }
    }

    fn read(&mut self, touched: Touched) -> Batch {
        if touched.everything
            && let Err(error) = self.read_everything()
        {
            warn!(path = %self.path.display(), %error, "reading the directory");
        }
        // A full look has seen these already.
        for file in touched.files.into_iter().filter(|_| !touched.everything) {
            let content = load::file(&self.path, &file, &self.converter);
            self.take(&file, content);
        }
        self.catalog.events()
    }

    fn read_everything(&mut self) -> io::Result<()> {
        let contents = load::directory(&self.path, &self.converter)?;
        let mut gone: BTreeSet<Arc<str>> = self.catalog.files().cloned().collect();
        for (file, content) in contents {
            gone.remove(&file);
            self.take(&file, content);
        }
        for file in gone {
            self.take(&file, Content::Gone);
        }
        Ok(())
    }

    fn take(&mut self, file: &Arc<str>, content: Content) {
        match content {
            Content::Gone => self.catalog.update(file, Vec::new()),
            Content::Unreadable(error) => self.catalog.unreadable(file, error.to_string()),
            Content::Documents(documents) => {
                self.catalog.update(file, documents);
            }
        }
    }

    /// Waits for the directory to come back; `None` if the receiver went first.
    async fn find_again(&mut self) -> Option<(Inotify, Instant, Batch)> {
        let path: Arc<str> = self.path.to_string_lossy().into();
        let directory = ObjectRef::new(Kind::Directory, ObjectName::cluster(&path));
        let mut is_told = false;
        loop {
            let noticed = Instant::now();
            if let Ok(inotify) = watch(&self.path)
                && self.read_everything().is_ok()
            {
                let mut batch = self.catalog.events();
                if is_told {
                    batch.push(Event::Rejected(directory, [].into()));
                }
                return Some((inotify, noticed, batch));
            }
            if !is_told {
                let reason = RejectReason::DirectoryGone { path: path.clone() };
                is_told = true;
                let rejected = vec![Event::Rejected(directory.clone(), [reason].into())];
                if !self.send(noticed, rejected).await {
                    return None;
                }
            }
            select! {
                () = time::sleep(RETRY) => {}
                () = self.sender.closed() => return None,
            }
        }
    }

    /// Delivers a batch if there is anything in it; false if the receiver is gone.
    async fn send(&self, noticed: Instant, batch: Batch) -> bool {
        batch.is_empty() || self.sender.send(Delivery { noticed, batch }).await.is_ok()
    }
}

impl Touched {
    fn note(&mut self, directory: &Path, mask: EventMask, name: Option<&str>) {
        if mask.contains(EventMask::Q_OVERFLOW) {
            self.everything = true;
        } else if mask.intersects(
            EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT | EventMask::IGNORED,
        ) {
            self.directory_gone = true;
        }
        let Some(name) = name else { return };
        if name == MOUNT_LINK {
            self.everything = true;
        } else if parse::syntax_of(name).is_some()
            && (!mask.contains(EventMask::CREATE) || is_complete(&directory.join(name)))
        {
            self.files.insert(name.into());
        }
    }
}

/// Whether a name that appeared just now has its content already. A link has; a new file is about
/// to be written, and its end of writing is an event of its own.
fn is_complete(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|new| new.is_symlink() || new.nlink() > 1)
}

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
