// SPDX-License-Identifier: Apache-2.0
//! Links the kernel programs again when the linker changes.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let for_kernel = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "bpf");
    if let (true, Ok(linker)) = (for_kernel, std::env::var("RUSTC_LINKER")) {
        println!("cargo::rerun-if-changed={linker}");
    }
}
