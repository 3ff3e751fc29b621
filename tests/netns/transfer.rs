// SPDX-License-Identifier: Apache-2.0
//! 20 MB come back unchanged, with large segments and without any offload (I11).

use pintle_lab::agent::FastPath;
use pintle_lab::client::echo_transfer;
use pintle_lab::device::Device;
use pintle_lab::topology::{Cni, Family};

use crate::scene::{ECHO, Scene, in_every_layout};

const SIZE: usize = 20_000_000;

in_every_layout!(bytes_survive_with_and_without_offloads, alone);

fn bytes_survive_with_and_without_offloads(cni: Cni, fast_path: FastPath) {
    let scene = Scene::new(cni, fast_path);
    let transfer_all = |what: &str| {
        for family in Family::BOTH {
            let target = scene.vip(family, &ECHO);
            let same = scene.client.run(|| echo_transfer(target, SIZE));
            assert!(same.expect(what), "{what}, {family:?}: bytes changed on the way");
        }
    };
    transfer_all("with offloads");
    // A sender without checksum offload sends full checksums; the receiver verifies them.
    Device::new(scene.client.ns(), "eth0")
        .switch_offloads_off()
        .expect("switch the client's offloads off");
    transfer_all("client without offloads");
    for backend in &scene.backends {
        Device::new(backend.pod.ns(), "eth0")
            .switch_offloads_off()
            .expect("switch the backend's offloads off");
    }
    transfer_all("nobody with offloads");
}
