// SPDX-License-Identifier: Apache-2.0
//! Which service port has which number. Numbers appear in the maps, names do not.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Numbers of service ports.
#[derive(Debug, Default)]
pub struct Services {
    ids: HashMap<Arc<str>, (u32, u32)>,
    names: BTreeMap<u32, Arc<str>>,
    next: u32,
}

impl Services {
    /// The maps use this number for a service port whose name is not known: it is not given out.
    pub fn reserve(&mut self, id: u32) {
        self.next = self.next.max(id);
    }

    /// Counts a frontend that the maps hold under a number; `false` if the number belongs to another
    /// service port, or the service port has another number.
    pub fn adopt(&mut self, name: &Arc<str>, id: u32) -> bool {
        if id == 0 {
            return false;
        }
        match (self.ids.get_mut(name), self.names.contains_key(&id)) {
            (Some((known, uses)), _) if *known == id => *uses += 1,
            (None, false) => {
                self.names.insert(id, name.clone());
                self.ids.insert(name.clone(), (id, 1));
            }
            _ => return false,
        }
        true
    }

    /// The number of a service port, if it has one.
    pub fn id_of(&self, name: &str) -> Option<u32> {
        self.ids.get(name).map(|(id, _)| *id)
    }

    /// Counts one more frontend of a service port and returns its number, which is never 0.
    pub fn acquire(&mut self, name: &Arc<str>) -> u32 {
        if let Some((id, uses)) = self.ids.get_mut(name) {
            *uses += 1;
            return *id;
        }
        loop {
            self.next = self.next.wrapping_add(1).max(1);
            if !self.names.contains_key(&self.next) {
                break;
            }
        }
        self.names.insert(self.next, name.clone());
        self.ids.insert(name.clone(), (self.next, 1));
        self.next
    }

    /// Counts one frontend less; the last one takes the number with it.
    pub fn release(&mut self, id: u32) {
        let Some(name) = self.names.get(&id) else { return };
        let Some((_, uses)) = self.ids.get_mut(name) else { return };
        *uses = uses.saturating_sub(1);
        if *uses == 0 {
            self.ids.remove(name);
            self.names.remove(&id);
        }
    }

    /// Numbers and names.
    pub fn names(&self) -> impl Iterator<Item = (u32, &Arc<str>)> {
        self.names.iter().map(|(id, name)| (*id, name))
    }
}
