// SPDX-License-Identifier: Apache-2.0
//! Backends that a UDP frontend has given up while others keep them. Their generation stays, so flows
//! through that frontend do not notice: they have to be told.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use super::{
    backends::Backends,
    change::Held,
    reconciler::{GRACE, Reconciler},
    tables::{Family, Tables},
};
use crate::model::addr::{FrontendAddr, FrontendKey, Protocol};

/// Where each UDP frontend may lead, backends that drain included.
#[derive(Debug, Default)]
pub struct Leads(HashMap<FrontendAddr, HashSet<u32>>);

impl Leads {
    /// Whether a client that dialled an address may be with a backend.
    pub fn allow(&self, ip: IpAddr, port: u16, id: u32) -> bool {
        let at = |ip| self.0.get(&FrontendAddr { ip, port, protocol: Protocol::Udp });
        let any = match ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        at(ip).or_else(|| at(any)).is_some_and(|ids| ids.contains(&id))
    }
}

/// What may have to be told.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// Given up in the change that is being made.
    given_up: Vec<(Family, u32)>,
    /// Something that was given up is still in use, since then.
    since: Option<Instant>,
    is_told: bool,
}

impl Strays {
    /// A frontend held something else before.
    pub fn note(&mut self, key: &FrontendKey, old: &Held, now: Option<&Held>) {
        if key.addr.protocol != Protocol::Udp {
            return;
        }
        let kept: HashSet<u32> =
            now.into_iter().flat_map(|held| held.ids.iter().copied()).collect();
        let family = Family::of(key.addr.ip);
        let lost = old.ids.iter().filter(|id| !kept.contains(id));
        self.given_up.extend(lost.map(|id| (family, *id)));
    }

    /// Flows may have strayed, whatever we know: nobody has looked after them.
    pub fn suspect(&mut self, now: Instant) {
        (self.since, self.is_told) = (Some(now), false);
    }

    /// A change is complete: of what frontends gave up, others may have taken it or keep it.
    pub fn settle<'a>(&mut self, backends: impl Fn(Family) -> &'a Backends, now: Instant) {
        let mut given_up = std::mem::take(&mut self.given_up).into_iter();
        if given_up.any(|(family, id)| backends(family).is_used(id)) {
            self.suspect(now);
        }
    }

    /// When there is more to be told.
    pub fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + GRACE)
    }

    /// Whether to tell now: at once, and again when no program can still hold an old slot.
    fn is_due(&mut self, now: Instant) -> bool {
        let Some(due) = self.due() else { return false };
        let is_last = now >= due;
        if is_last {
            self.since = None;
        }
        is_last || !std::mem::replace(&mut self.is_told, true)
    }
}

impl<T: Tables> Reconciler<T> {
    /// If flows may have strayed: where they may be. What is elsewhere is to be forgotten.
    pub fn strays(&mut self, now: Instant) -> Option<Leads> {
        if !self.strays.is_due(now) {
            return None;
        }
        let mut leads = Leads::default();
        for (key, held) in &self.frontends {
            if key.addr.protocol == Protocol::Udp {
                // Both scopes together: policies decide where new flows go, not where old ones stay.
                leads.0.entry(key.addr).or_default().extend(held.ids.iter().copied());
            }
        }
        Some(leads)
    }
}
