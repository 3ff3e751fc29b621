// SPDX-License-Identifier: Apache-2.0
//! The cluster's service addresses, from all ServiceCIDRs.

use std::{collections::BTreeMap, sync::Arc};

use pintle_abi::source_range::CLUSTER_RANGES;

use super::{
    desired::ClusterRanges,
    options::{Options, Unallocated},
};
use crate::model::{
    cidr::Cidr,
    cluster::ServiceCidr,
    ip::Family,
    name::{Kind, ObjectName, ObjectRef},
    rejection::{RejectReason, Rejection},
};

/// How many ranges of a family there may be.
const ROOM: usize = CLUSTER_RANGES as usize;

/// Every ServiceCIDR.
#[derive(Debug, Default)]
pub(super) struct ServiceCidrs {
    by_name: BTreeMap<ObjectName, Arc<ServiceCidr>>,
}

impl ServiceCidrs {
    /// Adds or replaces one.
    pub fn set(&mut self, cidr: Arc<ServiceCidr>) {
        self.by_name.insert(cidr.name.clone(), cidr);
    }

    /// Forgets one; `false` if there was none.
    pub fn remove(&mut self, name: &ObjectName) -> bool {
        self.by_name.remove(name).is_some()
    }

    /// The ranges that the maps should hold.
    pub fn ranges(&self, options: &Options) -> ClusterRanges {
        if options.unallocated == Unallocated::Pass {
            return ClusterRanges::default();
        }
        let (used, _) = self.split();
        let of = |family| {
            let mut ranges: Vec<Cidr> =
                used.iter().copied().filter(|cidr| cidr.family() == family).collect();
            ranges.sort_unstable();
            ranges
        };
        ClusterRanges { v4: of(Family::V4), v6: of(Family::V6) }
    }

    /// Ranges for which there is no room.
    pub fn rejections(&self, options: &Options) -> Vec<Rejection> {
        match options.unallocated {
            Unallocated::Drop => self.split().1,
            Unallocated::Pass => Vec::new(),
        }
    }

    /// What is used, in the order of the objects' names, and what is not. A range within another is
    /// used with it.
    fn split(&self) -> (Vec<Cidr>, Vec<Rejection>) {
        let listed = self.by_name.values();
        let mut all: Vec<(&ObjectName, Cidr)> =
            listed.flat_map(|o| o.cidrs.iter().map(|cidr| (&o.name, *cidr))).collect();
        let every: Vec<Cidr> = all.iter().map(|(_, cidr)| *cidr).collect();
        all.retain(|(_, cidr)| !every.iter().any(|other| is_within(*cidr, *other)));
        let (mut used, mut unused) = (Vec::<Cidr>::new(), Vec::new());
        for (name, cidr) in all {
            let same = used.iter().filter(|other| other.family() == cidr.family()).count();
            if used.contains(&cidr) {
                continue;
            }
            if same < ROOM {
                used.push(cidr);
                continue;
            }
            unused.push(Rejection {
                object: ObjectRef::new(Kind::ServiceCidr, name.clone()),
                reason: RejectReason::TooManyServiceCidrs { cidr, room: ROOM },
            });
        }
        (used, unused)
    }
}

fn is_within(cidr: Cidr, other: Cidr) -> bool {
    other.prefix() < cidr.prefix() && other.contains(cidr.address())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(objects: &[(&str, &[&str])]) -> ServiceCidrs {
        let mut found = ServiceCidrs::default();
        for (name, ranges) in objects {
            let cidrs = ranges.iter().map(|text| Cidr::parse(text).unwrap()).collect();
            found.set(ServiceCidr { name: ObjectName::cluster(name), cidrs }.into());
        }
        found
    }

    #[test]
    fn ranges_are_joined_over_all_objects_and_what_lies_within_another_is_left_out() {
        let found = cidrs(&[
            ("a", &["10.96.0.0/12", "fd00::/108"]),
            ("b", &["10.100.0.0/16", "10.112.0.0/16"]),
            ("c", &["10.96.0.0/12"]),
        ]);
        let ranges = found.ranges(&Options::default());
        let text = |ranges: &[Cidr]| ranges.iter().map(Cidr::to_string).collect::<Vec<_>>();
        assert_eq!(text(&ranges.v4), ["10.96.0.0/12", "10.112.0.0/16"]);
        assert_eq!(text(&ranges.v6), ["fd00::/108"]);
        let pass = Options { unallocated: Unallocated::Pass, ..Options::default() };
        assert_eq!(found.ranges(&pass), ClusterRanges::default());
    }

    #[test]
    fn what_the_maps_have_no_room_for_is_rejected_by_name() {
        let five = ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "10.5.0.0/16"];
        let found = cidrs(&[("a", &five)]);
        assert_eq!(found.ranges(&Options::default()).v4.len(), 4);
        let told: Vec<_> =
            found.rejections(&Options::default()).iter().map(ToString::to_string).collect();
        let expected =
            "ServiceCIDR a: 10.5.0.0/16 is not used: there is room for 4 ranges of a family";
        assert_eq!(told, [expected]);
    }
}
