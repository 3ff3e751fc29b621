// SPDX-License-Identifier: Apache-2.0
//! Which interfaces get programs, in which role, and what the programs are told of each. Pure.

use std::collections::BTreeMap;

use crate::{
    cli::agent::XdpMode,
    datapath::{
        attach::{Native, Role},
        devices::DeviceRecord,
    },
    node::{IfIndex, PodDevices, PodInterface, Snapshot, Uplink, devices::LOOPBACK},
};

/// An interface that gets programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub name: String,
    /// What it is to us.
    pub role: Role,
    /// What the programs are told of it.
    pub device: DeviceRecord,
    /// Whether it is to have the program of XDP, or why not; `None` for what is no uplink.
    pub native: Option<Native>,
}

/// Largest packet of the loopback device.
const LOOPBACK_MTU: u32 = 65_536;

/// Every interface that gets programs. `pods` bring packets of local pods.
pub fn attachments(
    network: &Snapshot,
    fast_path: bool,
    xdp: XdpMode,
    pods: &PodDevices,
) -> BTreeMap<IfIndex, Attachment> {
    let interfaces = network.interfaces.values().map(|pod| (pod.index, of_pod(pod, fast_path)));
    let uplinks =
        network.uplinks.values().map(|uplink| (uplink.index, of_uplink(uplink, fast_path, xdp)));
    // A namespace whose view has not been read yet has no loopback device either.
    let loopback = network.has_loopback().then(|| (LOOPBACK, loopback()));
    let mut all: BTreeMap<_, _> = uplinks.chain(loopback).chain(interfaces).collect();
    all.iter_mut().for_each(|(index, wanted)| wanted.device.pod = pods.contain(network, *index));
    all
}

fn of_pod(pod: &PodInterface, fast_path: bool) -> Attachment {
    let device =
        DeviceRecord { fast: fast_path && pod.eligible(), mtu: pod.mtu, ..DeviceRecord::default() };
    Attachment { name: pod.name.clone(), role: Role::Pod, device, native: None }
}

fn of_uplink(uplink: &Uplink, fast_path: bool, xdp: XdpMode) -> Attachment {
    let device = DeviceRecord {
        fast: fast_path,
        takes_frames: uplink.veth,
        mtu: uplink.mtu,
        mac: uplink.mac,
        v4: uplink.v4,
        v6: uplink.v6,
        ..DeviceRecord::default()
    };
    let native = Some(wants_xdp(uplink, xdp));
    Attachment { name: uplink.name.clone(), role: Role::Net, device, native }
}

/// Whether an uplink is to have the program of XDP. A veth has it for the asking only: its peer must
/// receive as a driver does, and loses its offloads. Where a device has ports the program would run at
/// these, of which nothing is known.
fn wants_xdp(uplink: &Uplink, xdp: XdpMode) -> Native {
    match xdp {
        XdpMode::Off => Err("switched off".to_owned()),
        XdpMode::Auto | XdpMode::Always if uplink.has_ports => Err("it has ports".to_owned()),
        XdpMode::Auto if uplink.veth => Err("it is a veth".to_owned()),
        XdpMode::Auto | XdpMode::Always => Ok(()),
    }
}

fn loopback() -> Attachment {
    let device = DeviceRecord { mtu: LOOPBACK_MTU, ..DeviceRecord::default() };
    Attachment { name: "lo".to_owned(), role: Role::Loopback, device, native: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdp_is_for_hardware_and_for_veths_that_are_meant() {
        let reason = |(veth, has_ports), xdp| {
            let uplink = Uplink {
                index: IfIndex(2),
                name: "eth0".into(),
                veth,
                has_ports,
                mtu: 1500,
                mac: [2; 6],
                v4: None,
                v6: None,
            };
            of_uplink(&uplink, true, xdp).native.unwrap().err()
        };
        let [hardware, veth, bond] = [(false, false), (true, false), (false, true)];
        assert_eq!(reason(hardware, XdpMode::Auto), None);
        assert_eq!(reason(hardware, XdpMode::Off).as_deref(), Some("switched off"));
        assert_eq!(reason(veth, XdpMode::Auto).as_deref(), Some("it is a veth"));
        assert_eq!(reason(veth, XdpMode::Always), None);
        for xdp in [XdpMode::Auto, XdpMode::Always] {
            assert_eq!(reason(bond, xdp).as_deref(), Some("it has ports"));
        }
    }
}
