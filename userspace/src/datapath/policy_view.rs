// SPDX-License-Identifier: Apache-2.0
//! Read-only access to what the maps hold of policies.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::maps::MapData;

use pintle_abi::{
    map,
    policy::{Allowed, AllowedKey, Denied, DeniedKey, Endpoint, Row, RowKey, policy_mode},
};

use super::{
    batch,
    element::Elements,
    pins::Pins,
    policy_entry::{self, AllowedEntry, DeniedEntry, EndpointEntry},
    view::{ReadError, View},
};
use crate::policy::Reading;

/// Whether policies hold on the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyMode {
    /// Nothing is judged.
    #[default]
    Off,
    /// A pod that nothing is known of neither sends nor receives.
    Closed,
    /// A pod that nothing is known of is not judged.
    Open,
}

impl PolicyMode {
    /// The word shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Closed => "closed",
            Self::Open => "open",
        }
    }
}

/// What can be read of policies in a node's data path.
pub trait PolicyMaps {
    /// Whether policies hold, and the epoch at which verdicts count.
    fn policy_mode(&self) -> Result<(PolicyMode, u32), ReadError>;
    /// What policies denied, or would deny, the latest first.
    fn denied(&self) -> Result<Vec<DeniedEntry>, ReadError>;
    /// How many connections policies allowed, sorted by what allowed them.
    fn allowed(&self) -> Result<Vec<AllowedEntry>, ReadError>;
    /// This node's pods, sorted by interface.
    fn endpoints(&self) -> Result<Vec<EndpointEntry>, ReadError>;
    /// Whether a row lets a port class pass, as enforced and with the audited policies; `None` if
    /// there is no such row.
    fn row(
        &self,
        ruleset: u32,
        class: u32,
        port_class: u8,
    ) -> Result<Option<(bool, bool)>, ReadError>;
}

impl PolicyMaps for View {
    fn policy_mode(&self) -> Result<(PolicyMode, u32), ReadError> {
        let settings = self.settings()?;
        let mode = match settings.policy {
            policy_mode::CLOSED => PolicyMode::Closed,
            policy_mode::OPEN => PolicyMode::Open,
            _ => PolicyMode::Off,
        };
        Ok((mode, settings.policy_epoch))
    }

    fn denied(&self) -> Result<Vec<DeniedEntry>, ReadError> {
        let mut found = Vec::new();
        self.for_each(&map::DENIED, |key: &DeniedKey, value: &Denied| {
            found.extend(policy_entry::denied(key, value));
        })?;
        Ok(latest_first(found))
    }

    fn allowed(&self) -> Result<Vec<AllowedEntry>, ReadError> {
        let mut found = Vec::new();
        self.for_each(&map::ALLOWED, |key: &AllowedKey, value: &Allowed| {
            found.extend(policy_entry::allowed(key, value));
        })?;
        found.sort_by_key(|entry| entry.key);
        Ok(found)
    }

    fn endpoints(&self) -> Result<Vec<EndpointEntry>, ReadError> {
        let mut found = Vec::new();
        self.for_each(&map::ENDPOINTS, |index: &u32, value: &Endpoint| {
            found.push(policy_entry::endpoint(*index, value));
        })?;
        found.sort_by_key(|entry| entry.index);
        Ok(found)
    }

    fn row(
        &self,
        ruleset: u32,
        class: u32,
        port_class: u8,
    ) -> Result<Option<(bool, bool)>, ReadError> {
        let name = map::POLICY_ROWS.name;
        let rows = Elements::<RowKey, Row>::of(self.fd(&map::POLICY_ROWS)?);
        let row = rows.find(&RowKey { ruleset, class });
        let row = row.map_err(|source| ReadError { name, source })?;
        let of = |row: Row| {
            [Reading::Enforced, Reading::Staged]
                .map(|reading| policy_entry::is_allowed(&row, port_class, reading))
                .into()
        };
        Ok(row.map(of))
    }
}

fn latest_first(mut found: Vec<DeniedEntry>) -> Vec<DeniedEntry> {
    found.sort_by_key(|entry| (std::cmp::Reverse(entry.last_seen_ns), entry.key));
    found
}

/// What is counted of verdicts, for who reads it again and again.
#[derive(Debug)]
pub struct VerdictMaps {
    denied: OwnedFd,
    allowed: OwnedFd,
}

impl VerdictMaps {
    /// Opens the pinned maps, which the loader of this binary has made or checked.
    pub fn open(pins: &Pins) -> io::Result<Self> {
        let open = |spec| {
            let map = MapData::from_pin(pins.map(spec)).map_err(io::Error::other)?;
            map.fd().as_fd().try_clone_to_owned()
        };
        Ok(Self { denied: open(&map::DENIED)?, allowed: open(&map::ALLOWED)? })
    }

    /// What policies denied, or would deny, the latest first.
    pub fn denied(&self) -> io::Result<Vec<DeniedEntry>> {
        let mut found = Vec::new();
        batch::for_each(self.denied.as_fd(), |key: &DeniedKey, value: &Denied| {
            found.extend(policy_entry::denied(key, value));
        })?;
        Ok(latest_first(found))
    }

    /// How many connections policies allowed.
    pub fn allowed(&self) -> io::Result<Vec<AllowedEntry>> {
        let mut found = Vec::new();
        batch::for_each(self.allowed.as_fd(), |key: &AllowedKey, value: &Allowed| {
            found.extend(policy_entry::allowed(key, value));
        })?;
        Ok(found)
    }
}
