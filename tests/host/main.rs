// SPDX-License-Identifier: Apache-2.0
//! Every packet vector on the host build of the programs: no kernel, no privileges.

mod full;
mod held;
mod offload;
mod socket;
mod uplink;

use pintle_tests::host_world::{HostWorld, Offload};

macro_rules! on_the_host {
    ($file:ident: $($vector:ident),* $(,)?) => {
        mod $file {
            $(mod $vector {
                use pintle_tests::vectors::{Ip, $file::$vector};

                #[test]
                fn v4() {
                    $vector(&mut crate::world(), Ip::V4);
                }

                #[test]
                fn v6() {
                    $vector(&mut crate::world(), Ip::V6);
                }
            })*
        }
    };
}

pintle_tests::for_each_vector!(on_the_host);

fn world() -> HostWorld {
    HostWorld::new(Offload::None)
}
