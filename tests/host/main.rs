// SPDX-License-Identifier: Apache-2.0
//! Every packet vector on the host build of the programs: no kernel, no privileges.

mod full;
mod held;
mod of_socket;
mod offload;
mod socket;
mod uplink;

use pintle_tests::host_world::{HostWorld, Offload};

macro_rules! on_the_host {
    ($file:ident: $($vector:ident),* $(,)?) => {
        mod $file {
            $(mod $vector {
                use pintle_tests::{vectors::{Ip, $file::$vector}, world::World};

                #[test]
                fn v4() {
                    check(Ip::V4);
                }

                #[test]
                fn v6() {
                    check(Ip::V6);
                }

                fn check(ip: Ip) {
                    let world: &mut dyn World = &mut crate::world();
                    $vector(world, ip);
                    world.denials_add_up();
                }
            })*
        }
    };
}

pintle_tests::for_each_vector!(on_the_host);

fn world() -> HostWorld {
    HostWorld::new(Offload::None)
}
