// SPDX-License-Identifier: Apache-2.0
//! Addresses that know whose they are.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

/// A transport protocol of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The word Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// The IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => pintle_abi::addr::proto::TCP,
            Self::Udp => pintle_abi::addr::proto::UDP,
            Self::Sctp => pintle_abi::addr::proto::SCTP,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An address that clients dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendAddr {
    /// Service address.
    pub ip: IpAddr,
    /// Service port.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl FrontendAddr {
    /// It is a port of every address of the node, not of one address.
    pub fn is_node_port(&self) -> bool {
        self.ip.is_unspecified()
    }
}

impl fmt::Display for FrontendAddr {
    /// `10.96.0.10:53/UDP`, `[fd00::a]:53/UDP`; a node port is `*:30080/TCP` or `[*]:30080/TCP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_node_port(), self.ip) {
            (true, IpAddr::V4(_)) => write!(f, "*:{}/{}", self.port, self.protocol),
            (true, IpAddr::V6(_)) => write!(f, "[*]:{}/{}", self.port, self.protocol),
            (false, ip) => {
                write!(f, "{}/{}", std::net::SocketAddr::new(ip, self.port), self.protocol)
            }
        }
    }
}

/// For which clients a frontend is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// For all, or for pods and the host if there is another for clients outside the cluster.
    #[default]
    Internal,
    /// For clients outside the cluster.
    External,
}

impl Scope {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Internal, Self::External];

    /// Its number in the maps.
    pub fn number(self) -> u8 {
        match self {
            Self::Internal => pintle_abi::service::scope::INTERNAL,
            Self::External => pintle_abi::service::scope::EXTERNAL,
        }
    }

    /// The scope of a number.
    pub fn of(number: u8) -> Option<Self> {
        match number {
            pintle_abi::service::scope::INTERNAL => Some(Self::Internal),
            pintle_abi::service::scope::EXTERNAL => Some(Self::External),
            _ => None,
        }
    }
}

/// A frontend: an address that clients dial, and for which of them it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendKey {
    /// The address.
    pub addr: FrontendAddr,
    /// The clients.
    pub scope: Scope,
}

impl FrontendKey {
    /// The frontend of an address for all, or for pods and the host.
    pub fn internal(addr: FrontendAddr) -> Self {
        Self { addr, scope: Scope::Internal }
    }

    /// The frontend of an address for clients outside the cluster.
    pub fn external(addr: FrontendAddr) -> Self {
        Self { addr, scope: Scope::External }
    }
}

impl fmt::Display for FrontendKey {
    /// The address, and ` outside` behind it if it is for clients outside the cluster.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addr.fmt(f)?;
        match self.scope {
            Scope::Internal => Ok(()),
            Scope::External => f.write_str(" outside"),
        }
    }
}

/// An address that can answer; its protocol is its frontend's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendAddr {
    /// Pod address.
    pub ip: IpAddr,
    /// Pod port.
    pub port: u16,
}

impl fmt::Display for BackendAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.ip, self.port).fmt(f)
    }
}
