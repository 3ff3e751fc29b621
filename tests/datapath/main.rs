// SPDX-License-Identifier: Apache-2.0
//! The loaded programs: packets through `BPF_PROG_TEST_RUN` on the running kernel.

use pintle::datapath::object::Sizes;
use pintle_tests::{kernel_world::KernelWorld, vectors};

#[test]
fn every_vector_holds_in_the_kernel() {
    for (name, vector) in vectors::ALL {
        println!("{name}");
        let mut world = KernelWorld::load(&Sizes::new()).unwrap_or_else(|e| panic!("{e:#}"));
        vector(&mut world);
    }
}
