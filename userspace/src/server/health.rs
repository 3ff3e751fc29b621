// SPDX-License-Identifier: Apache-2.0
//! Is this proxy fine? As kube-proxy answers it (KEP-3836): each address family on its own, and one
//! whose changes are pending for too long is unhealthy. The node's own fate counts only for those
//! who send traffic here, not for those who would restart us.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use serde::{Serialize, Serializer};

use crate::model::{ip::Family, time::rfc3339_nanos};

/// Now, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For durations.
    pub instant: Instant,
    /// For people.
    pub wall: SystemTime,
}

impl Moment {
    /// Reads the clocks.
    pub fn now() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }
}

/// What is known about our Node object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeFate {
    /// There was none so far, which says nothing: a directory need not have one.
    #[default]
    Unknown,
    /// It is there to stay.
    Stays,
    /// It is to be deleted, by itself or by the cluster autoscaler, or gone.
    Leaves,
}

/// The health of the proxy.
#[derive(Debug)]
pub struct ProxyHealth {
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    node: NodeFate,
    v4: OfFamily,
    v6: OfFamily,
}

#[derive(Debug, Default)]
struct OfFamily {
    last_updated: Option<SystemTime>,
    oldest_pending: Option<Instant>,
}

/// The body of `/healthz` and `/livez`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When the last change was made; the current time if all is well.
    #[serde(serialize_with = "go_time")]
    pub last_updated: Option<SystemTime>,
    /// The current time.
    #[serde(serialize_with = "go_time")]
    pub current_time: Option<SystemTime>,
    /// The node may be sent traffic; absent in `/livez`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_eligible: Option<bool>,
    /// Every family is healthy.
    pub healthy: bool,
    /// Families that were programmed at least once.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub status: BTreeMap<&'static str, FamilyReport>,
}

/// The health of one address family.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyReport {
    /// When its last change was made.
    #[serde(serialize_with = "go_time")]
    pub last_updated: Option<SystemTime>,
    /// Nothing is pending for too long.
    pub healthy: bool,
}

impl ProxyHealth {
    /// Health in which a change may be pending for less than twice the period.
    pub fn new(sync_period: Duration) -> Self {
        Self { timeout: sync_period * 2, state: Mutex::default() }
    }

    /// A change is to be made.
    pub fn queued(&self, family: Family, now: Moment) {
        self.lock().of(family).oldest_pending.get_or_insert(now.instant);
    }

    /// All changes are made.
    pub fn updated(&self, family: Family, now: Moment) {
        let mut state = self.lock();
        *state.of(family) = OfFamily { last_updated: Some(now.wall), oldest_pending: None };
    }

    /// A change is still to be made.
    pub fn is_pending(&self, family: Family) -> bool {
        self.lock().of(family).oldest_pending.is_some()
    }

    /// What the Node object says.
    pub fn note_node(&self, fate: NodeFate) {
        self.lock().node = fate;
    }

    /// The proxy does its work; this is what health checks of services tell.
    pub fn is_healthy(&self, now: Moment) -> bool {
        self.livez(now).healthy
    }

    /// The answer to those who would restart us.
    pub fn livez(&self, now: Moment) -> Report {
        let mut report = self.report(now);
        if report.healthy {
            report.last_updated = report.current_time;
        }
        report
    }

    /// The answer to those who send traffic here. It is a good one if the proxy is healthy and the
    /// node eligible.
    pub fn healthz(&self, now: Moment) -> Report {
        let mut report = self.report(now);
        let eligible = self.lock().node != NodeFate::Leaves;
        report.node_eligible = Some(eligible);
        if report.healthy && eligible {
            report.last_updated = report.current_time;
        }
        report
    }

    fn report(&self, now: Moment) -> Report {
        let mut state = self.lock();
        let mut status = BTreeMap::new();
        for family in Family::ALL {
            let OfFamily { last_updated, oldest_pending } = *state.of(family);
            // One that was never programmed is still starting.
            let Some(last_updated) = last_updated else { continue };
            let late = |since: Instant| now.instant.duration_since(since) >= self.timeout;
            let healthy = !oldest_pending.is_some_and(late);
            let report = FamilyReport { last_updated: Some(last_updated), healthy };
            status.insert(family.as_str(), report);
        }
        Report {
            last_updated: status.values().filter_map(|family| family.last_updated).max(),
            current_time: Some(now.wall),
            node_eligible: None,
            healthy: status.values().all(|family| family.healthy),
            status,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every method leaves it consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&mut self, family: Family) -> &mut OfFamily {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

impl Report {
    /// Traffic may be sent here, or we need not be restarted.
    pub fn is_good(&self) -> bool {
        self.healthy && self.node_eligible != Some(false)
    }
}

fn go_time<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339_nanos(*time))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Moment {
            let since = Duration::from_secs(seconds);
            Moment { instant: self.0 + since, wall: UNIX_EPOCH + since }
        }
    }

    fn start() -> (ProxyHealth, Clock) {
        (ProxyHealth::new(Duration::from_secs(30)), Clock(Instant::now()))
    }

    fn json(report: &Report) -> String {
        serde_json::to_string(report).unwrap()
    }

    #[test]
    fn a_proxy_that_starts_is_healthy() {
        let (health, clock) = start();
        let expected = r#"{"lastUpdated":"1970-01-01T00:00:09Z","currentTime":"1970-01-01T00:00:09Z","healthy":true}"#;
        assert_eq!(json(&health.livez(clock.at(9))), expected);
        health.queued(Family::V4, clock.at(0));
        assert!(health.healthz(clock.at(1000)).is_good(), "never programmed is not late");
    }

    #[test]
    fn the_body_has_kube_proxy_s_keys() {
        let (health, clock) = start();
        health.updated(Family::V4, clock.at(1));
        health.updated(Family::V6, clock.at(2));
        health.queued(Family::V4, clock.at(3));
        let expected = r#"{"lastUpdated":"1970-01-01T00:00:02Z","currentTime":"1970-01-01T00:01:03Z","nodeEligible":true,"healthy":false,"status":{"IPv4":{"lastUpdated":"1970-01-01T00:00:01Z","healthy":false},"IPv6":{"lastUpdated":"1970-01-01T00:00:02Z","healthy":true}}}"#;
        assert_eq!(json(&health.healthz(clock.at(63))), expected);
    }

    #[test]
    fn a_family_is_unhealthy_when_its_oldest_change_is_pending_for_two_periods() {
        let (health, clock) = start();
        for family in Family::ALL {
            health.updated(family, clock.at(0));
        }
        health.queued(Family::V6, clock.at(10));
        health.queued(Family::V6, clock.at(60));
        assert!(health.is_healthy(clock.at(69)));
        assert!(!health.is_healthy(clock.at(70)), "the oldest counts");
        health.updated(Family::V4, clock.at(71));
        assert!(!health.is_healthy(clock.at(71)), "families are independent");
        health.updated(Family::V6, clock.at(72));
        assert!(health.is_healthy(clock.at(1000)));
    }

    #[test]
    fn a_node_that_leaves_gets_no_traffic_and_no_restart() {
        let (health, clock) = start();
        health.note_node(NodeFate::Stays);
        assert!(health.healthz(clock.at(0)).is_good());
        health.note_node(NodeFate::Leaves);
        let report = health.healthz(clock.at(0));
        assert!(!report.is_good() && report.healthy);
        assert_eq!(report.node_eligible, Some(false));
        assert!(health.livez(clock.at(0)).is_good());
        assert_eq!(health.livez(clock.at(0)).node_eligible, None);
    }
}
