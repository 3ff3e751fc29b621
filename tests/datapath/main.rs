// SPDX-License-Identifier: Apache-2.0
//! Packets through the loaded programs: packet in, packet out, what moved.

#[test]
fn the_kernel_publishes_its_types() {
    assert!(std::path::Path::new("/sys/kernel/btf/vmlinux").is_file());
}
