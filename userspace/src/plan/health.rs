// SPDX-License-Identifier: Apache-2.0
//! What load balancers are told when they ask which nodes have endpoints of a service
//! (`healthCheckNodePort`).

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::selection::Place;
use crate::model::{ip::Family, service::Service, slice::EndpointSlice};

/// A port of this node where a load balancer asks for a service, and the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The port.
    pub port: u16,
    /// How many addresses of ready endpoints are on this node; `None` if the service is not of IPv4.
    pub v4: Option<usize>,
    /// The same for IPv6.
    pub v6: Option<usize>,
}

impl HealthCheck {
    /// How many addresses of ready endpoints are on this node, in a family; `None` if the service
    /// is not of the family.
    pub fn local_endpoints(&self, family: Family) -> Option<usize> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// The health check of a service, if it has one.
///
/// Endpoints that terminate do not count, also where traffic still falls back to them: the balancer
/// is to look for other nodes.
pub(super) fn health_check(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    place: &Place,
) -> Option<HealthCheck> {
    let port = service.health_check_node_port?;
    let count = |family| {
        service.cluster_ips.get(family)?;
        let slices = slices.iter().filter(|s| s.family == family && !s.ports.is_empty());
        let endpoints = slices.flat_map(|slice| &slice.endpoints);
        let here = endpoints.filter(|e| e.conditions.ready && place.is_local(e));
        Some(here.map(|endpoint| endpoint.ip).collect::<BTreeSet<IpAddr>>().len())
    };
    Some(HealthCheck { port, v4: count(Family::V4), v6: count(Family::V6) })
}
