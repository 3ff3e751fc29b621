// SPDX-License-Identifier: Apache-2.0
//! Netlink messages: the few attributes we need, read so that an unknown one can never hide a link.
//!
//! Offsets follow `struct ifinfomsg`, `ifaddrmsg`, `rtmsg`, `ndmsg` and `tcmsg` of the kernel's
//! `linux/rtnetlink.h` and its neighbours. A message that is too short is no event.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netlink_packet_core::NlasIterator;

use super::IfIndex;

pub(super) const HEADER: usize = 16;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
/// musl's part of libc lacks these.
const RTA_VIA: u16 = 18;
const NDA_MASTER: u16 = 9;
const NTF_SELF: u8 = 0x02;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const FLAG_REPLACE: u16 = 0x100;

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// `veth`, `bridge`, ...; empty for hardware.
    pub kind: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Has a carrier; a veth has one while both of its ends are up.
    pub carrier: bool,
    /// Its link-layer address; `None` without an Ethernet header.
    pub mac: Option<Mac>,
    /// Kind of the root queueing discipline.
    pub qdisc: String,
    /// The bridge, bond or VRF it is enslaved to.
    pub master: Option<IfIndex>,
    /// The other end of a veth, as numbered in the namespace of that end.
    pub peer: Option<IfIndex>,
    /// The other end lives in another network namespace.
    pub peer_elsewhere: bool,
}

/// A network address with the length of its prefix in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Length in bits.
    pub len: u8,
    /// The network, bits behind the prefix zero.
    pub ip: IpAddr,
}

impl Prefix {
    /// The prefix of this length that contains the address.
    pub fn of(ip: IpAddr, len: u8) -> Self {
        let ip = match ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(len.min(32))).unwrap_or(0);
                Ipv4Addr::from(u32::from(ip) & mask).into()
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0);
                Ipv6Addr::from(u128::from(ip) & mask).into()
            }
        };
        Self { len, ip }
    }

    /// The prefix is one address.
    pub fn is_host(self) -> bool {
        u32::from(self.len) == if self.ip.is_ipv4() { 32 } else { 128 }
    }
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub prefix: Prefix,
    /// Lower wins.
    pub metric: u32,
    /// Outgoing interfaces; several if the route is multipath, none if it discards.
    pub oifs: Vec<IfIndex>,
    /// The next hop is another router, not the destination.
    pub gateway: bool,
    /// Of type unicast; others discard or refuse.
    pub unicast: bool,
}

/// An address of an interface of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The interface.
    pub index: IfIndex,
    /// The address.
    pub ip: IpAddr,
    /// Length of the prefix in bits.
    pub len: u8,
    /// Scope "global", neither link nor host.
    pub global: bool,
}

/// A change of the node's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link is new or changed.
    Link(Link),
    /// A link is gone.
    LinkGone(IfIndex),
    /// An address was added.
    Address(Address),
    /// An address was removed.
    AddressGone(Address),
    /// A route was added; with `replace`, in place of those with its prefix and metric.
    Route {
        /// The route.
        route: Route,
        /// Others with its prefix and metric are gone.
        replace: bool,
    },
    /// A route was removed.
    RouteGone(Route),
    /// A neighbour's link-layer address is known (`Some`) or resolution failed (`None`).
    Neighbour {
        /// Interface.
        index: IfIndex,
        /// Network address.
        ip: IpAddr,
        /// Link-layer address.
        mac: Option<Mac>,
    },
    /// A bridge learned where a link-layer address is, or forgot it.
    Forwarding {
        /// The port.
        port: IfIndex,
        /// The bridge.
        bridge: IfIndex,
        /// Link-layer address.
        mac: Mac,
        /// The entry has aged out or was deleted.
        forgotten: bool,
    },
    /// The root queueing discipline of a link was changed.
    RootQdisc(IfIndex),
    /// The filters of a link, or the clsact qdisc that holds them, were changed.
    Filters(IfIndex),
}

/// A link-layer address.
pub type Mac = [u8; 6];

/// The netlink messages of a datagram: type, flags and payload of each.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, u16, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let len = u32_at(rest, 0)? as usize;
        let (kind, flags) = (u16_at(rest, 4)?, u16_at(rest, 6)?);
        let payload = rest.get(HEADER..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, flags, payload))
    })
}

/// A request for all objects of a kind (`RTM_GET*`) and address family.
pub fn dump_request(kind: u16, family: u8) -> Vec<u8> {
    // The body is as long as the longest fixed header, `tcmsg`; the kernel accepts more than it
    // needs. `ndmsg` with family AF_BRIDGE is the exception: it wants an `ifinfomsg` (16 bytes).
    let body = 16;
    let mut request = vec![0; HEADER + body];
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    request[0..4].copy_from_slice(&((HEADER + body) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    request[HEADER] = family;
    request
}

/// The kernel's answer to a request, from the body of an NLMSG_ERROR.
pub(crate) fn answer(body: &[u8]) -> io::Result<()> {
    let code = body.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
    match code {
        0 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(code.saturating_abs())),
    }
}

/// The event a message tells of, if it matters to us.
pub fn decode(kind: u16, flags: u16, body: &[u8]) -> Option<Event> {
    match kind {
        libc::RTM_NEWLINK => link(body).map(Event::Link),
        libc::RTM_DELLINK if *body.first()? == libc::AF_UNSPEC as u8 => {
            Some(Event::LinkGone(IfIndex(u32_at(body, 4)?)))
        }
        libc::RTM_NEWADDR => address(body).map(Event::Address),
        libc::RTM_DELADDR => address(body).map(Event::AddressGone),
        libc::RTM_NEWROUTE => {
            Some(Event::Route { route: route(body)?, replace: flags & FLAG_REPLACE != 0 })
        }
        libc::RTM_DELROUTE => route(body).map(Event::RouteGone),
        libc::RTM_NEWNEIGH => neighbour(body, false),
        libc::RTM_DELNEIGH => neighbour(body, true),
        libc::RTM_NEWQDISC | libc::RTM_DELQDISC => {
            let (index, parent) = (u32_at(body, 4)?, u32_at(body, 12)?);
            match parent {
                TC_H_ROOT => Some(Event::RootQdisc(IfIndex(index))),
                TC_H_CLSACT => Some(Event::Filters(IfIndex(index))),
                _ => None,
            }
        }
        libc::RTM_NEWTFILTER | libc::RTM_DELTFILTER => {
            Some(Event::Filters(IfIndex(u32_at(body, 4)?)))
        }
        _ => None,
    }
}

fn link(body: &[u8]) -> Option<Link> {
    // A bridge also reports its ports under AF_BRIDGE, without most attributes.
    if *body.first()? != libc::AF_UNSPEC as u8 {
        return None;
    }
    let flags = u32_at(body, 8)?;
    let mut link = Link {
        index: IfIndex(u32_at(body, 4)?),
        up: flags & libc::IFF_UP as u32 != 0,
        carrier: flags & libc::IFF_LOWER_UP as u32 != 0,
        ..Link::default()
    };
    let ethernet = [libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&u16_at(body, 2)?);
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            libc::IFLA_ADDRESS if ethernet => link.mac = Mac::try_from(value).ok(),
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
            libc::IFLA_QDISC => link.qdisc = text(value),
            libc::IFLA_MASTER => link.master = u32_at(value, 0).map(IfIndex),
            libc::IFLA_LINK => link.peer = u32_at(value, 0).map(IfIndex),
            IFLA_LINK_NETNSID => link.peer_elsewhere = true,
            libc::IFLA_LINKINFO => {
                let kind = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = kind.map(|(_, value)| text(value)).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

fn address(body: &[u8]) -> Option<Address> {
    let mut found = None;
    for (kind, value) in attributes(body.get(8..)?) {
        match kind {
            // On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is always ours.
            libc::IFA_LOCAL => found = Some(ip(value)?),
            libc::IFA_ADDRESS if found.is_none() => found = Some(ip(value)?),
            _ => {}
        }
    }
    let index = IfIndex(u32_at(body, 4)?);
    Some(Address { index, ip: found?, len: body[1], global: body[3] == libc::RT_SCOPE_UNIVERSE })
}

fn route(body: &[u8]) -> Option<Route> {
    let (family, len, sources, tos) = (*body.first()?, *body.get(1)?, *body.get(2)?, *body.get(3)?);
    let mut table = u32::from(*body.get(4)?);
    let (unicast, flags) = (*body.get(7)? == libc::RTN_UNICAST, u32_at(body, 8)?);
    let mut to = match i32::from(family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut metric, mut oifs, mut gateway) = (0, Vec::new(), false);
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            libc::RTA_DST => to = ip(value)?,
            libc::RTA_TABLE => table = u32_at(value, 0)?,
            libc::RTA_PRIORITY => metric = u32_at(value, 0)?,
            libc::RTA_OIF => oifs.push(IfIndex(u32_at(value, 0)?)),
            libc::RTA_GATEWAY | RTA_VIA => gateway = true,
            libc::RTA_MULTIPATH => gateway |= next_hops(value, &mut oifs)?,
            _ => {}
        }
    }
    let ours = table == u32::from(libc::RT_TABLE_MAIN)
        && sources == 0
        && tos == 0
        && flags & libc::RTM_F_CLONED == 0;
    ours.then(|| Route { prefix: Prefix::of(to, len), metric, oifs, gateway, unicast })
}

/// Collects the interfaces of a multipath route; true if any next hop is a router.
fn next_hops(mut value: &[u8], oifs: &mut Vec<IfIndex>) -> Option<bool> {
    let mut gateway = false;
    while value.len() >= 8 {
        let len = usize::from(u16_at(value, 0)?);
        oifs.push(IfIndex(u32_at(value, 4)?));
        gateway |= attributes(value.get(8..len)?)
            .any(|(kind, _)| kind == libc::RTA_GATEWAY || kind == RTA_VIA);
        value = value.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(gateway)
}

fn neighbour(body: &[u8], deleted: bool) -> Option<Event> {
    let (family, index) = (i32::from(*body.first()?), IfIndex(u32_at(body, 4)?));
    let (state, flags) = (u16_at(body, 8)?, *body.get(10)?);
    let (mut address, mut mac, mut master) = (None, None, None);
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            libc::NDA_DST => address = ip(value),
            libc::NDA_LLADDR => mac = Mac::try_from(value).ok(),
            NDA_MASTER => master = u32_at(value, 0).map(IfIndex),
            _ => {}
        }
    }
    if family == libc::AF_BRIDGE {
        // NTF_SELF marks the table of the device itself (multicast filters, VXLAN), not the bridge's.
        if flags & NTF_SELF != 0 {
            return None;
        }
        return Some(Event::Forwarding {
            port: index,
            bridge: master?,
            mac: mac?,
            forgotten: deleted,
        });
    }
    let failed = state & (libc::NUD_FAILED | libc::NUD_INCOMPLETE) != 0;
    if deleted && !failed {
        // The kernel's garbage collection of an idle entry; what it said is still true.
        return None;
    }
    Some(Event::Neighbour { index, ip: address?, mac: mac.filter(|_| !failed) })
}

/// The attributes of a message or of a nested attribute: kind and value of each.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|attribute| {
        let length = attribute.value_length();
        (attribute.kind(), attribute.into_inner().get(4..4 + length).unwrap_or_default())
    })
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

/// A string that ends with a zero.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A number in host byte order; `None` behind the end.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_veth_is_read_with_its_peer_namespace_and_qdisc() {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&7u32.to_ne_bytes());
        body[8..12].copy_from_slice(&((libc::IFF_UP | libc::IFF_LOWER_UP) as u32).to_ne_bytes());
        body[2..4].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
        body.extend(attribute(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 7]));
        body.extend(attribute(libc::IFLA_IFNAME, b"veth7\0"));
        body.extend(attribute(libc::IFLA_MTU, &1450u32.to_ne_bytes()));
        body.extend(attribute(libc::IFLA_QDISC, b"noqueue\0"));
        body.extend(attribute(libc::IFLA_LINK, &2u32.to_ne_bytes()));
        body.extend(attribute(libc::IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"veth\0")));
        body.extend(attribute(IFLA_LINK_NETNSID, &0u32.to_ne_bytes()));
        body.extend(attribute(999, b"from the future"));
        let expected = Link {
            index: IfIndex(7),
            name: "veth7".into(),
            kind: "veth".into(),
            mtu: 1450,
            up: true,
            carrier: true,
            mac: Some([2, 0, 0, 0, 0, 7]),
            qdisc: "noqueue".into(),
            master: None,
            peer: Some(IfIndex(2)),
            peer_elsewhere: true,
        };
        assert_eq!(decode(libc::RTM_NEWLINK, 0, &body), Some(Event::Link(expected)));
    }

    #[test]
    fn routes_of_other_tables_and_short_messages_are_no_events() {
        let mut body = vec![0; 12];
        body[0] = libc::AF_INET as u8;
        body[4] = libc::RT_TABLE_LOCAL;
        body[7] = libc::RTN_UNICAST;
        assert_eq!(decode(libc::RTM_NEWROUTE, 0, &body), None);
        for len in 0..12 {
            for kind in libc::RTM_NEWLINK..libc::RTM_DELQDISC {
                decode(kind, 0, &body[..len]);
            }
        }
    }

    #[test]
    fn a_datagram_is_split_into_its_messages() {
        let mut datagram = dump_request(libc::RTM_GETLINK, 0);
        datagram.extend(dump_request(libc::RTM_GETROUTE, 2));
        datagram.extend([1, 2, 3]);
        let kinds: Vec<u16> = messages(&datagram).map(|(kind, ..)| kind).collect();
        assert_eq!(kinds, [libc::RTM_GETLINK, libc::RTM_GETROUTE]);
    }

    #[test]
    fn a_prefix_has_no_bits_behind_its_length() {
        let of = |ip: &str, len| Prefix::of(ip.parse().unwrap(), len).ip.to_string();
        assert_eq!(of("10.1.2.3", 0), "0.0.0.0");
        assert_eq!(of("10.1.2.3", 24), "10.1.2.0");
        assert_eq!(of("fd00::1:2", 112), "fd00::1:0");
    }
}
