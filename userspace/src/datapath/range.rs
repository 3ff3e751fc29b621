// SPDX-License-Identifier: Apache-2.0
//! Ranges of addresses as the maps hold them: keys of a trie, and masks. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::maps::lpm_trie::Key;
use pintle_abi::source_range::{Prefix, SERVICE_BITS, SourceRange};

use super::entry::AbiAddr;
use crate::model::{cidr::Cidr, ip::Family};

/// The key of a source range; `None` if it is of another family.
pub(super) fn source_key<A: AbiAddr>(service: u32, range: Cidr) -> Option<Key<SourceRange<A>>>
where
    SourceRange<A>: aya::Pod,
{
    // A trie compares from the highest bit on, so the number is big-endian.
    let data = SourceRange { service: service.to_be(), addr: A::of(range.address())? };
    Some(Key::new(SERVICE_BITS + u32::from(range.prefix()), data))
}

/// The number of the service port and the range; `None` if the key is none of ours.
pub(super) fn of_source_key<A: AbiAddr>(key: &Key<SourceRange<A>>) -> Option<(u32, Cidr)>
where
    SourceRange<A>: aya::Pod,
{
    let (bits, data) = (key.prefix_len(), key.data());
    let len = u8::try_from(bits.checked_sub(SERVICE_BITS)?).ok()?;
    Some((u32::from_be(data.service), Cidr::new(data.addr.ip(), len)?))
}

/// The key of a range in a trie of addresses; `None` if it is of another family.
pub(super) fn key<A: AbiAddr>(range: Cidr) -> Option<Key<A>> {
    Some(Key::new(u32::from(range.prefix()), A::of(range.address())?))
}

/// The range of a key; `None` if the key is none of ours.
pub(super) fn of_key<A: AbiAddr>(key: &Key<A>) -> Option<Cidr> {
    Cidr::new(key.data().ip(), u8::try_from(key.prefix_len()).ok()?)
}

/// A range as address and mask; `None` if it is of another family.
pub(super) fn prefix<A: AbiAddr>(range: Cidr) -> Option<Prefix<A>> {
    Some(Prefix { addr: A::of(range.address())?, mask: A::of(mask(range))? })
}

/// The range of an address and mask; `None` if it contains nothing.
pub(super) fn of_prefix<A: AbiAddr>(prefix: &Prefix<A>) -> Option<Cidr> {
    let ones = match prefix.mask.ip() {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    match ones {
        0 => None,
        ones => Cidr::new(prefix.addr.ip(), ones as u8),
    }
}

/// The address that has ones where all addresses of the range agree.
fn mask(range: Cidr) -> IpAddr {
    match range.family() {
        Family::V4 => {
            let zeros = 32 - u32::from(range.prefix());
            Ipv4Addr::from_bits(u32::MAX.checked_shl(zeros).unwrap_or(0)).into()
        }
        Family::V6 => {
            let zeros = 128 - u32::from(range.prefix());
            Ipv6Addr::from_bits(u128::MAX.checked_shl(zeros).unwrap_or(0)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use pintle_abi::addr::{V4, V6};

    use super::*;

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        for text in ["10.96.0.0/12", "10.0.0.1/32", "128.0.0.0/1"] {
            let range = Cidr::parse(text).unwrap();
            assert_eq!(of_prefix(&prefix::<V4>(range).unwrap()), Some(range));
            assert_eq!(of_source_key(&source_key::<V4>(7, range).unwrap()), Some((7, range)));
            assert_eq!(prefix::<V6>(range), None);
        }
        let range = Cidr::parse("fd00:10::/108").unwrap();
        assert_eq!(of_prefix(&prefix::<V6>(range).unwrap()), Some(range));
        assert_eq!(of_source_key(&source_key::<V6>(7, range).unwrap()), Some((7, range)));
        assert_eq!(of_prefix(&Prefix::<V4>::default()), None);
    }

    #[test]
    fn a_number_stands_in_front_of_the_address_highest_bit_first() {
        let key = source_key::<V4>(0x0102_0304, Cidr::parse("10.0.0.0/8").unwrap()).unwrap();
        assert_eq!(key.prefix_len(), 40);
        assert_eq!(key.data().service.to_ne_bytes(), [1, 2, 3, 4]);
    }
}
