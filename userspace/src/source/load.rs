// SPDX-License-Identifier: Apache-2.0
//! Reads files: one at a time when one changed, many or large ones with several threads.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    num::NonZero,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    convert::Converter,
    parse::{self, Parsed},
    split::{self, Syntax},
};

/// More threads would gain little: the first load is over in a fraction of a second.
const MAX_THREADS: usize = 4;
/// Text from which on starting threads for one file pays.
const LARGE_FILE: u64 = 1 << 19;
/// How many items a thread takes at once.
const CHUNK: usize = 16;

/// What a file held when it was read.
#[derive(Debug)]
pub(super) enum Content {
    /// Its documents.
    Documents(Vec<Parsed>),
    /// There is no such file (any more).
    Gone,
    /// It is there but could not be read.
    Unreadable(io::Error),
}

/// Reads one file.
pub(super) fn file(directory: &Path, name: &Arc<str>, converter: &Converter) -> Content {
    open(directory, name).and_then(|opened| read(opened, name, converter)).into()
}

/// Reads all files of a directory, ordered by name.
pub(super) fn directory(
    directory: &Path,
    converter: &Converter,
) -> io::Result<Vec<(Arc<str>, Content)>> {
    let names = names(directory)?;
    // Small files are spread over the threads, and large ones come afterwards one by one, each
    // spread over the threads itself, so that only one large text is in memory.
    let small = in_parallel(&names, |name| match open(directory, name) {
        Ok(Some((_, size))) if size > LARGE_FILE => None,
        opened => Some(opened.and_then(|opened| read(opened, name, converter)).into()),
    });
    let contents = small.into_iter().zip(&names);
    Ok(contents
        .map(|(content, name)| {
            (name.clone(), content.unwrap_or_else(|| file(directory, name, converter)))
        })
        .collect())
}

fn names(directory: &Path) -> io::Result<Vec<Arc<str>>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        if let Some(name) = entry?.file_name().to_str().filter(|n| parse::syntax_of(n).is_some()) {
            names.push(name.into());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens a regular file, following links; `None` if there is none. Does not block on a FIFO.
fn open(directory: &Path, name: &str) -> io::Result<Option<(File, u64)>> {
    let path = directory.join(name);
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata.len())))
}

fn read(
    opened: Option<(File, u64)>,
    name: &Arc<str>,
    converter: &Converter,
) -> io::Result<Option<Vec<Parsed>>> {
    let (Some((mut file, size)), Some(syntax)) = (opened, parse::syntax_of(name)) else {
        return Ok(None);
    };
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
    file.read_to_end(&mut bytes)?;
    Ok(Some(match parse::utf8(name, &bytes) {
        Ok(text) => documents(name, text, syntax, converter),
        Err(mistake) => vec![mistake],
    }))
}

/// Parses the documents of a text.
pub(super) fn documents(
    name: &Arc<str>,
    text: &str,
    syntax: Syntax,
    converter: &Converter,
) -> Vec<Parsed> {
    let pieces = split::pieces(text, syntax);
    let parse = |piece: &_| parse::piece(name, piece, converter);
    if text.len() as u64 > LARGE_FILE {
        in_parallel(&pieces, parse)
    } else {
        pieces.iter().map(parse).collect()
    }
}

impl From<io::Result<Option<Vec<Parsed>>>> for Content {
    fn from(result: io::Result<Option<Vec<Parsed>>>) -> Self {
        match result {
            Ok(Some(documents)) => Self::Documents(documents),
            Ok(None) => Self::Gone,
            Err(error) => Self::Unreadable(error),
        }
    }
}

/// Maps a function over items with several threads; the results are in the order of the items.
fn in_parallel<T: Sync, R: Send>(items: &[T], map: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    if threads == 1 || items.len() <= CHUNK {
        return items.iter().map(map).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            let Some(rest) = items.get(start..).filter(|rest| !rest.is_empty()) else {
                return done;
            };
            let chunk = &rest[..rest.len().min(CHUNK)];
            done.push((start, chunk.iter().map(&map).collect::<Vec<R>>()));
        }
    };
    let mut chunks = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut chunks = work();
        for other in others {
            match other.join() {
                Ok(done) => chunks.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        chunks
    });
    chunks.sort_unstable_by_key(|(start, _)| *start);
    chunks.into_iter().flat_map(|(_, results)| results).collect()
}
