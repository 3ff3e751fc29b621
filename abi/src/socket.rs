// SPDX-License-Identifier: Apache-2.0
//! Sockets that were translated when they dialled, before there was a packet.

use crate::abi_struct;

/// Values of [`crate::settings::Settings::socket_scope`].
pub mod socket_scope {
    /// No socket is translated.
    pub const OFF: u32 = 0;
    /// Sockets in the node's own network namespace are translated.
    pub const HOST: u32 = 1;
    /// Sockets of every network namespace are translated.
    pub const ALL: u32 = 2;
}

abi_struct! {
    /// What a connected socket dialled, and what it is connected to instead. Kept with the socket:
    /// it goes when the socket does.
    pub struct Connection<A> = (24, 48) {
        /// Service address.
        pub service: A,
        /// Address of the backend.
        pub backend: A,
        /// Service port, network byte order.
        pub service_port: u16,
        /// Port of the backend, network byte order.
        pub backend_port: u16,
        /// Backend id.
        pub id: u32,
        /// Generation of the backend when it was chosen.
        pub generation: u32,
        /// Number of the service port.
        pub number: u32,
    }
}

/// Values of [`UdpSocket::family`].
pub mod family {
    /// The backend is one of IPv4.
    pub const V4: u32 = 4;
    /// The backend is one of IPv6.
    pub const V6: u32 = 6;
}

abi_struct! {
    /// The backend of a connected UDP socket, by the socket's cookie: what the agent has to know to
    /// close the socket when the backend goes.
    pub struct UdpSocket = 24 {
        /// Cookie of its network namespace.
        pub netns: u64,
        /// Backend id.
        pub id: u32,
        /// Generation of the backend when it was chosen.
        pub generation: u32,
        /// One of [`family`].
        pub family: u32,
        /// Reserved; 0.
        pub pad: u32,
    }
}

/// Values of [`DatagramKey::side`].
pub mod side {
    /// The key holds a service address, the value its backend.
    pub const SERVICE: u16 = 0;
    /// The key holds the address of a backend, the value the service address.
    pub const BACKEND: u16 = 1;
}

abi_struct! {
    /// A UDP socket that is not connected, and somebody it exchanges datagrams with.
    pub struct DatagramKey<A> = (16, 28) {
        /// The socket's cookie; two halves, because eight bytes in one would be aligned.
        pub cookie: [u32; 2],
        /// The address.
        pub addr: A,
        /// The port, network byte order.
        pub port: u16,
        /// One of [`side`].
        pub side: u16,
    }
}

abi_struct! {
    /// Who stands on the other side of a [`DatagramKey`].
    pub struct Datagram<A> = (16, 28) {
        /// The address.
        pub addr: A,
        /// Backend id.
        pub id: u32,
        /// Generation of the backend when it was chosen.
        pub generation: u32,
        /// The port, network byte order.
        pub port: u16,
        /// Reserved; 0.
        pub pad: u16,
    }
}
