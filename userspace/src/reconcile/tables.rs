// SPDX-License-Identifier: Apache-2.0
//! The maps as the reconciler writes and reads them, whatever stands behind: the kernel, or memory.

use std::net::IpAddr;

use thiserror::Error;

pub use crate::model::ip::Family;
use crate::model::{
    addr::{BackendAddr, FrontendKey},
    cidr::Cidr,
};

/// A frontend's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrontendRecord {
    /// Number of the service port.
    pub service: u32,
    /// First slot.
    pub base: u32,
    /// Number of slots.
    pub count: u32,
    /// Bits of `pintle_abi::service::frontend_flags`.
    pub flags: u32,
    /// Session affinity timeout in seconds; 0 for none.
    pub affinity_seconds: u32,
}

impl FrontendRecord {
    /// Whether a bit is among its flags.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// A backend's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendRecord {
    /// Its address; `None` for a free id.
    pub addr: Option<BackendAddr>,
    /// Changes when the id is given up and when it is given out.
    pub generation: u32,
    /// It is a pod of this node.
    pub local: bool,
    /// Where packets are redirected to past the host's stack.
    pub redirect: Option<Redirect>,
}

/// The host side of a local pod's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Its number.
    pub ifindex: u32,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// A write that the kernel refused.
#[derive(Debug, Error)]
#[error("write {map}")]
pub struct WriteError {
    /// The map.
    pub map: &'static str,
    /// What the kernel said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The maps of services.
pub trait Tables {
    /// Number of slots there can be.
    fn slot_capacity(&self, family: Family) -> u32;
    /// Number of backends there can be.
    fn backend_capacity(&self, family: Family) -> u32;
    /// Number of frontends there can be, wildcards included.
    fn frontend_capacity(&self, family: Family) -> u32;
    /// Number of source ranges there can be.
    fn source_range_capacity(&self, family: Family) -> u32;

    /// Writes backends; on failure some may be written and others not.
    fn put_backends(
        &mut self,
        family: Family,
        records: &[(u32, BackendRecord)],
    ) -> Result<(), WriteError>;
    /// Writes slots that follow each other; on failure some may be written and others not.
    fn put_slots(&mut self, family: Family, base: u32, ids: &[u32]) -> Result<(), WriteError>;
    /// Writes a frontend; it takes effect at once and as a whole.
    fn put_frontend(
        &mut self,
        key: &FrontendKey,
        record: &FrontendRecord,
    ) -> Result<(), WriteError>;
    /// Removes a frontend.
    fn remove_frontend(&mut self, key: &FrontendKey) -> Result<(), WriteError>;
    /// Writes the wildcard entry of an address, with bits of `wildcard_flags`.
    fn put_wildcard(&mut self, ip: IpAddr, flags: u32) -> Result<(), WriteError>;
    /// Removes it.
    fn remove_wildcard(&mut self, ip: IpAddr) -> Result<(), WriteError>;
    /// Lets clients in a range use the restricted frontends of a service port.
    fn put_source_range(
        &mut self,
        family: Family,
        service: u32,
        range: Cidr,
    ) -> Result<(), WriteError>;
    /// Takes that back.
    fn remove_source_range(
        &mut self,
        family: Family,
        service: u32,
        range: Cidr,
    ) -> Result<(), WriteError>;
    /// Writes a range of the cluster's service addresses, or that there is none at this index.
    fn put_cluster_range(
        &mut self,
        family: Family,
        index: u32,
        range: Option<Cidr>,
    ) -> Result<(), WriteError>;
}

/// What the maps held when the agent started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Realized {
    /// Frontends with their records and the backend ids in their slots.
    pub frontends: Vec<(FrontendKey, FrontendRecord, Vec<u32>)>,
    /// Wildcard entries with their flags.
    pub wildcards: Vec<(IpAddr, u32)>,
    /// Backends by family and id, free ones with a generation included.
    pub backends: Vec<(Family, u32, BackendRecord)>,
    /// Source ranges with the numbers of their service ports.
    pub source_ranges: Vec<(u32, Cidr)>,
    /// Ranges of the cluster's service addresses with their indices.
    pub cluster_ranges: Vec<(u32, Cidr)>,
}
