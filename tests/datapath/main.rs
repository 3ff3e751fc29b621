// SPDX-License-Identifier: Apache-2.0
//! Every packet vector on the loaded programs: packets through `BPF_PROG_TEST_RUN` on the running
//! kernel.

mod held;

macro_rules! in_the_kernel {
    ($file:ident: $($vector:ident),* $(,)?) => {
        mod $file {
            $(mod $vector {
                use pintle_tests::{kernel_world::KernelWorld, vectors::{Ip, $file::$vector}, world::World};

                #[test]
                fn v4() {
                    check(Ip::V4);
                }

                #[test]
                fn v6() {
                    check(Ip::V6);
                }

                fn check(ip: Ip) {
                    for world in [KernelWorld::shared, KernelWorld::shared_with_xdp] {
                        let world: &mut dyn World = &mut *world();
                        $vector(world, ip);
                        world.denials_add_up();
                    }
                }
            })*
        }
    };
}

pintle_tests::for_each_vector!(in_the_kernel);

macro_rules! with_xdp_in_the_kernel {
    ($file:ident: $($vector:ident),* $(,)?) => {
        mod $file {
            use pintle_tests::{kernel_world::KernelWorld, vectors::{Ip, $file}};

            $(#[test]
            fn $vector() {
                for ip in [Ip::V4, Ip::V6] {
                    $file::$vector(&mut *KernelWorld::shared_with_xdp_at_rest(), ip);
                }
            })*
        }
    };
}

pintle_tests::for_each_early_vector!(with_xdp_in_the_kernel);
