// SPDX-License-Identifier: Apache-2.0
//! Frontends that have endpoints, and a `Local` policy that lets none of them answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::desired::{Changes, NoBackend};
use crate::model::{
    addr::{FrontendKey, Scope},
    ip::Family,
};

/// The frontends, each with the name of its service port.
#[derive(Debug, Default)]
pub(super) struct Unserved(BTreeMap<FrontendKey, Arc<str>>);

impl Unserved {
    /// Follows the desired state.
    pub fn note(&mut self, changes: &Changes) {
        for (key, frontend) in &changes.frontends {
            let lacking = frontend
                .as_ref()
                .filter(|f| f.backends.is_empty() && f.no_backend == NoBackend::Drop);
            match lacking {
                Some(frontend) => self.0.insert(*key, frontend.service.clone()),
                None => self.0.remove(key),
            };
        }
    }

    /// How many services of a family have such a frontend in a scope.
    pub fn services(&self, family: Family, scope: Scope) -> usize {
        let of = |key: &FrontendKey| key.scope == scope && Family::of(key.addr.ip) == family;
        let ports = self.0.iter().filter(|(key, _)| of(key)).map(|(_, port)| &**port);
        let names = ports.map(|port| port.split_once(':').map_or(port, |(service, _)| service));
        names.collect::<BTreeSet<_>>().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::addr::{FrontendAddr, Protocol},
        plan::desired::{DesiredFrontend, Masquerade},
    };

    fn key(ip: &str, scope: Scope) -> FrontendKey {
        let addr = FrontendAddr { ip: ip.parse().unwrap(), port: 80, protocol: Protocol::Tcp };
        FrontendKey { addr, scope }
    }

    fn change(key: FrontendKey, service: &str, no_backend: NoBackend) -> Changes {
        let frontend = DesiredFrontend {
            table: None,
            service: service.into(),
            backends: vec![],
            draining: vec![],
            no_backend,
            affinity: None,
            is_split: false,
            masquerade: Masquerade::Nobody,
            source_ranges: None,
        };
        Changes { frontends: [(key, Some(frontend))].into(), ..Changes::default() }
    }

    #[test]
    fn services_are_counted_once_for_each_family_and_policy() {
        let mut unserved = Unserved::default();
        let (inside, outside) = (Scope::Internal, Scope::External);
        for (ip, scope, port) in [
            ("10.0.0.1", inside, "a/b:http"),
            ("10.0.0.2", inside, "a/b:dns"),
            ("10.0.0.3", inside, "a/c"),
            ("10.0.0.3", outside, "a/c"),
            ("fd00::1", inside, "a/c"),
        ] {
            unserved.note(&change(key(ip, scope), port, NoBackend::Drop));
        }
        unserved.note(&change(key("10.0.0.9", inside), "a/d", NoBackend::Reject));
        let count = |unserved: &Unserved| {
            [
                (Family::V4, inside),
                (Family::V4, outside),
                (Family::V6, inside),
                (Family::V6, outside),
            ]
            .map(|(family, scope)| unserved.services(family, scope))
        };
        assert_eq!(count(&unserved), [2, 1, 1, 0]);

        unserved.note(&change(key("10.0.0.3", inside), "a/c", NoBackend::Reject));
        let gone = [(key("10.0.0.3", outside), None)].into();
        unserved.note(&Changes { frontends: gone, ..Changes::default() });
        assert_eq!(count(&unserved), [1, 0, 1, 0]);
    }
}
