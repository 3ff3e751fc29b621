// SPDX-License-Identifier: Apache-2.0
//! Every packet vector on the host build of the programs: no kernel, no privileges.

mod exits;
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
                    for mut world in crate::worlds() {
                        let world: &mut dyn World = &mut world;
                        $vector(world, ip);
                        world.denials_add_up();
                    }
                }
            })*
        }
    };
}

pintle_tests::for_each_vector!(on_the_host);

macro_rules! with_xdp_on_the_host {
    ($file:ident: $($vector:ident),* $(,)?) => {
        mod $file {
            use pintle_tests::{host_world::{HostWorld, Offload}, vectors::{Ip, $file}};

            $(#[test]
            fn $vector() {
                for ip in [Ip::V4, Ip::V6] {
                    $file::$vector(&mut HostWorld::with_xdp(Offload::None), ip);
                }
            })*
        }
    };
}

pintle_tests::for_each_early_vector!(with_xdp_on_the_host);

fn world() -> HostWorld {
    HostWorld::new(Offload::None)
}

/// Without XDP and with it, one after the other: they share the maps of the thread.
fn worlds() -> impl Iterator<Item = HostWorld> {
    [HostWorld::new, HostWorld::with_xdp].into_iter().map(|new| new(Offload::None))
}
