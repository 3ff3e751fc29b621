// SPDX-License-Identifier: Apache-2.0
//! Which blocks hold where, for addresses that nobody is known to have.
//!
//! Every boundary of a block, of its holes and of the pods' ranges is a prefix, and each prefix
//! carries all blocks that hold below it, so that one longest match finds them all.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    predicate::PredicateId,
    prefix::{PrefixMap, covers},
};
use crate::model::{cidr::Cidr, ip::Family, policy::IpBlock};

/// What holds of every address of a range that is in no longer one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Region {
    /// The blocks that the addresses are in, sorted.
    pub blocks: Vec<PredicateId>,
    /// The addresses are for pods.
    pub is_for_pods: bool,
    /// Pods and nodes are among them that have no entry of their own.
    pub hides_peers: bool,
}

#[derive(Default)]
struct Boundary {
    opens: Vec<PredicateId>,
    closes: Vec<PredicateId>,
    is_for_pods: bool,
}

/// The regions that blocks and the pods' ranges make; those that are as the range around them are
/// left out.
pub(super) fn regions<'a>(
    blocks: impl Iterator<Item = (PredicateId, &'a IpBlock)>,
    pod_cidrs: impl Iterator<Item = Cidr>,
) -> BTreeMap<Cidr, Region> {
    let mut boundaries: BTreeMap<Cidr, Boundary> = BTreeMap::new();
    for (id, block) in blocks {
        if block.except().iter().any(|hole| covers(*hole, block.cidr())) {
            continue;
        }
        boundaries.entry(block.cidr()).or_default().opens.push(id);
        for hole in block.except() {
            boundaries.entry(*hole).or_default().closes.push(id);
        }
    }
    for cidr in pod_cidrs {
        boundaries.entry(cidr).or_default().is_for_pods = true;
    }

    // The order of ranges is that of their addresses and then lengths: what is around comes first.
    let mut around: Vec<(Cidr, Region)> = Vec::new();
    let mut found = BTreeMap::new();
    for (cidr, boundary) in boundaries {
        while around.last().is_some_and(|(outer, _)| !covers(*outer, cidr)) {
            around.pop();
        }
        let outer = around.last().map(|(_, region)| region.clone()).unwrap_or_default();
        let region = outer.crossed(&boundary);
        if region != outer {
            found.insert(cidr, region.clone());
        }
        around.push((cidr, region));
    }
    found
}

/// Notes where peers are that have no entry of their own: at these addresses, and anywhere in the
/// families of which the pods' ranges are lost.
pub(super) fn hide(
    regions: BTreeMap<Cidr, Region>,
    peers: impl Iterator<Item = IpAddr>,
    lost: &[Family],
) -> BTreeMap<Cidr, Region> {
    let map = PrefixMap::new(regions);
    let hiding: BTreeSet<Cidr> =
        peers.map(|ip| map.longest(ip).unwrap_or_else(|| Cidr::all(Family::of(ip)))).collect();
    let mut regions = map.into_entries();
    let among = regions.iter_mut().filter(|(cidr, _)| lost.contains(&cidr.family()));
    among.for_each(|(_, region)| region.hides_peers = true);
    for cidr in hiding {
        regions.entry(cidr).or_default().hides_peers = true;
    }
    regions
}

impl Region {
    fn crossed(&self, boundary: &Boundary) -> Self {
        let mut blocks = self.blocks.clone();
        blocks.extend(&boundary.opens);
        blocks.sort_unstable();
        blocks.dedup();
        blocks.retain(|id| !boundary.closes.contains(id));
        let is_for_pods = self.is_for_pods || boundary.is_for_pods;
        Self { blocks, is_for_pods, hides_peers: false }
    }
}
