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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::addr::BackendAddr,
        plan::desired::{Changes, DesiredBackend, DesiredFrontend, Masquerade, NoBackend},
        reconcile::fake::FakeTables,
    };

    fn key(last: u8, protocol: Protocol) -> FrontendKey {
        FrontendKey::internal(FrontendAddr { ip: [10, 96, 0, last].into(), port: 53, protocol })
    }

    fn backend(last: u8) -> BackendAddr {
        BackendAddr { ip: [10, 244, 0, last].into(), port: 53 }
    }

    /// A frontend with the last bytes of its backends, of the one that drains first (0 for none).
    type Wanted<'a> = (FrontendKey, Option<(u8, &'a [u8])>);

    struct Scene(Reconciler<FakeTables>, Instant);

    impl Scene {
        fn set(&mut self, frontends: &[Wanted<'_>]) -> Option<Leads> {
            let to = |last: u8| DesiredBackend { addr: backend(last), local: false, weight: 1 };
            let desired = |(key, backends): &Wanted<'_>| {
                let desired = backends.map(|(draining, backends)| DesiredFrontend {
                    table: None,
                    service: format!("shop/{}", key.addr.ip).into(),
                    backends: backends.iter().map(|last| to(*last)).collect(),
                    draining: Some(draining).filter(|last| *last > 0).map(to).into_iter().collect(),
                    no_backend: NoBackend::Reject,
                    affinity: None,
                    is_split: false,
                    masquerade: Masquerade::Nobody,
                    source_ranges: None,
                });
                (*key, desired)
            };
            let frontends = frontends.iter().map(desired).collect();
            let changes = Changes { frontends, ..Changes::default() };
            self.0.apply(changes, &|_| None, self.1);
            self.0.strays(self.1)
        }

        fn id(&self, last: u8) -> u32 {
            self.0.backend(&backend(last)).expect("it is in use").0
        }
    }

    #[test]
    fn what_only_others_keep_is_told_at_once_and_after_the_grace() {
        let mut scene = Scene(Reconciler::new(FakeTables::new()), Instant::now());
        let [one, two] = [1, 2].map(|last| key(last, Protocol::Udp));
        assert!(scene.set(&[(one, Some((0, &[1, 2]))), (two, Some((0, &[1])))]).is_none());
        let first = scene.id(1);
        let leads = scene.set(&[(one, Some((0, &[2])))]).expect("backend 1 is the other's now");
        assert!(!leads.allow(one.addr.ip, 53, first) && leads.allow(two.addr.ip, 53, first));
        assert!(leads.allow(one.addr.ip, 53, scene.id(2)));
        assert!(scene.0.strays(scene.1).is_none(), "told already");
        let again = scene.0.free_retired(scene.1).expect("once more");
        assert!(again <= scene.1 + GRACE);
        assert!(scene.0.strays(scene.1 + GRACE).is_some(), "no program can lead there any more");
        assert!(scene.0.strays(scene.1 + 2 * GRACE).is_none());
    }

    #[test]
    fn what_is_gone_or_drains_or_moves_along_needs_no_telling() {
        let mut scene = Scene(Reconciler::new(FakeTables::new()), Instant::now());
        let [one, two] = [1, 2].map(|last| key(last, Protocol::Udp));
        let tcp = key(1, Protocol::Tcp);
        let both = |draining, backends: &'static [u8]| {
            [one, two].map(|key| (key, Some((draining, backends))))
        };
        assert!(scene.set(&both(0, &[1, 2])).is_none());
        assert!(scene.set(&both(1, &[2])).is_none(), "one that drains is not given up");
        assert!(scene.set(&both(0, &[2])).is_none(), "its generation tells");
        assert!(scene.set(&[(tcp, Some((0, &[2])))]).is_none());
        assert!(scene.set(&[(tcp, None)]).is_none(), "TCP stays where it is");
        assert!(scene.set(&[(one, None), (two, None)]).is_none());
    }

    #[test]
    fn a_node_port_stands_for_every_address() {
        let mut scene = Scene(Reconciler::new(FakeTables::new()), Instant::now());
        let mut node_port = key(1, Protocol::Udp);
        node_port.addr.ip = Ipv4Addr::UNSPECIFIED.into();
        scene.set(&[(node_port, Some((0, &[1]))), (key(2, Protocol::Udp), Some((0, &[1])))]);
        let leads = scene.set(&[(key(2, Protocol::Udp), None)]).expect("the node port keeps it");
        assert!(leads.allow([192, 168, 0, 1].into(), 53, scene.id(1)));
        assert!(!leads.allow([192, 168, 0, 1].into(), 54, scene.id(1)));
    }

    #[test]
    fn after_a_start_somebody_has_to_look() {
        let mut scene = Scene(Reconciler::new(FakeTables::new()), Instant::now());
        scene.0.sweep(scene.1);
        assert!(scene.0.strays(scene.1).is_some());
    }
}
