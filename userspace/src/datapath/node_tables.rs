// SPDX-License-Identifier: Apache-2.0
//! What the programs are told of the node itself: its settings and its interfaces.

use std::net::{Ipv4Addr, Ipv6Addr};

use pintle_abi::{
    addr::{V4, V6},
    device::Device,
    map,
    settings::{Settings, detect},
};

use super::{
    devices::DeviceRecord,
    persist::{persist, refused, removed},
    range,
    tables::KernelTables,
};
use crate::{model::cidr::Cidr, reconcile::tables::WriteError};

impl KernelTables {
    /// The settings of the node, zero where nobody has written them.
    pub fn settings(&self) -> Result<Settings, WriteError> {
        self.settings.map.get(&0, 0).map_err(|error| refused(&map::SETTINGS, error))
    }

    /// Writes the settings of the node.
    pub fn put_settings(&mut self, settings: Settings) -> Result<(), WriteError> {
        self.settings.map.set(0, settings, 0).map_err(|error| refused(&map::SETTINGS, error))
    }

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

    /// Tells the programs of an interface.
    pub fn put_device(&mut self, ifindex: u32, record: &DeviceRecord) -> Result<(), WriteError> {
        let device = Device::from(record);
        persist(&map::DEVICES, || self.devices.map.insert(ifindex, device, 0))
    }

    /// Forgets an interface.
    pub fn remove_device(&mut self, ifindex: u32) -> Result<(), WriteError> {
        removed(&map::DEVICES, self.devices.map.remove(&ifindex))
    }

    /// Interfaces that the programs know.
    pub fn device_indices(&self) -> Vec<u32> {
        self.devices.map.keys().filter_map(Result::ok).collect()
    }
}
