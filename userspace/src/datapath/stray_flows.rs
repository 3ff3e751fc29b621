// SPDX-License-Identifier: Apache-2.0
//! Forgets UDP flows whose service does not lead to their backend any more, although the backend is
//! there: another service has it, or another address of the same one. With their next datagram they
//! choose again, as flows do whose backend is gone.
//!
//! Invariant: only the way there is forgotten, so an answer that is on its way still arrives. To forget
//! a flow too many costs a lookup.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aya::maps::MapData;
use pintle_abi::{
    addr::{Tuple, V4, V6},
    flow::{Flow, flow_flags},
    map::{self, MapSpec},
    plain::Plain,
    socket::{Datagram, DatagramKey, side},
};

use super::{batch, element::Elements, entry::AbiAddr, expiry::FlowTable as _, pins::Pins};
use crate::reconcile::strays::Leads;

/// The pinned maps of UDP flows and of sockets that name whom they send to.
#[derive(Debug)]
pub struct StrayFlows {
    v4: Maps,
    v6: Maps,
}

#[derive(Debug)]
struct Maps {
    flows: [OwnedFd; 2],
    datagrams: OwnedFd,
}

impl StrayFlows {
    /// Opens the maps.
    pub fn open(pins: &Pins) -> io::Result<Self> {
        let open = |flows, overflow, datagrams| -> io::Result<Maps> {
            let open = |spec: MapSpec| {
                let map = MapData::from_pin(pins.map(&spec)).map_err(io::Error::other)?;
                map.fd().as_fd().try_clone_to_owned()
            };
            Ok(Maps { flows: [open(flows)?, open(overflow)?], datagrams: open(datagrams)? })
        };
        Ok(Self {
            v4: open(map::UDP_FLOWS_V4, map::UDP_OVERFLOW_V4, map::DATAGRAMS_V4)?,
            v6: open(map::UDP_FLOWS_V6, map::UDP_OVERFLOW_V6, map::DATAGRAMS_V6)?,
        })
    }

    /// Forgets what is where nothing leads; returns how many flows and sockets that were.
    pub fn forget(&self, leads: &Leads) -> io::Result<usize> {
        Ok(forget::<V4>(&self.v4, leads)? + forget::<V6>(&self.v6, leads)?)
    }
}

fn forget<A: AbiAddr>(maps: &Maps, leads: &Leads) -> io::Result<usize>
where
    Tuple<A>: Plain + Default,
    Flow<A>: Plain + Default,
    DatagramKey<A>: Plain + Default,
    Datagram<A>: Plain + Default,
{
    let mut forgotten = forget_datagrams::<A>(maps.datagrams.as_fd(), leads)?;
    for flows in &maps.flows {
        forgotten += forget_flows::<A>(flows.as_fd(), leads)?;
    }
    Ok(forgotten)
}

fn forget_flows<A: AbiAddr>(fd: BorrowedFd<'_>, leads: &Leads) -> io::Result<usize>
where
    Tuple<A>: Plain + Default,
    Flow<A>: Plain + Default,
{
    let mut stray = Vec::new();
    batch::for_each(fd, |key: &Tuple<A>, flow: &Flow<A>| {
        if is_stray(key, flow, leads) {
            stray.push(*key);
        }
    })?;
    let mut elements = Elements::<Tuple<A>, Flow<A>>::of(fd);
    stray.iter().try_for_each(|key| elements.remove(key))?;
    Ok(stray.len())
}

/// Whether a client's side of a flow is not what its service leads to. What the kernel's own connection
/// tracking translates is its matter.
fn is_stray<A: AbiAddr>(key: &Tuple<A>, flow: &Flow<A>, leads: &Leads) -> bool {
    if flow.flags & (flow_flags::ALIAS | flow_flags::KERNEL) != flow_flags::ALIAS {
        return false;
    }
    let (ip, port) = match flow.flags & flow_flags::CLIENT_FIRST {
        0 => (key.src, key.src_port),
        _ => (key.dst, key.dst_port),
    };
    !leads.allow(ip.ip(), u16::from_be(port), flow.backend)
}

fn forget_datagrams<A: AbiAddr>(fd: BorrowedFd<'_>, leads: &Leads) -> io::Result<usize>
where
    DatagramKey<A>: Plain + Default,
    Datagram<A>: Plain + Default,
{
    let mut stray = Vec::new();
    batch::for_each(fd, |key: &DatagramKey<A>, value: &Datagram<A>| {
        let is_service = key.side == side::SERVICE;
        if is_service && !leads.allow(key.addr.ip(), u16::from_be(key.port), value.id) {
            stray.push(*key);
        }
    })?;
    let mut elements = Elements::<DatagramKey<A>, Datagram<A>>::of(fd);
    stray.iter().try_for_each(|key| elements.delete(key))?;
    Ok(stray.len())
}
