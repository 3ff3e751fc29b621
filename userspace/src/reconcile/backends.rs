// SPDX-License-Identifier: Apache-2.0
//! Which backend has which id. A backend is stored once, however many frontends lead to it.
//!
//! Decides what the map should hold and remembers what of it is [not written](Backends::unwritten)
//! yet, so that a refused write is neither lost nor taken for done.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use super::tables::{BackendRecord, Redirect};
use crate::{model::addr::BackendAddr, plan::desired::DesiredBackend};

/// Finds the interface behind a local pod's address, if packets may be redirected to it.
pub type Resolve<'a> = dyn Fn(IpAddr) -> Option<Redirect> + 'a;

/// The backends of one family.
#[derive(Debug)]
pub struct Backends {
    capacity: u32,
    /// Place by id; ids beyond the end were never given out.
    places: Vec<Place>,
    free: Vec<u32>,
    ids: HashMap<BackendAddr, u32>,
    /// Ids whose record in the map is not that of their place.
    unwritten: BTreeSet<u32>,
}

#[derive(Clone, Debug, Default)]
struct Place {
    /// `None` while the id is free.
    addr: Option<BackendAddr>,
    generation: u32,
    /// Frontends that lead here, draining ones included.
    uses: u32,
    local: bool,
    /// Given up, and kept until the grace period is over.
    retired: bool,
    redirect: Option<Redirect>,
}

impl Place {
    fn record(&self) -> BackendRecord {
        BackendRecord {
            addr: self.addr,
            generation: self.generation,
            local: self.local,
            redirect: self.redirect,
        }
    }

    /// 0 is the generation of what was never written.
    fn next_generation(&self) -> u32 {
        self.generation.wrapping_add(1).max(1)
    }
}

impl Backends {
    /// No backend yet.
    pub fn new(capacity: u32) -> Self {
        Self {
            capacity,
            places: Vec::new(),
            free: Vec::new(),
            ids: HashMap::new(),
            unwritten: BTreeSet::new(),
        }
    }

    /// Takes over what a map holds under an id; nothing uses it yet.
    pub fn adopt(&mut self, id: u32, record: &BackendRecord) {
        if id >= self.capacity {
            return;
        }
        self.reach(id);
        self.places[id as usize] = Place {
            addr: record.addr,
            generation: record.generation,
            local: record.local,
            redirect: record.redirect,
            ..Place::default()
        };
        if let Some(addr) = record.addr {
            self.ids.entry(addr).or_insert(id);
        }
    }

    /// Counts a use that the maps hold; `false` if the id is not that of a live backend.
    pub fn adopt_use(&mut self, id: u32) -> bool {
        match self.places.get_mut(id as usize) {
            Some(place) if place.addr.is_some() => {
                place.uses += 1;
                true
            }
            _ => false,
        }
    }

    /// After the last adoption: ids in use by nobody are free, except those that frontends lead to
    /// although no backend has them.
    pub fn finish_adopting(&mut self, led_to: &BTreeSet<u32>) {
        if let Some(last) = led_to.range(..self.capacity).next_back() {
            self.reach(*last);
        }
        for (id, place) in self.places.iter().enumerate() {
            match place.addr {
                // An agent that died between giving an address up and freeing its id may have left
                // two ids for it: the one in use counts.
                Some(addr) if place.uses > 0 => {
                    self.ids.insert(addr, id as u32);
                }
                Some(_) => {}
                None if led_to.contains(&(id as u32)) => {}
                None => self.free.push(id as u32),
            }
        }
        self.free.reverse();
    }

    fn reach(&mut self, id: u32) {
        if self.places.len() <= id as usize {
            self.places.resize(id as usize + 1, Place::default());
        }
    }

    /// The address of an id that is in use.
    pub fn addr_of(&self, id: u32) -> Option<BackendAddr> {
        self.places.get(id as usize)?.addr
    }

    /// The id of an address.
    pub fn id_of(&self, addr: &BackendAddr) -> Option<u32> {
        self.ids.get(addr).copied()
    }

    /// Id and generation of a backend in use.
    pub fn known(&self, addr: &BackendAddr) -> Option<(u32, u32)> {
        let id = self.id_of(addr)?;
        let place = self.places.get(id as usize).filter(|place| !place.retired)?;
        Some((id, place.generation))
    }

    /// How many of these would need an id of their own.
    pub fn missing<'a>(&self, backends: impl Iterator<Item = &'a DesiredBackend>) -> usize {
        backends.filter(|backend| !self.ids.contains_key(&backend.addr)).count()
    }

    /// How many ids can still be given out.
    pub fn room(&self) -> usize {
        self.free.len() + (self.capacity as usize).saturating_sub(self.places.len())
    }

    /// Whether a frontend leads to a backend.
    pub fn is_used(&self, id: u32) -> bool {
        self.places.get(id as usize).is_some_and(|place| place.uses > 0)
    }

    /// Counts one more use of a backend; `None` if it needs an id and none is left.
    pub fn acquire(&mut self, backend: &DesiredBackend, resolve: &Resolve<'_>) -> Option<u32> {
        let redirect = local_redirect(backend.local, backend.addr.ip, resolve);
        if let Some(&id) = self.ids.get(&backend.addr) {
            let place = &mut self.places[id as usize];
            place.uses += 1;
            if (place.local, place.redirect) != (backend.local, redirect) {
                (place.local, place.redirect) = (backend.local, redirect);
                self.unwritten.insert(id);
            }
            return Some(id);
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None if self.places.len() < self.capacity as usize => {
                self.places.push(Place::default());
                self.places.len() as u32 - 1
            }
            None => return None,
        };
        let place = &mut self.places[id as usize];
        *place = Place {
            addr: Some(backend.addr),
            generation: place.next_generation(),
            uses: 1,
            local: backend.local,
            retired: false,
            redirect,
        };
        self.ids.insert(backend.addr, id);
        self.unwritten.insert(id);
        Some(id)
    }

    /// Counts one use less; `true` if it was the last: then the id is to be freed after the grace
    /// period. Its backend gets another generation: its flows notice at their next packet, while a
    /// program that has just read its slot still finds it.
    pub fn release(&mut self, id: u32) -> bool {
        let place = &mut self.places[id as usize];
        place.uses = place.uses.saturating_sub(1);
        place.uses == 0 && self.retire(id)
    }

    fn retire(&mut self, id: u32) -> bool {
        let place = &mut self.places[id as usize];
        let Some(addr) = place.addr.filter(|_| !place.retired) else { return false };
        place.retired = true;
        place.generation = place.next_generation();
        self.unwritten.insert(id);
        if self.ids.get(&addr) == Some(&id) {
            self.ids.remove(&addr);
        }
        true
    }

    /// Retires what was adopted and is used by nobody, except addresses that are still wanted;
    /// returns the ids, and how many were kept.
    pub fn retire_unused(&mut self, wanted: &HashSet<BackendAddr>) -> (Vec<u32>, usize) {
        let mut retired = Vec::new();
        let mut kept = 0;
        for id in 0..self.places.len() as u32 {
            let place = &self.places[id as usize];
            let Some(addr) = place.addr.filter(|_| place.uses == 0 && !place.retired) else {
                continue;
            };
            if wanted.contains(&addr) && self.ids.get(&addr) == Some(&id) {
                kept += 1;
            } else if self.retire(id) {
                retired.push(id);
            }
        }
        (retired, kept)
    }

    /// After the grace period: a retired id is free.
    pub fn free(&mut self, id: u32) {
        let place = &mut self.places[id as usize];
        *place = Place { generation: place.generation, ..Place::default() };
        self.free.push(id);
        self.unwritten.insert(id);
    }

    /// Looks up the interfaces of local backends again.
    pub fn resolve_again(&mut self, resolve: &Resolve<'_>) {
        for (id, place) in self.places.iter_mut().enumerate().filter(|(_, place)| place.local) {
            let redirect = place.addr.and_then(|addr| resolve(addr.ip));
            if place.redirect != redirect {
                place.redirect = redirect;
                self.unwritten.insert(id as u32);
            }
        }
    }

    /// What has to be written, ordered by id.
    pub fn unwritten(&self) -> Vec<(u32, BackendRecord)> {
        self.unwritten.iter().map(|id| (*id, self.places[*id as usize].record())).collect()
    }

    /// All of [`Self::unwritten`] is written.
    pub fn note_written(&mut self) {
        self.unwritten.clear();
    }
}

fn local_redirect(local: bool, ip: IpAddr, resolve: &Resolve<'_>) -> Option<Redirect> {
    if local { resolve(ip) } else { None }
}
