// SPDX-License-Identifier: Apache-2.0
//! The configuration file: read once, then watched. When its text changes the agent ends, so that
//! whoever supervises it starts it with the new one, as with kube-proxy.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use inotify::{Inotify, WatchMask};
use tokio::sync::oneshot;
use tracing::warn;

/// How long another text must stay.
const SETTLE: Duration = Duration::from_millis(100);
/// Space for the events of one read.
const EVENT_BUFFER: usize = 4096;

/// A file, and the text that it had.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    text: String,
}

impl ConfigFile {
    /// Reads it.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), text: fs::read_to_string(path)? })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it said.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Watches it from a thread of its own; the future ends when its text is another one. A file
    /// that is gone has not changed.
    pub fn watch(self) -> io::Result<impl Future<Output = ()>> {
        let mut inotify = Inotify::init()?;
        let mask = WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::CREATE;
        // Directories, because a file may be replaced, and a mounted ConfigMap swaps a link.
        for directory in self.directories() {
            inotify.watches().add(directory, mask)?;
        }
        let (sender, changed) = oneshot::channel();
        thread::Builder::new().name("config-file".to_owned()).spawn(move || {
            match self.wait(&mut inotify) {
                // The agent may have ended meanwhile.
                Ok(()) => drop(sender.send(())),
                Err(error) => {
                    warn!(path = %self.path.display(), %error, "the configuration is not watched");
                }
            }
        })?;
        Ok(async {
            if changed.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }

    fn directories(&self) -> BTreeSet<PathBuf> {
        let paths = [Some(self.path.clone()), fs::canonicalize(&self.path).ok()];
        let parents = paths.iter().flatten().filter_map(|path| path.parent());
        let here = |parent: &Path| match parent.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => parent.to_owned(),
        };
        parents.map(here).collect()
    }

    fn wait(&self, inotify: &mut Inotify) -> io::Result<()> {
        let mut buffer = vec![0; EVENT_BUFFER];
        // Compared first: it may have changed before the watch began.
        loop {
            // Who writes in place empties the file first: what is seen must last.
            if self.differs() {
                thread::sleep(SETTLE);
                if self.differs() {
                    return Ok(());
                }
            }
            inotify.read_events_blocking(&mut buffer)?;
        }
    }

    fn differs(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| text != self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);
    const A_WHILE: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn another_text_is_noticed_and_the_same_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.conf");
        fs::write(&path, "a").unwrap();
        let mut changed = std::pin::pin!(ConfigFile::read(&path).unwrap().watch().unwrap());
        fs::write(dir.path().join("other"), "b").unwrap();
        fs::write(&path, "a").unwrap();
        fs::remove_file(&path).unwrap();
        assert!(timeout(A_WHILE, &mut changed).await.is_err(), "nothing has changed");
        let new = dir.path().join("new");
        fs::write(&new, "b").unwrap();
        fs::rename(&new, &path).unwrap();
        timeout(SOON, changed).await.unwrap();
    }

    #[tokio::test]
    async fn the_swap_of_a_mounted_config_map_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let version = |name: &str, text: &str| {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("config.conf"), text).unwrap();
        };
        version("..1", "a");
        symlink("..1", dir.path().join("..data")).unwrap();
        symlink("..data/config.conf", dir.path().join("config.conf")).unwrap();
        let file = ConfigFile::read(&dir.path().join("config.conf")).unwrap();
        assert_eq!(file.text(), "a");
        let changed = file.watch().unwrap();
        version("..2", "b");
        symlink("..2", dir.path().join("..tmp")).unwrap();
        fs::rename(dir.path().join("..tmp"), dir.path().join("..data")).unwrap();
        timeout(SOON, changed).await.unwrap();
    }

    #[tokio::test]
    async fn a_change_before_the_watch_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.conf");
        fs::write(&path, "a").unwrap();
        let file = ConfigFile::read(&path).unwrap();
        fs::write(&path, "b").unwrap();
        timeout(SOON, file.watch().unwrap()).await.unwrap();
    }
}
