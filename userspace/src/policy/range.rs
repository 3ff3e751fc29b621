// SPDX-License-Identifier: Apache-2.0
//! Which blocks hold where, for addresses that nobody is known to have.
//!
//! Every boundary of a block, of its holes and of the pods' ranges is a prefix, and each prefix
//! carries all blocks that hold below it, so that one longest match finds them all.

use std::collections::BTreeMap;

use super::{predicate::PredicateId, prefix::covers};
use crate::model::{cidr::Cidr, policy::IpBlock};

/// What holds of every address of a range that is in no longer one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Region {
    /// The blocks that the addresses are in, sorted.
    pub blocks: Vec<PredicateId>,
    /// The addresses are for pods.
    pub is_for_pods: bool,
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

impl Region {
    fn crossed(&self, boundary: &Boundary) -> Self {
        let mut blocks = self.blocks.clone();
        blocks.extend(&boundary.opens);
        blocks.sort_unstable();
        blocks.dedup();
        blocks.retain(|id| !boundary.closes.contains(id));
        Self { blocks, is_for_pods: self.is_for_pods || boundary.is_for_pods }
    }
}
