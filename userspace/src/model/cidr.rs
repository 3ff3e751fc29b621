// SPDX-License-Identifier: Apache-2.0
//! Address ranges, parsed as forgivingly as Kubernetes parses addresses.
//!
//! Invariant: no bit behind the prefix is set.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Serialize, Serializer};

use super::ip::{self, Family};

/// A range of addresses, such as `10.244.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The range of all addresses that share the first `prefix` bits; `None` if the family has
    /// fewer.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let bits = width(Family::of(address));
        let address = match address {
            _ if prefix > bits => return None,
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(u32::from(bits - prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(u32::from(bits - prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
            }
        };
        Some(Self { address, prefix })
    }

    /// The range of one address.
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix: width(Family::of(address)) }
    }

    /// Every address of a family.
    pub fn all(family: Family) -> Self {
        let address = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { address, prefix: 0 }
    }

    /// Parses as Kubernetes does (`netutils.ParseCIDRSloppy`): leading zeros are decimal, also in
    /// the length, and bits behind the prefix are cleared.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let digits = !prefix.is_empty() && prefix.bytes().all(|digit| digit.is_ascii_digit());
        let prefix = digits.then(|| prefix.parse().ok())??;
        Self::new(ip::parse(address)?, prefix)
    }

    /// Its first address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The number of bits that its addresses share.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Its family.
    pub fn family(self) -> Family {
        Family::of(self.address)
    }

    /// The address is in the range.
    pub fn contains(self, ip: IpAddr) -> bool {
        Self::new(ip, self.prefix) == Some(self)
    }
}

fn width(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_canonical_whatever_was_written() {
        for (text, expected) in [
            ("10.244.0.0/16", "10.244.0.0/16"),
            ("10.244.3.4/16", "10.244.0.0/16"),
            ("203.0.113.000/025", "203.0.113.0/25"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.1/32", "10.0.0.1/32"),
            ("fd00:10:244::5/64", "fd00:10:244::/64"),
            ("::/0", "::/0"),
            ("fd00::1/128", "fd00::1/128"),
        ] {
            let cidr = Cidr::parse(text).map(|cidr| cidr.to_string());
            assert_eq!(cidr.as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "a/8"] {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
        assert_eq!(Cidr::parse("10.0.0.0/+8"), None);
    }

    #[test]
    fn a_range_holds_what_shares_its_prefix() {
        let check = |cidr: &str, ip: &str, expected| {
            let contains = Cidr::parse(cidr).unwrap().contains(ip.parse().unwrap());
            assert_eq!(contains, expected, "{cidr} {ip}");
        };
        check("10.244.0.0/16", "10.244.255.255", true);
        check("10.244.0.0/16", "10.245.0.0", false);
        check("0.0.0.0/0", "1.2.3.4", true);
        check("0.0.0.0/0", "::1", false);
        check("::/0", "fd00::1", true);
        check("10.0.0.1/32", "10.0.0.1", true);
    }
}
