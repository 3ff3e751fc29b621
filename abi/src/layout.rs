// SPDX-License-Identifier: Apache-2.0
//! The layout of every ABI struct as data, for the golden file and for BTF-less map dumps.

use crate::{
    addr, affinity, device, exit, flow, fragment, policy, service, settings, socket, source_range,
};

/// One field of an ABI struct; offset and size in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The field's name in the source.
    pub name: &'static str,
    /// Distance from the start of the struct.
    pub offset: usize,
    /// Size of the field.
    pub size: usize,
}

/// Implemented by `abi_struct!` for every struct it declares.
pub trait Layout {
    /// The struct's name, with its address family if it has one.
    const NAME: &'static str;
    /// Its fields in order.
    const FIELDS: &'static [Field];
}

/// Name and fields of every ABI struct, in the order of the golden file.
pub const ALL: &[(&str, &[Field])] = &[
    entry::<addr::Tuple<addr::V4>>(),
    entry::<addr::Tuple<addr::V6>>(),
    entry::<service::FrontendKey<addr::V4>>(),
    entry::<service::FrontendKey<addr::V6>>(),
    entry::<service::Frontend>(),
    entry::<service::Backend<addr::V4>>(),
    entry::<service::Backend<addr::V6>>(),
    entry::<flow::Flow<addr::V4>>(),
    entry::<flow::Flow<addr::V6>>(),
    entry::<fragment::FragmentKey<addr::V4>>(),
    entry::<fragment::FragmentKey<addr::V6>>(),
    entry::<fragment::Fragment>(),
    entry::<fragment::Held<addr::V4>>(),
    entry::<fragment::Held<addr::V6>>(),
    entry::<source_range::SourceRange<addr::V4>>(),
    entry::<source_range::SourceRange<addr::V6>>(),
    entry::<source_range::Prefix<addr::V4>>(),
    entry::<source_range::Prefix<addr::V6>>(),
    entry::<affinity::AffinityKey<addr::V4>>(),
    entry::<affinity::AffinityKey<addr::V6>>(),
    entry::<affinity::Affinity>(),
    entry::<socket::Connection<addr::V4>>(),
    entry::<socket::Connection<addr::V6>>(),
    entry::<socket::UdpSocket>(),
    entry::<socket::DatagramKey<addr::V4>>(),
    entry::<socket::DatagramKey<addr::V6>>(),
    entry::<socket::Datagram<addr::V4>>(),
    entry::<socket::Datagram<addr::V6>>(),
    entry::<policy::Endpoint>(),
    entry::<policy::PolicyPort>(),
    entry::<policy::RowKey>(),
    entry::<policy::Row>(),
    entry::<policy::OtherKey<addr::V4>>(),
    entry::<policy::OtherKey<addr::V6>>(),
    entry::<policy::OtherFlow>(),
    entry::<policy::DeniedKey>(),
    entry::<policy::Denied>(),
    entry::<policy::AllowedKey>(),
    entry::<policy::Allowed>(),
    entry::<exit::KnownExit<addr::V4>>(),
    entry::<exit::KnownExit<addr::V6>>(),
    entry::<exit::Exit>(),
    entry::<device::Device>(),
    entry::<settings::Settings>(),
];

const fn entry<T: Layout>() -> (&'static str, &'static [Field]) {
    (T::NAME, T::FIELDS)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{fmt::Write, fs, path::Path, string::String};

    use super::*;
    use crate::ABI_VERSION;

    #[test]
    fn layout_and_version_match_the_golden_file() {
        let mut actual = String::new();
        writeln!(actual, "abi {ABI_VERSION}").unwrap();
        for (name, fields) in ALL {
            let size: usize = fields.iter().map(|field| field.size).sum();
            writeln!(actual, "\n{} {size}", name.replace("$crate :: addr :: ", "")).unwrap();
            for field in *fields {
                writeln!(actual, "  {:4} {:4} {}", field.offset, field.size, field.name).unwrap();
            }
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("layout.golden");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &actual).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            actual == golden,
            "the layout changed: raise ABI_VERSION, then UPDATE_GOLDEN=1 cargo test -p pintle-abi\n\
             {actual}"
        );
    }
}
