// SPDX-License-Identifier: Apache-2.0
//! The kernel as the data path sees it: maps and a clock; on the host, a stand-in of both.

#[cfg(target_arch = "bpf")]
mod bpf;
#[cfg(target_arch = "bpf")]
pub use bpf::*;

#[cfg(not(target_arch = "bpf"))]
mod host;
#[cfg(not(target_arch = "bpf"))]
pub use host::*;

/// Why a map did not take an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// The key is there already, and the insert asked for a new one (`EEXIST`).
    Exists,
    /// The map is full, or the kernel has no memory for the element just now.
    NoRoom,
}

/// What an insert does when the key is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfPresent {
    /// Leave the element alone and report [`InsertError::Exists`].
    Refuse,
    /// Replace the value.
    Replace,
}

/// A map with a value for each socket that needs one; a value goes with its socket.
pub trait PerSocket<V> {
    /// The value of a socket.
    fn get(&self, socket: SocketHandle) -> Option<*mut V>;
    /// Gives a socket a value, in place of the one it has.
    fn insert(&self, socket: SocketHandle, value: &V) -> Result<(), InsertError>;
    /// Takes a socket's value away if it has one.
    fn remove(&self, socket: SocketHandle);
}
