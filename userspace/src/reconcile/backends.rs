// SPDX-License-Identifier: Apache-2.0
//! Which backend has which id. A backend is stored once, however many frontends lead to it.

use std::{collections::HashMap, net::IpAddr};

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
}

#[derive(Clone, Debug, Default)]
struct Place {
    /// `None` while the id is free.
    addr: Option<BackendAddr>,
    generation: u32,
    /// Frontends that lead here, draining ones included.
    uses: u32,
    local: bool,
    redirect: Option<Redirect>,
}

impl Place {
    fn record(&self) -> BackendRecord {
        BackendRecord { addr: self.addr, generation: self.generation, redirect: self.redirect }
    }
}

/// What has to be written after a change.
pub type Write = Option<(u32, BackendRecord)>;

impl Backends {
    /// No backend yet.
    pub fn new(capacity: u32) -> Self {
        Self { capacity, places: Vec::new(), free: Vec::new(), ids: HashMap::new() }
    }

    /// Takes over what a map holds under an id; nothing uses it yet.
    pub fn adopt(&mut self, id: u32, record: &BackendRecord) {
        let index = id as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, Place::default());
        }
        self.places[index] = Place {
            addr: record.addr,
            generation: record.generation,
            redirect: record.redirect,
            ..Place::default()
        };
        if let Some(addr) = record.addr {
            self.ids.insert(addr, id);
        }
    }

    /// After the last [`Self::adopt`]: ids in use by nobody are free.
    pub fn finish_adopting(&mut self) {
        let free = |(id, place): (usize, &Place)| place.addr.is_none().then_some(id as u32);
        self.free = self.places.iter().enumerate().filter_map(free).rev().collect();
    }

    /// Number of backends in use.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no backend.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many of these would need an id of their own.
    pub fn missing<'a>(&self, backends: impl Iterator<Item = &'a DesiredBackend>) -> usize {
        backends.filter(|backend| !self.ids.contains_key(&backend.addr)).count()
    }

    /// How many ids can still be given out.
    pub fn room(&self) -> usize {
        self.free.len() + (self.capacity as usize).saturating_sub(self.places.len())
    }

    /// Counts one more use of a backend; a new one gets an id, and has to be written.
    ///
    /// `None` if no id is left.
    pub fn acquire(
        &mut self,
        backend: &DesiredBackend,
        resolve: &Resolve<'_>,
    ) -> Option<(u32, Write)> {
        if let Some(&id) = self.ids.get(&backend.addr) {
            let place = &mut self.places[id as usize];
            place.uses += 1;
            let redirect = local_redirect(backend.local, backend.addr.ip, resolve);
            place.local = backend.local;
            if place.redirect == redirect {
                return Some((id, None));
            }
            place.redirect = redirect;
            return Some((id, Some((id, place.record()))));
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
            // 0 is the generation of what was never written.
            generation: place.generation.wrapping_add(1).max(1),
            uses: 1,
            local: backend.local,
            redirect: local_redirect(backend.local, backend.addr.ip, resolve),
        };
        self.ids.insert(backend.addr, id);
        Some((id, Some((id, place.record()))))
    }

    /// Counts one use less. When it was the last, the backend gets another generation: its flows
    /// notice at their next packet, while a program that has just read its slot still finds it.
    pub fn release(&mut self, addr: &BackendAddr) -> Write {
        let id = *self.ids.get(addr)?;
        let place = &mut self.places[id as usize];
        place.uses = place.uses.saturating_sub(1);
        self.retire_if_unused(id)
    }

    /// Retires an id that nothing uses.
    fn retire_if_unused(&mut self, id: u32) -> Write {
        let place = &mut self.places[id as usize];
        if place.uses > 0 {
            return None;
        }
        place.generation = place.generation.wrapping_add(1).max(1);
        let record = place.record();
        if let Some(addr) = place.addr {
            self.ids.remove(&addr);
        }
        Some((id, record))
    }

    /// Retires everything that was adopted and not acquired since.
    pub fn retire_unused(&mut self) -> Vec<(u32, BackendRecord)> {
        let mut unused: Vec<u32> = self.ids.values().copied().collect();
        unused.sort_unstable();
        unused.into_iter().filter_map(|id| self.retire_if_unused(id)).collect()
    }

    /// After the grace period: a retired id is free.
    pub fn free(&mut self, id: u32) -> Write {
        let place = &mut self.places[id as usize];
        *place = Place { generation: place.generation, ..Place::default() };
        let record = place.record();
        self.free.push(id);
        Some((id, record))
    }

    /// Looks up the interfaces of local backends again; returns those that changed.
    pub fn resolve_again(&mut self, resolve: &Resolve<'_>) -> Vec<(u32, BackendRecord)> {
        let mut changed = Vec::new();
        for (id, place) in self.places.iter_mut().enumerate().filter(|(_, place)| place.local) {
            let redirect = place.addr.and_then(|addr| resolve(addr.ip));
            if place.redirect != redirect {
                place.redirect = redirect;
                changed.push((id as u32, place.record()));
            }
        }
        changed
    }
}

fn local_redirect(local: bool, ip: IpAddr, resolve: &Resolve<'_>) -> Option<Redirect> {
    if local { resolve(ip) } else { None }
}
