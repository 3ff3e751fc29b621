// SPDX-License-Identifier: Apache-2.0
//! What people want to know about services and backends beyond what the maps hold.

use std::{sync::Arc, time::Duration};

use super::{frontends, planner::Planner, selection};
use crate::model::{
    addr::{BackendAddr, FrontendAddr, FrontendKey, Scope},
    ip::Family,
    name::ServiceName,
    service::{AddressKind, Service, ServicePort, ServiceType, TrafficPolicy},
    slice::Conditions,
};

/// One frontend of a service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    /// The service.
    pub service: ServiceName,
    /// Name of the port; may be empty.
    pub port_name: Arc<str>,
    /// Type of the service.
    pub service_type: ServiceType,
    /// The address that clients dial, and for which of them it is.
    pub frontend: FrontendKey,
    /// What the address is to the service.
    pub kind: AddressKind,
    /// Endpoints that are ready, on any node.
    pub ready: usize,
    /// Endpoints in any condition.
    pub total: usize,
    /// Session affinity timeout.
    pub affinity: Option<Duration>,
    /// Which endpoints its clients may reach.
    pub traffic_policy: TrafficPolicy,
    /// Creation time of the service, seconds since 1970.
    pub created: Option<i64>,
}

impl ServiceInfo {
    /// Namespace of the service.
    pub fn namespace(&self) -> &str {
        self.service.namespace()
    }

    /// Age of the service in seconds at a time in seconds since 1970.
    pub fn age_seconds(&self, now: i64) -> Option<u64> {
        self.created.map(|created| now.saturating_sub(created).max(0) as u64)
    }

    /// Name of the service.
    pub fn name(&self) -> &str {
        self.service.name()
    }
}

/// An endpoint of a service port, in whatever condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// Its address.
    pub addr: BackendAddr,
    /// The pod behind it, in the namespace of the service, if the slice names one.
    pub pod: Option<Arc<str>>,
    /// Its node, if known.
    pub node: Option<Arc<str>>,
    /// Its conditions.
    pub conditions: Conditions,
    /// It is on this node.
    pub local: bool,
}

impl Planner {
    /// Every frontend that is in force, ordered by namespace, name, port, protocol, address.
    pub fn services(&self) -> Vec<ServiceInfo> {
        let mut infos = Vec::new();
        for (service, known) in self.known().iter() {
            for (addr, kind, port) in frontends::frontends(service, self.options()) {
                if self.claims().owner(&addr) != Some(&service.name) {
                    continue;
                }
                let all = selection::candidates(&known.slices, port, Family::of(addr.ip));
                let ready = all.iter().filter(|c| c.endpoint.conditions.ready).count();
                for scope in Scope::ALL {
                    let frontend = FrontendKey { addr, scope };
                    infos.extend(info(service, (kind, port), frontend, [ready, all.len()]));
                }
            }
        }
        infos.sort_by_cached_key(|info| {
            let (service, FrontendKey { addr, scope }) = (info.service.clone(), info.frontend);
            let namespace: Arc<str> = service.namespace().into();
            (namespace, service, addr.port, addr.protocol, addr.ip, scope)
        });
        infos
    }

    /// The endpoints behind a frontend, ordered by address; empty if it is not a frontend.
    pub fn backends(&self, frontend: &FrontendAddr) -> Vec<BackendInfo> {
        let known = self.claims().owner(frontend).and_then(|owner| self.known().get(owner));
        let Some((known, service)) = known.and_then(|known| Some((known, known.service.as_ref()?)))
        else {
            return Vec::new();
        };
        let found = frontends::find(service, self.options(), frontend);
        let Some((_, port)) = found else { return Vec::new() };
        let all = selection::candidates(&known.slices, port, Family::of(frontend.ip));
        all.into_iter()
            .map(|candidate| BackendInfo {
                addr: candidate.addr,
                pod: candidate.endpoint.pod.clone(),
                node: candidate.endpoint.node.clone(),
                conditions: candidate.endpoint.conditions,
                local: self.place().is_local(candidate.endpoint),
            })
            .collect()
    }
}

fn info(
    service: &Service,
    (kind, port): (AddressKind, &ServicePort),
    frontend: FrontendKey,
    [ready, total]: [usize; 2],
) -> Option<ServiceInfo> {
    Some(ServiceInfo {
        service: service.name.clone(),
        port_name: port.name.clone(),
        service_type: service.service_type,
        frontend,
        kind,
        ready,
        total,
        affinity: service.affinity,
        traffic_policy: frontends::policy(service, kind, frontend.scope)?,
        created: service.created,
    })
}
