// SPDX-License-Identifier: Apache-2.0
//! Writes entries for connections that the kernel's own tracking translates, see
//! [`crate::takeover::flows`].
//!
//! Invariant: an entry that a program has made stays: the connection is ours already.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::maps::MapData;
use pintle_abi::{
    addr::Tuple,
    flow::{Flow, flow_flags},
    map::{self, MapSpec},
    plain::Plain,
};

use super::{element::Elements, expiry::FlowTable, pins::Pins};
use crate::{
    model::addr::Protocol,
    takeover::flows::{Entry, KernelFlow},
};

/// The pinned flow maps, open for writing.
#[derive(Debug)]
pub struct KernelFlows {
    maps: [(Protocol, OwnedFd, OwnedFd); 3],
}

/// What became of the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Entries that are new.
    pub new: usize,
    /// Entries that were there and got their backend.
    pub completed: usize,
    /// Entries that were there.
    pub known: usize,
    /// Entries for which the map had no room.
    pub refused: usize,
}

impl KernelFlows {
    /// Opens the maps.
    pub fn open(pins: &Pins) -> io::Result<Self> {
        let open = |spec: MapSpec| {
            let map = MapData::from_pin(pins.map(&spec)).map_err(io::Error::other)?;
            map.fd().as_fd().try_clone_to_owned()
        };
        Ok(Self {
            maps: [
                (Protocol::Tcp, open(map::TCP_FLOWS_V4)?, open(map::TCP_FLOWS_V6)?),
                (Protocol::Udp, open(map::UDP_FLOWS_V4)?, open(map::UDP_FLOWS_V6)?),
                (Protocol::Sctp, open(map::SCTP_FLOWS_V4)?, open(map::SCTP_FLOWS_V6)?),
            ],
        })
    }

    /// Writes entries; a connection that has one keeps it.
    pub fn write(&self, flows: impl IntoIterator<Item = KernelFlow>) -> io::Result<Written> {
        let mut written = Written::default();
        for flow in flows {
            let maps = self.maps.iter().find(|(protocol, ..)| *protocol == flow.protocol);
            let Some((_, v4, v6)) = maps else { continue };
            match flow.entry {
                Entry::V4(key, flow) => {
                    put(&mut Elements::of(v4.as_fd()), &key, flow, &mut written)?
                }
                Entry::V6(key, flow) => {
                    put(&mut Elements::of(v6.as_fd()), &key, flow, &mut written)?
                }
            }
        }
        Ok(written)
    }
}

/// Writes one entry. One of an earlier look, when its backend had no id yet, gets its backend.
fn put<A>(
    table: &mut impl FlowTable<A>,
    key: &Tuple<A>,
    flow: Flow<A>,
    written: &mut Written,
) -> io::Result<()>
where
    Tuple<A>: Plain,
    Flow<A>: Plain + Default,
{
    match table.get(key)? {
        None => match table.put_back(key, flow) {
            Ok(()) => written.new += 1,
            Err(error) if is_full(&error) => written.refused += 1,
            Err(error) => return Err(error),
        },
        Some(old) if is_incomplete(&old) && flow.generation != 0 => {
            let (backend, generation) = (flow.backend, flow.generation);
            table.replace(key, Flow { backend, generation, ..old })?;
            written.completed += 1;
        }
        Some(_) => written.known += 1,
    }
    Ok(())
}

fn is_incomplete<A>(flow: &Flow<A>) -> bool {
    flow.flags & flow_flags::KERNEL != 0 && flow.generation == 0
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::E2BIG | libc::ENOMEM | libc::ENOSPC))
}

#[cfg(test)]
mod tests {
    use pintle_abi::addr::V4;

    use super::{super::expiry::tests::Memory, *};

    fn flow(flags: u16, backend: u32, generation: u32) -> Flow<V4> {
        Flow { flags, backend, generation, last_seen_ns: 5, ..Flow::default() }
    }

    #[test]
    fn an_entry_of_the_programs_stays_and_one_without_backend_gets_it() {
        let mut memory = Memory::default();
        let key = Tuple::default();
        let mut written = Written::default();
        let mut put = |memory: &mut Memory, flow| put(memory, &key, flow, &mut written).unwrap();
        let kernel = flow_flags::KERNEL | flow_flags::ALIAS;
        put(&mut memory, flow(kernel, 0, 0));
        put(&mut memory, Flow { last_seen_ns: 9, ..flow(kernel, 7, 3) });
        assert_eq!(memory.flows[&key], flow(kernel, 7, 3), "with the time of its last packet");
        memory.flows.insert(key, flow(flow_flags::ALIAS, 4, 0));
        put(&mut memory, flow(kernel, 7, 3));
        assert_eq!(memory.flows[&key], flow(flow_flags::ALIAS, 4, 0));
        assert_eq!(written, Written { new: 1, completed: 1, known: 1, refused: 0 });
    }
}
