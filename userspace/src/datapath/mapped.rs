// SPDX-License-Identifier: Apache-2.0
//! An array map as memory of this process (`BPF_F_MMAPABLE`): a Maglev table has thousands of slots, and a
//! system call takes a quarter of a microsecond for each, also in batches.

use std::{
    io,
    ops::Range,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, Ordering},
};

/// The kernel lays out elements of an array 8 bytes apart, or a multiple of that.
#[repr(C, align(8))]
struct Element(AtomicU32);

/// An array of u32.
pub(super) struct MappedArray {
    start: NonNull<Element>,
    entries: u32,
}

// SAFETY: the memory is the map's, which every process may write at any time: it is read and written by
// atomic operations only.
unsafe impl Send for MappedArray {}
// SAFETY: as above.
unsafe impl Sync for MappedArray {}

impl MappedArray {
    /// Maps an array of so many entries; the descriptor is not needed afterwards.
    pub(super) fn new(fd: BorrowedFd<'_>, entries: u32) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let (len, fd) = (entries as usize * size_of::<Element>(), fd.as_raw_fd());
        // SAFETY: the kernel chooses a place that is free.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, libc::MAP_SHARED, fd, 0) };
        match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => {
                Ok(Self { start: start.cast(), entries })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Number of entries.
    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    /// Writes entries that follow each other, before whatever is written by a system call afterwards.
    pub(super) fn write(&self, base: u32, values: &[u32]) -> io::Result<()> {
        let base = base as usize;
        let places = self.elements().get(base..base + values.len());
        let places = places.ok_or_else(|| io::Error::from_raw_os_error(libc::E2BIG))?;
        for (place, value) in places.iter().zip(values) {
            place.0.store(*value, Ordering::Release);
        }
        Ok(())
    }

    /// Entries that follow each other; none if they are not all there.
    pub(super) fn read(&self, range: Range<usize>) -> Vec<u32> {
        let places = self.elements().get(range).unwrap_or_default();
        places.iter().map(|place| place.0.load(Ordering::Acquire)).collect()
    }

    fn elements(&self) -> &[Element] {
        // SAFETY: so many elements are mapped, for as long as this value lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.entries as usize) }
    }
}

impl Drop for MappedArray {
    fn drop(&mut self) {
        let len = self.entries as usize * size_of::<Element>();
        // SAFETY: the mapping is this value's own, and nothing borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), len) };
    }
}
