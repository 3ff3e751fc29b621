// SPDX-License-Identifier: Apache-2.0
//! The maps of network policy as the reconciler writes and reads them, whatever stands behind: the
//! kernel, or memory.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pintle_abi::map;
use thiserror::Error;

use crate::{
    model::{cidr::Cidr, ip::Family},
    node::IfIndex,
    policy::{ClassId, PortKey, Row, RowKey, RulesetId},
    reconcile::tables::WriteError,
};

/// One of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyMap {
    /// Port classes.
    Ports,
    /// Verdicts.
    Rows,
    /// Classes of ranges.
    Ranges(Family),
    /// Classes of addresses.
    Peers(Family),
    /// Pods of this node.
    Endpoints,
}

impl PolicyMap {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ports => map::POLICY_PORTS.name,
            Self::Rows => map::POLICY_ROWS.name,
            Self::Ranges(Family::V4) => map::PEER_RANGES_V4.name,
            Self::Ranges(Family::V6) => map::PEER_RANGES_V6.name,
            Self::Peers(Family::V4) => map::PEERS_V4.name,
            Self::Peers(Family::V6) => map::PEERS_V6.name,
            Self::Endpoints => map::ENDPOINTS.name,
        }
    }
}

/// What the programs know of a pod's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointRecord {
    /// The pod's IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The pod's IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Rulesets of what it sends and receives, and of the same where a service leads it to itself:
    /// the order of [`crate::policy::Endpoint::rulesets`].
    pub rulesets: [RulesetId; 4],
}

impl EndpointRecord {
    /// The address is one of its own.
    pub fn has(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.v4 == Some(ip),
            IpAddr::V6(ip) => self.v6 == Some(ip),
        }
    }
}

/// A list of writes that came to an end before its end.
#[derive(Debug, Error)]
#[error("{error} after {made} more")]
pub struct Stopped {
    /// How many were made; the next one is the one that failed.
    pub made: usize,
    /// Why it failed.
    #[source]
    pub error: WriteError,
}

/// What became of a list of writes, which are made one after the other.
pub type Written = Result<(), Stopped>;

/// The maps of network policy. Removing what is not there is no failure.
pub trait PolicyTables {
    /// How many entries a map can have.
    fn capacity(&self, map: PolicyMap) -> usize;

    /// Writes port classes.
    fn put_ports(&mut self, entries: &[(PortKey, u8)]) -> Written;
    /// Removes port classes.
    fn remove_ports(&mut self, keys: &[PortKey]) -> Written;
    /// Writes rows.
    fn put_rows(&mut self, entries: &[(RowKey, Row)]) -> Written;
    /// Removes rows.
    fn remove_rows(&mut self, keys: &[RowKey]) -> Written;
    /// Writes classes of ranges.
    fn put_ranges(&mut self, entries: &[(Cidr, ClassId)]) -> Written;
    /// Removes ranges.
    fn remove_ranges(&mut self, keys: &[Cidr]) -> Written;
    /// Writes classes of addresses.
    fn put_peers(&mut self, entries: &[(IpAddr, ClassId)]) -> Written;
    /// Removes addresses.
    fn remove_peers(&mut self, keys: &[IpAddr]) -> Written;
    /// Writes what is known of pods' interfaces; each takes effect at once and as a whole.
    fn put_endpoints(&mut self, entries: &[(IfIndex, EndpointRecord)]) -> Written;
    /// Forgets interfaces.
    fn remove_endpoints(&mut self, keys: &[IfIndex]) -> Written;
    /// Has everything that was allowed at another epoch judged again.
    fn put_epoch(&mut self, epoch: u32) -> Result<(), WriteError>;
}

/// What the maps held when the agent started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Realized {
    /// Port classes.
    pub ports: Vec<(PortKey, u8)>,
    /// Verdicts.
    pub rows: Vec<(RowKey, Row)>,
    /// Classes of ranges.
    pub ranges: Vec<(Cidr, ClassId)>,
    /// Classes of addresses.
    pub peers: Vec<(IpAddr, ClassId)>,
    /// Pods' interfaces.
    pub endpoints: Vec<(IfIndex, EndpointRecord)>,
    /// The epoch.
    pub epoch: u32,
    /// Policies held. If not, nobody has kept pods' interfaces up to date.
    pub is_on: bool,
}
