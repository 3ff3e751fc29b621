// SPDX-License-Identifier: Apache-2.0
//! Address families, and the forgiving address parser that Kubernetes has always had.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An address family, in the words of `Service.spec.ipFamilies` and `EndpointSlice.addressType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The family that Kubernetes calls `word`; `None` for `FQDN` and anything unknown.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }

    /// The word Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Parses an address as Kubernetes does (`netutils.ParseIPSloppy`): leading zeros are decimal, so
/// `172.30.0.041` is `172.30.0.41`, and an IPv4 address mapped to IPv6 is the IPv4 address.
pub fn parse(text: &str) -> Option<IpAddr> {
    if !text.contains(':') {
        return parse_v4(text).map(IpAddr::V4);
    }
    let ip: Ipv6Addr = match text.parse() {
        Ok(ip) => ip,
        // The dotted tail of `::ffff:010.0.0.1` may be sloppy too.
        Err(_) => {
            let (head, tail) = text.rsplit_once(':')?;
            format!("{head}:{}", parse_v4(tail)?).parse().ok()?
        }
    };
    Some(IpAddr::V6(ip).to_canonical())
}

fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = parse_octet(parts.next()?)?;
    }
    parts.next().is_none().then(|| octets.into())
}

fn parse_octet(part: &str) -> Option<u8> {
    if part.is_empty() {
        return None;
    }
    part.bytes().try_fold(0_u8, |value, digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        value.checked_mul(10)?.checked_add(digit - b'0')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_are_decimal() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1"),
            ("172.30.0.041", "172.30.0.41"),
            ("10.180.00.001", "10.180.0.1"),
            ("010.000.0.0000255", "10.0.0.255"),
            ("fd00::a", "fd00::a"),
            ("FD00:0:0:0:0:0:0:000a", "fd00::a"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::ffff:010.0.0.01", "10.0.0.1"),
        ] {
            assert_eq!(parse(text).map(|ip| ip.to_string()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.0.1",
            "10.0.0.256",
            "10.0.0.-1",
            "10.0.0.+1",
            "10.0.0.0x1",
            "10..0.1",
            " 10.0.0.1",
            "10.0.0.1/32",
            "web",
            "fd00::g",
            "fd00:::1",
            "fe80::1%eth0",
            ":",
            "None",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
