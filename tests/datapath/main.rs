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
                    let world: &mut dyn World = &mut *KernelWorld::shared();
                    $vector(world, ip);
                    world.denials_add_up();
                }
            })*
        }
    };
}

pintle_tests::for_each_vector!(in_the_kernel);
