// SPDX-License-Identifier: Apache-2.0
//! Real sockets across network namespaces.

#[test]
fn this_process_has_a_network_namespace() {
    assert!(std::path::Path::new("/proc/self/ns/net").exists());
}
