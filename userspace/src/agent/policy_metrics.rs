// SPDX-License-Identifier: Apache-2.0
//! Metrics of policies that are computed when they are scraped.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};

use super::{Shared, lock};
use crate::reconcile::policies::Failure;

/// Sizes of what policies became, and what is wrong.
pub struct PolicyMetrics {
    agent: Shared,
}

impl PolicyMetrics {
    /// Metrics of an agent.
    pub fn new(agent: Shared) -> Self {
        Self { agent }
    }
}

impl fmt::Debug for PolicyMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyMetrics").finish_non_exhaustive()
    }
}

impl Collector for PolicyMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let agent = lock(&self.agent);
        let policies = &agent.policies;
        let (counts, sizes) = (policies.planner.counts(), policies.planner.sizes());
        let policed = policies.planner.endpoints().filter(|(_, one)| one.is_policed()).count();
        let failures = || policies.reconciler.failures();
        let full = failures().filter(|(_, failure)| matches!(failure, Failure::Full { .. }));
        let (exceeded, unwritten) =
            (policies.planner.problems().len() + full.count(), failures().count());
        let epoch = policies.reconciler.epoch();
        drop(agent);
        let help = "Policies that are known, by kind";
        let mut kinds = encoder.encode_descriptor("policies", help, None, MetricType::Gauge)?;
        for (kind, count) in [
            ("NetworkPolicy", counts.network_policies),
            ("ClusterNetworkPolicy", counts.cluster_policies),
        ] {
            let gauge = ConstGauge::new(count as i64);
            gauge.encode(kinds.encode_family(&[("kind", kind)])?)?;
        }
        for (name, help, value) in [
            ("policy_policed_pods", "Pods of this node that are judged", policed),
            ("policy_rulesets", "Rulesets that policies became", counts.rulesets),
            ("policy_rows", "Rows that rulesets have", sizes.rows),
            ("policy_classes", "Classes of peers that rulesets tell apart", counts.classes),
            ("policy_capacity_exceeded", "What is closed or kept back for want of room", exceeded),
            ("policy_unwritten", "What could not be written to the policy maps so far", unwritten),
            ("policy_epoch", "Epoch at which verdicts count", epoch as usize),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value as i64).encode(metric)?;
        }
        Ok(())
    }
}
