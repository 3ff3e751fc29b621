// SPDX-License-Identifier: Apache-2.0
//! Which service has which address, when two of them claim the same.
//!
//! The older Service wins (by `creationTimestamp`; one without is younger than any with), then the
//! first by name. The loser waits, and takes over when the winner goes.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use crate::model::{addr::FrontendAddr, name::ServiceName, service::Service};

/// A claim to an address; the smaller one wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    created: i64,
    service: ServiceName,
}

impl Claim {
    fn of(service: &Service) -> Self {
        Self { created: service.created.unwrap_or(i64::MAX), service: service.name.clone() }
    }
}

/// All claims to all addresses.
#[derive(Debug, Default)]
pub(super) struct Claims {
    owners: HashMap<FrontendAddr, Claim>,
    /// Who else claims an address, best first. Mostly empty.
    waiting: BTreeMap<FrontendAddr, Vec<Claim>>,
    /// Moves when `waiting` changes, or who an address is waited for.
    version: u64,
}

impl Claims {
    /// Adds the claim of a service, which must not have one to the same address already.
    pub fn add(&mut self, addr: FrontendAddr, service: &Service) {
        let claim = Claim::of(service);
        let loser = match self.owners.entry(addr) {
            Entry::Vacant(entry) => {
                entry.insert(claim);
                return;
            }
            Entry::Occupied(mut entry) if claim < *entry.get() => entry.insert(claim),
            Entry::Occupied(_) => claim,
        };
        self.version += 1;
        let waiting = self.waiting.entry(addr).or_default();
        let place = waiting.partition_point(|other| *other < loser);
        waiting.insert(place, loser);
    }

    /// Gives up the claim of a service.
    pub fn remove(&mut self, addr: FrontendAddr, service: &ServiceName) {
        let is_owner = self.owner(&addr) == Some(service);
        let Some(waiting) = self.waiting.get_mut(&addr) else {
            if is_owner {
                self.owners.remove(&addr);
            }
            return;
        };
        self.version += 1;
        if is_owner {
            self.owners.insert(addr, waiting.remove(0));
        } else {
            waiting.retain(|claim| claim.service != *service);
        }
        if waiting.is_empty() {
            self.waiting.remove(&addr);
        }
    }

    /// Who has the address.
    pub fn owner(&self, addr: &FrontendAddr) -> Option<&ServiceName> {
        self.owners.get(addr).map(|claim| &claim.service)
    }

    /// Every claimed address, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = FrontendAddr> {
        self.owners.keys().copied()
    }

    /// A number that moves whenever [`Self::conflicts`] change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Claims that lost, as (address, loser, winner), ordered.
    pub fn conflicts(&self) -> impl Iterator<Item = (FrontendAddr, &ServiceName, &ServiceName)> {
        self.waiting.iter().flat_map(|(addr, waiting)| {
            let owner = self.owner(addr);
            waiting.iter().filter_map(move |claim| Some((*addr, &claim.service, owner?)))
        })
    }
}
