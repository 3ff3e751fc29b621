// SPDX-License-Identifier: Apache-2.0
//! Services with their slices, indexed so that a change touches one service only.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use crate::model::{
    name::{ObjectName, ServiceName},
    service::Service,
    slice::EndpointSlice,
};

/// A service and its slices; either may be known without the other.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub service: Option<Arc<Service>>,
    /// Ordered by name.
    pub slices: Vec<Arc<EndpointSlice>>,
}

impl Known {
    fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty()
    }
}

/// Every service and slice.
#[derive(Debug, Default)]
pub(super) struct Services {
    by_name: BTreeMap<ServiceName, Known>,
    /// The service of each slice, because a deletion names the slice only.
    service_of: HashMap<ObjectName, ServiceName>,
}

impl Services {
    pub fn get(&self, name: &ServiceName) -> Option<&Known> {
        self.by_name.get(name)
    }

    /// Services that exist, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<Service>, &Known)> {
        self.by_name.values().filter_map(|known| Some((known.service.as_ref()?, known)))
    }

    /// Replaces a service, or takes it away; returns what was known.
    pub fn set(
        &mut self,
        name: &ServiceName,
        service: Option<Arc<Service>>,
    ) -> Option<Arc<Service>> {
        let known = self.by_name.entry(name.clone()).or_default();
        let old = std::mem::replace(&mut known.service, service);
        self.forget_if_empty(name);
        old
    }

    /// A slice.
    pub fn slice(&self, name: &ObjectName) -> Option<&Arc<EndpointSlice>> {
        let slices = &self.by_name.get(self.service_of.get(name)?)?.slices;
        slices.iter().find(|slice| slice.name == *name)
    }

    /// The address of every endpoint; some more than once.
    pub fn endpoint_ips(&self) -> impl Iterator<Item = IpAddr> {
        let slices = self.by_name.values().flat_map(|known| &known.slices);
        slices.flat_map(|slice| &slice.endpoints).map(|endpoint| endpoint.ip)
    }

    /// Adds or replaces a slice; returns the services whose endpoints change.
    pub fn add_slice(&mut self, slice: Arc<EndpointSlice>) -> [Option<ServiceName>; 2] {
        let left = match self.service_of.insert(slice.name.clone(), slice.service.clone()) {
            Some(old) if old != slice.service => {
                self.take_slice(&old, &slice.name);
                Some(old)
            }
            _ => None,
        };
        let service = slice.service.clone();
        let slices = &mut self.by_name.entry(service.clone()).or_default().slices;
        match slices.binary_search_by(|other| other.name.cmp(&slice.name)) {
            Ok(index) => slices[index] = slice,
            Err(index) => slices.insert(index, slice),
        }
        [left, Some(service)]
    }

    /// Takes a slice away; returns the service that had it.
    pub fn remove_slice(&mut self, slice: &ObjectName) -> Option<ServiceName> {
        let service = self.service_of.remove(slice)?;
        self.take_slice(&service, slice);
        Some(service)
    }

    fn take_slice(&mut self, service: &ServiceName, slice: &ObjectName) {
        if let Some(known) = self.by_name.get_mut(service) {
            known.slices.retain(|other| other.name != *slice);
        }
        self.forget_if_empty(service);
    }

    fn forget_if_empty(&mut self, service: &ServiceName) {
        if self.by_name.get(service).is_some_and(Known::is_empty) {
            self.by_name.remove(service);
        }
    }
}
