// SPDX-License-Identifier: Apache-2.0
//! The kernel's tracked connections whose destination was translated: what kube-proxy's rules have
//! left behind. Numbers are those of the kernel's `linux/netfilter/nfnetlink_conntrack.h`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{
    ipvs,
    netlink::{Message, Netfilter, attribute, number},
};
use crate::model::addr::Protocol;

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL_INFO: u16 = 4;
const TIMEOUT: u16 = 7;
const ZONE: u16 = 18;
const STATUS_MASK: u16 = 26;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
/// `IPS_SEEN_REPLY`, `IPS_DST_NAT`.
const SEEN_REPLY: u64 = 1 << 1;
const TRANSLATED: u64 = 1 << 5;

/// A connection in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Who sends.
    pub source: SocketAddr,
    /// Who receives.
    pub destination: SocketAddr,
}

/// A tracked connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// As the client's packets start: to the address that it dialled.
    pub original: Ends,
    /// As the answers start: from the backend, to the client or what stands for it.
    pub reply: Ends,
    /// How far it is.
    pub progress: Progress,
    /// Seconds after which the kernel forgets it, unless a packet comes.
    pub timeout_seconds: u32,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing has come back yet.
    Unanswered,
    /// TCP's handshake is not complete.
    Opening,
    /// Packets went both ways.
    Established,
    /// A side of a TCP connection has sent FIN.
    Closing,
    /// A TCP connection is over.
    Closed,
}

/// The connections of this network namespace whose destination was translated.
pub fn translated(netfilter: &mut Netfilter) -> io::Result<Vec<Connection>> {
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut request = Message::new(SUBSYSTEM, GET, 0, family as u8);
        if !ipvs::is_there() {
            // Kernels that do not know the filter hand out everything. IPVS does not set the bit.
            let status = TRANSLATED as u32;
            request = request.number(STATUS, status).number(STATUS_MASK, status);
        }
        let found = netfilter.dump(&request, |found: &mut Vec<Connection>, _, attributes| {
            found.extend(connection(attributes));
        });
        match found {
            Ok(found) => all.extend(found),
            // Without connection tracking in the kernel nothing was translated by it.
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

/// An entry, if its destination was translated. Zones are other agents' separate worlds.
fn connection(attributes: &[u8]) -> Option<Connection> {
    let status = attribute(attributes, STATUS).map(number)?;
    let zone = attribute(attributes, ZONE).map_or(0, number);
    let (protocol, original) = tuple(attribute(attributes, ORIGINAL)?)?;
    let (_, reply) = tuple(attribute(attributes, REPLY)?)?;
    if zone != 0 || original.destination == reply.source {
        return None;
    }
    let info = attribute(attributes, PROTOCOL_INFO);
    let state = info.and_then(|info| attribute(attribute(info, 1)?, 1)).map(number);
    let progress = match (protocol, state) {
        (Protocol::Tcp, Some(state)) => tcp_progress(state),
        _ if status & SEEN_REPLY != 0 => Progress::Established,
        _ => Progress::Unanswered,
    };
    let timeout_seconds = attribute(attributes, TIMEOUT).map_or(0, number) as u32;
    Some(Connection { protocol, original, reply, progress, timeout_seconds })
}

/// From `enum tcp_conntrack`.
fn tcp_progress(state: u64) -> Progress {
    match state {
        1 | 9 => Progress::Unanswered,
        2 => Progress::Opening,
        3 => Progress::Established,
        4..=6 => Progress::Closing,
        _ => Progress::Closed,
    }
}

fn tuple(attributes: &[u8]) -> Option<(Protocol, Ends)> {
    let addresses = attribute(attributes, TUPLE_ADDRESSES)?;
    let transport = attribute(attributes, TUPLE_PROTOCOL)?;
    let kind = number(attribute(transport, 1)?);
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|protocol| u64::from(protocol.number()) == kind)?;
    let port = |kind| Some(number(attribute(transport, kind)?) as u16);
    let source = SocketAddr::new(address(addresses, 1, 3)?, port(2)?);
    let destination = SocketAddr::new(address(addresses, 2, 4)?, port(3)?);
    Some((protocol, Ends { source, destination }))
}

/// An address under the attribute of its family.
fn address(attributes: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    if let Some(address) = attribute(attributes, v4) {
        return Some(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).into());
    }
    let address = <[u8; 16]>::try_from(attribute(attributes, v6)?).ok()?;
    Some(Ipv6Addr::from(address).into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn ends(source: &str, destination: &str) -> Ends {
        Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn with_tuple(message: Message, kind: u16, ends: Ends, protocol: u8) -> Message {
        message.nested(kind, |tuple| {
            tuple
                .nested(TUPLE_ADDRESSES, |addresses| {
                    match (ends.source.ip(), ends.destination.ip()) {
                        (IpAddr::V4(source), IpAddr::V4(destination)) => {
                            addresses.bytes(1, &source.octets()).bytes(2, &destination.octets())
                        }
                        (IpAddr::V6(source), IpAddr::V6(destination)) => {
                            addresses.bytes(3, &source.octets()).bytes(4, &destination.octets())
                        }
                        _ => panic!("mixed families"),
                    }
                })
                .nested(TUPLE_PROTOCOL, |transport| {
                    transport
                        .bytes(1, &[protocol])
                        .bytes(2, &ends.source.port().to_be_bytes())
                        .bytes(3, &ends.destination.port().to_be_bytes())
                })
        })
    }

    fn read(original: Ends, reply: Ends, protocol: u8, status: u32) -> Option<Connection> {
        let message = with_tuple(Message::new(1, 0, 0, 2), ORIGINAL, original, protocol);
        let message = with_tuple(message, REPLY, reply, protocol)
            .number(STATUS, status)
            .number(TIMEOUT, 431_999)
            .nested(PROTOCOL_INFO, |info| info.nested(1, |tcp| tcp.bytes(1, &[3])));
        connection(message.body())
    }

    #[test]
    fn a_translated_connection_is_read_with_both_tuples() {
        let original = ends("10.244.1.9:40000", "10.96.0.10:80");
        let reply = ends("10.244.2.5:8080", "192.168.77.1:51000");
        let expected = Connection {
            protocol: Protocol::Tcp,
            original,
            reply,
            progress: Progress::Established,
            timeout_seconds: 431_999,
        };
        assert_eq!(read(original, reply, 6, 0x1ae), Some(expected));
        let (original, reply) =
            (ends("[fd00::9]:4", "[fd00:96::a]:53"), ends("[fd00::5]:53", "[fd00::9]:4"));
        let found = read(original, reply, 17, 0x20).unwrap();
        assert_eq!((found.protocol, found.progress), (Protocol::Udp, Progress::Unanswered));
        assert_eq!((found.original, found.reply), (original, reply));
    }

    #[test]
    fn what_keeps_its_destination_or_has_no_ports_is_left_out() {
        let original = ends("10.244.1.9:40000", "10.96.0.10:80");
        assert_eq!(read(original, ends("10.96.0.10:80", "192.168.77.1:51000"), 6, 0x1ae), None);
        assert_eq!(read(original, ends("10.244.2.5:8080", "10.244.1.9:40000"), 1, 0x1ae), None);
    }
}
