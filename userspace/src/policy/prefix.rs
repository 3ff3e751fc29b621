// SPDX-License-Identifier: Apache-2.0
//! Longest prefix match in user space.

use std::{collections::BTreeMap, net::IpAddr};

use crate::model::{cidr::Cidr, ip::Family};

/// Values of ranges, where the longest range that has an address counts.
#[derive(Clone, Debug)]
pub(super) struct PrefixMap<T> {
    entries: BTreeMap<Cidr, T>,
    /// The ranges in order, each with the place of the range around it.
    nesting: Vec<(Cidr, Option<usize>)>,
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), nesting: Vec::new() }
    }
}

/// The place of a family in a pair.
pub(super) fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

impl<T> PrefixMap<T> {
    /// A map of ranges that are all known.
    pub fn new(entries: BTreeMap<Cidr, T>) -> Self {
        let mut nesting: Vec<(Cidr, Option<usize>)> = Vec::with_capacity(entries.len());
        // The order of ranges is that of their addresses and then lengths: what is around is before.
        for cidr in entries.keys() {
            let around = nesting.len().checked_sub(1);
            let around = outward(&nesting, around, |outer| covers(outer, *cidr));
            nesting.push((*cidr, around));
        }
        Self { entries, nesting }
    }

    /// The value of the longest range that has the address.
    pub fn get(&self, ip: IpAddr) -> Option<&T> {
        self.entries.get(&self.longest(ip)?)
    }

    /// The longest range that has the address.
    pub fn longest(&self, ip: IpAddr) -> Option<Cidr> {
        self.longest_of(Cidr::host(ip))
    }

    /// The value of the longest range that has all addresses of `cidr`.
    pub fn covering(&self, cidr: Cidr) -> Option<&T> {
        self.entries.get(&self.longest_of(cidr)?)
    }

    fn longest_of(&self, cidr: Cidr) -> Option<Cidr> {
        let before = self.nesting.partition_point(|(known, _)| *known <= cidr).checked_sub(1);
        let found = outward(&self.nesting, before, |outer| covers(outer, cidr))?;
        self.nesting.get(found).map(|(known, _)| *known)
    }

    /// The ranges themselves.
    pub fn entries(&self) -> &BTreeMap<Cidr, T> {
        &self.entries
    }

    /// The same, for good.
    pub fn into_entries(self) -> BTreeMap<Cidr, T> {
        self.entries
    }
}

/// From a place outwards, the first range of which something is true.
fn outward(
    nesting: &[(Cidr, Option<usize>)],
    from: Option<usize>,
    is_wanted: impl Fn(Cidr) -> bool,
) -> Option<usize> {
    let places = std::iter::successors(from, |place| nesting.get(*place)?.1);
    places.into_iter().find(|place| nesting.get(*place).is_some_and(|(cidr, _)| is_wanted(*cidr)))
}

/// The lowest and the highest address of a range.
pub(super) fn span(cidr: Cidr) -> (IpAddr, IpAddr) {
    let last = match cidr.address() {
        IpAddr::V4(first) => {
            let rest = u32::MAX.checked_shr(u32::from(cidr.prefix())).unwrap_or(0);
            IpAddr::V4((first.to_bits() | rest).into())
        }
        IpAddr::V6(first) => {
            let rest = u128::MAX.checked_shr(u32::from(cidr.prefix())).unwrap_or(0);
            IpAddr::V6((first.to_bits() | rest).into())
        }
    };
    (cidr.address(), last)
}

/// `outer` has all addresses of `inner`.
pub(super) fn covers(outer: Cidr, inner: Cidr) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.address())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse(text).unwrap()
    }

    #[test]
    fn the_longest_range_counts() {
        let texts = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "fd00::/16"];
        let map = PrefixMap::new(texts.into_iter().map(|text| (cidr(text), text)).collect());
        let get = |ip: &str| map.get(ip.parse().unwrap()).copied();
        assert_eq!(get("10.1.2.3"), Some("10.1.0.0/16"));
        assert_eq!(get("10.2.2.3"), Some("10.0.0.0/8"));
        assert_eq!(get("11.0.0.0"), Some("0.0.0.0/0"));
        assert_eq!(get("fd00::1"), Some("fd00::/16"));
        assert_eq!(get("fe00::1"), None);
        assert_eq!(map.covering(cidr("10.1.0.0/16")), Some(&"10.1.0.0/16"));
        assert_eq!(map.covering(cidr("10.0.0.0/9")), Some(&"10.0.0.0/8"));
        assert_eq!(map.covering(cidr("10.0.0.0/7")), Some(&"0.0.0.0/0"));
        assert_eq!(map.longest("10.1.255.255".parse().unwrap()), Some(cidr("10.1.0.0/16")));
        assert_eq!(map.longest("fd01::".parse().unwrap()), None);
    }

    #[test]
    fn a_range_spans_from_its_first_to_its_last_address() {
        let check = |text: &str, first: &str, last: &str| {
            assert_eq!(span(cidr(text)), (first.parse().unwrap(), last.parse().unwrap()), "{text}");
        };
        check("10.1.0.0/16", "10.1.0.0", "10.1.255.255");
        check("0.0.0.0/0", "0.0.0.0", "255.255.255.255");
        check("10.0.0.1/32", "10.0.0.1", "10.0.0.1");
        check("fd00::/112", "fd00::", "fd00::ffff");
    }

    #[test]
    fn a_range_covers_what_lies_within_it() {
        assert!(covers(cidr("10.0.0.0/8"), cidr("10.1.0.0/16")));
        assert!(covers(cidr("10.0.0.0/8"), cidr("10.0.0.0/8")));
        assert!(!covers(cidr("10.1.0.0/16"), cidr("10.0.0.0/8")));
    }
}
