// SPDX-License-Identifier: Apache-2.0
//! Changes of single settings of the node; each is effective on the next packet.

use std::net::{Ipv4Addr, Ipv6Addr};

use pintle_abi::{
    addr::{V4, V6},
    settings::{Settings, detect},
};

use super::{range, tables::KernelTables};
use crate::{model::cidr::Cidr, reconcile::tables::WriteError};

impl KernelTables {
    /// Says whether packets may be redirected at all; effective on the next packet.
    pub fn put_fast_path(&mut self, on: bool) -> Result<(), WriteError> {
        let settings = Settings { fast_path: u32::from(on), ..self.settings()? };
        self.put_settings(settings)
    }

    /// Says which addresses stand for masqueraded clients where the way out has none of its own.
    pub fn put_node_addresses(
        &mut self,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> Result<(), WriteError> {
        let node_v4 = v4.map(V4::from).unwrap_or_default();
        let node_v6 = v6.map(V6::from).unwrap_or_default();
        let settings = self.settings()?;
        if (settings.node_v4, settings.node_v6) == (node_v4, node_v6) {
            return Ok(());
        }
        self.put_settings(Settings { node_v4, node_v6, ..settings })
    }

    /// Says whether connections of kube-proxy's are being taken over; effective on the next packet.
    pub fn put_take_over(&mut self, on: bool) -> Result<(), WriteError> {
        let settings = Settings { take_over: u32::from(on), ..self.settings()? };
        self.put_settings(settings)
    }

    /// Says which addresses are local pods', IPv4 and IPv6; `None` if interfaces tell.
    pub fn put_pod_ranges(&mut self, ranges: Option<[Option<Cidr>; 2]>) -> Result<(), WriteError> {
        let [v4, v6] = ranges.unwrap_or_default();
        let settings = self.settings()?;
        let wanted = Settings {
            detect: if ranges.is_some() { detect::ADDRESS } else { detect::INTERFACE },
            pods_v4: v4.and_then(range::prefix).unwrap_or_default(),
            pods_v6: v6.and_then(range::prefix).unwrap_or_default(),
            ..settings
        };
        if wanted == settings { Ok(()) } else { self.put_settings(wanted) }
    }
}
