// SPDX-License-Identifier: Apache-2.0
//! What happens to changes, for health and for the metrics that kube-proxy has: their names are
//! kube-proxy's, so that its dashboards and alerts go on.
//!
//! The agent tells [`Recorder`] in this order: changes seen, queued, programmed, settled.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family as Labelled,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::health::{Moment, ProxyHealth};
use crate::model::{addr::Scope, event::Event, ip::Family, name::Kind, object::Object};

/// The families of a change.
pub type Families = BTreeSet<Family>;

type Label = [(&'static str, &'static str); 1];
type TwoLabels = [(&'static str, &'static str); 2];
type Histograms = Labelled<Label, Histogram, fn() -> Histogram>;
type Seconds = Gauge<f64, AtomicU64>;

/// By how much a clock may have been set and still count as the one that it was.
const ADJUSTED: Duration = Duration::from_secs(60);

/// Changes of one batch that concern a service proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Changes of Services.
    pub services: u64,
    /// Changes of EndpointSlices.
    pub endpoints: u64,
    /// Families that they may concern.
    pub families: Families,
    /// When what EndpointSlices tell began to be so, as far as they say.
    pub triggers: Vec<(Family, SystemTime)>,
}

/// How much was programmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything.
    Full,
    /// What had changed.
    Partial,
}

/// Health, and metrics of the agent's work.
#[derive(Debug)]
pub struct Recorder {
    /// The health of the proxy.
    pub health: Arc<ProxyHealth>,
    started: Moment,
    metrics: Metrics,
    /// When it was triggered what is not programmed yet.
    triggers: Mutex<Vec<(Family, Instant)>>,
    /// Changes that are not programmed yet.
    pending_services: AtomicU64,
    pending_endpoints: AtomicU64,
}

#[derive(Debug)]
struct Metrics {
    sync: Histograms,
    full_sync: Histograms,
    partial_sync: Histograms,
    last_synced: Labelled<Label, Seconds>,
    last_queued: Labelled<Label, Seconds>,
    network_programming: Histograms,
    endpoints_pending: Gauge,
    endpoints_total: Counter,
    services_pending: Gauge,
    services_total: Counter,
    no_local_endpoints: Labelled<TwoLabels, Gauge>,
    healthz: Labelled<Label, Counter>,
    livez: Labelled<Label, Counter>,
}

impl Seen {
    /// Counts a batch.
    pub fn of(batch: &[Event]) -> Self {
        let mut seen = Self::default();
        for event in batch {
            let (kind, family) = match event {
                Event::Apply(Object::Service(_)) => (Kind::Service, None),
                Event::Apply(Object::EndpointSlice(slice)) => {
                    seen.triggers.extend(slice.trigger_time.map(|time| (slice.family, time)));
                    (Kind::EndpointSlice, Some(slice.family))
                }
                Event::Delete(object) => (object.kind.clone(), None),
                Event::Apply(_) | Event::Rejected(..) | Event::Synced => continue,
            };
            match kind {
                Kind::Service => seen.services += 1,
                Kind::EndpointSlice => seen.endpoints += 1,
                _ => continue,
            }
            match family {
                Some(family) => seen.families.extend([family]),
                None => seen.families.extend(Family::ALL),
            }
        }
        seen
    }
}

impl Recorder {
    /// A recorder of an agent that starts now.
    pub fn new(sync_period: Duration, started: Moment) -> Self {
        Self {
            health: Arc::new(ProxyHealth::new(sync_period)),
            started,
            metrics: Metrics::new(),
            triggers: Mutex::default(),
            pending_services: AtomicU64::default(),
            pending_endpoints: AtomicU64::default(),
        }
    }

    /// Changes have come. They count as pending until a [`Recorder::settled`].
    pub fn seen(&self, seen: &Seen, now: Moment) {
        let metrics = &self.metrics;
        metrics.services_total.inc_by(seen.services);
        metrics.endpoints_total.inc_by(seen.endpoints);
        let services = self.pending_services.fetch_add(seen.services, Ordering::Relaxed);
        let endpoints = self.pending_endpoints.fetch_add(seen.endpoints, Ordering::Relaxed);
        metrics.services_pending.set((services + seen.services) as i64);
        metrics.endpoints_pending.set((endpoints + seen.endpoints) as i64);
        let triggers = seen.triggers.iter();
        let begun = triggers.filter_map(|(of, time)| Some((*of, self.began(*time, now)?)));
        self.lock_triggers().extend(begun);
    }

    /// When a change began to be so, on the clock that does not jump. `None` before we started: that
    /// was not ours to program.
    ///
    /// The time was written by a clock elsewhere. Ours may have been set far since the start, either to
    /// the right time or to a wrong one: the reading that is nearer after it is believed. A clock that
    /// is adjusted by seconds is right afterwards.
    fn began(&self, written: SystemTime, now: Moment) -> Option<Instant> {
        let uptime = now.instant.duration_since(self.started.instant);
        let never_set = self.started.wall + uptime;
        let is_far = match now.wall.duration_since(never_set) {
            Ok(ahead) => ahead > ADJUSTED,
            Err(behind) => behind.duration() > ADJUSTED,
        };
        let other = if is_far { never_set } else { now.wall };
        let ages = [now.wall, other].map(|wall| wall.duration_since(written));
        // If both are before it, the other clock is ahead of ours.
        let age = ages.into_iter().flatten().min().unwrap_or_default();
        (age <= uptime).then(|| now.instant - age)
    }

    /// Changes of these families are about to be programmed.
    pub fn queued(&self, families: &Families, now: Moment) {
        for family in families {
            self.health.queued(*family, now);
            self.metrics.last_queued.get_or_create(&label(*family)).set(unix(now.wall));
        }
    }

    /// A programming of these families took so long, with or without success.
    pub fn programmed(&self, families: &Families, extent: Extent, duration: Duration) {
        let metrics = &self.metrics;
        let of_extent = match extent {
            Extent::Full => &metrics.full_sync,
            Extent::Partial => &metrics.partial_sync,
        };
        for family in families {
            for histogram in [&metrics.sync, of_extent] {
                histogram.get_or_create(&label(*family)).observe(duration.as_secs_f64());
            }
        }
    }

    /// What is not programmed now is of these families; the others are done if they were not.
    pub fn settled(&self, failing: &Families, now: Moment) {
        for family in Family::ALL {
            match (failing.contains(&family), self.health.is_pending(family)) {
                (true, false) => self.queued(&Families::from([family]), now),
                (false, true) => self.family_settled(family, now),
                (true, true) | (false, false) => {}
            }
        }
        if failing.is_empty() {
            self.pending_services.store(0, Ordering::Relaxed);
            self.pending_endpoints.store(0, Ordering::Relaxed);
            self.metrics.services_pending.set(0);
            self.metrics.endpoints_pending.set(0);
        }
    }

    fn family_settled(&self, family: Family, now: Moment) {
        self.health.updated(family, now);
        self.metrics.last_synced.get_or_create(&label(family)).set(unix(now.wall));
        let mut triggers = self.lock_triggers();
        triggers.retain(|(of, time)| {
            if *of != family {
                return true;
            }
            let latency = now.instant.duration_since(*time);
            let histogram = self.metrics.network_programming.get_or_create(&label(family));
            histogram.observe(latency.as_secs_f64());
            false
        });
    }

    /// Services that have endpoints, and none here for clients of a scope, whose policy is `Local`.
    pub fn no_local_endpoints(&self, family: Family, scope: Scope, services: usize) {
        let policy = match scope {
            Scope::Internal => "internal",
            Scope::External => "external",
        };
        let labels = [("ip_family", family.as_str()), ("traffic_policy", policy)];
        self.metrics.no_local_endpoints.get_or_create(&labels).set(services as i64);
    }

    /// `/healthz` was answered with this code.
    pub fn healthz_answered(&self, code: u16) {
        self.metrics.healthz.get_or_create(&[("code", code_word(code))]).inc();
    }

    /// `/livez` was answered with this code.
    pub fn livez_answered(&self, code: u16) {
        self.metrics.livez.get_or_create(&[("code", code_word(code))]).inc();
    }

    /// Registers all metrics; the registry's prefix should be `kubeproxy`.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    fn lock_triggers(&self) -> std::sync::MutexGuard<'_, Vec<(Family, Instant)>> {
        self.triggers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metrics {
    fn new() -> Self {
        Self {
            sync: Histograms::new_with_constructor(sync_histogram),
            full_sync: Histograms::new_with_constructor(sync_histogram),
            partial_sync: Histograms::new_with_constructor(sync_histogram),
            last_synced: Labelled::default(),
            last_queued: Labelled::default(),
            network_programming: Histograms::new_with_constructor(latency_histogram),
            endpoints_pending: Gauge::default(),
            endpoints_total: Counter::default(),
            services_pending: Gauge::default(),
            services_total: Counter::default(),
            no_local_endpoints: Labelled::default(),
            healthz: Labelled::default(),
            livez: Labelled::default(),
        }
    }

    /// The encoder gives counters their `_total`.
    fn register(&self, registry: &mut Registry) {
        let sync = "sync_proxy_rules";
        for (name, help, histogram) in [
            ("sync_proxy_rules", "Time a programming took", &self.sync),
            ("sync_full_proxy_rules", "Time a programming of everything took", &self.full_sync),
            ("sync_partial_proxy_rules", "Time a programming of changes took", &self.partial_sync),
            (
                "network_programming",
                "Time from the change of a pod or service to its programming",
                &self.network_programming,
            ),
        ] {
            registry.register(format!("{name}_duration_seconds"), help, histogram.clone());
        }
        for (name, help, gauge) in [
            ("last_timestamp_seconds", "When everything was last programmed", &self.last_synced),
            ("last_queued_timestamp_seconds", "When a change last came", &self.last_queued),
        ] {
            registry.register(format!("{sync}_{name}"), help, gauge.clone());
        }
        for (kind, pending, total) in [
            ("endpoint", &self.endpoints_pending, &self.endpoints_total),
            ("service", &self.services_pending, &self.services_total),
        ] {
            let name = format!("{sync}_{kind}_changes");
            let help = format!("Changes of {kind}s that are not programmed");
            registry.register(format!("{name}_pending"), help, pending.clone());
            registry.register(name, format!("Changes of {kind}s"), total.clone());
        }
        registry.register(
            format!("{sync}_no_local_endpoints_total"),
            "Services with a Local traffic policy and no endpoint on this node",
            self.no_local_endpoints.clone(),
        );
        registry.register("proxy_healthz", "Answers of /healthz", self.healthz.clone());
        registry.register("proxy_livez", "Answers of /livez", self.livez.clone());
    }
}

fn sync_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// Fine below a minute, coarse up to five.
fn latency_histogram() -> Histogram {
    let whole = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30)).map(f64::from);
    Histogram::new([0.25, 0.5].into_iter().chain(whole))
}

fn label(family: Family) -> Label {
    [("ip_family", family.as_str())]
}

fn code_word(code: u16) -> &'static str {
    if code == 200 { "200" } else { "503" }
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::model::name::{ObjectName, ObjectRef};

    const PERIOD: Duration = Duration::from_secs(30);

    fn text(recorder: &Recorder) -> String {
        let mut registry = Registry::with_prefix("kubeproxy");
        recorder.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    fn expect(recorder: &Recorder, lines: &[&str]) {
        let text = text(recorder);
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "no line {line} in\n{text}");
        }
    }

    fn both() -> Families {
        Family::ALL.into()
    }

    #[test]
    fn names_and_labels_are_kube_proxy_s() {
        let now = Moment::now();
        let recorder = Recorder::new(PERIOD, now);
        let triggers = [now.wall - Duration::from_secs(9999), now.wall];
        let triggers = triggers.map(|time| (Family::V4, time)).into();
        recorder.seen(&Seen { services: 2, endpoints: 3, families: both(), triggers }, now);
        recorder.queued(&both(), now);
        expect(&recorder, &["kubeproxy_sync_proxy_rules_endpoint_changes_pending 3"]);
        recorder.programmed(&both(), Extent::Full, Duration::from_millis(3));
        recorder.settled(&Families::new(), now);
        recorder.no_local_endpoints(Family::V4, Scope::External, 4);
        recorder.healthz_answered(200);
        recorder.livez_answered(503);
        expect(
            &recorder,
            &[
                "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
                "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.004\",ip_family=\"IPv6\"} 1",
                "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
                "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 1",
                "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0",
                "kubeproxy_sync_proxy_rules_endpoint_changes_total 3",
                "kubeproxy_sync_proxy_rules_service_changes_pending 0",
                "kubeproxy_sync_proxy_rules_service_changes_total 2",
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total\
                 {ip_family=\"IPv4\",traffic_policy=\"external\"} 4",
                "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
                "kubeproxy_proxy_livez_total{code=\"503\"} 1",
            ],
        );
        let stamp = unix(now.wall);
        let text = text(&recorder);
        for name in ["last_timestamp_seconds", "last_queued_timestamp_seconds"] {
            let start = format!("kubeproxy_sync_proxy_rules_{name}{{ip_family=\"IPv6\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
            assert!((value.parse::<f64>().unwrap() - stamp).abs() < 1.0, "{value}");
        }
    }

    #[test]
    fn latency_buckets_are_kube_proxy_s() {
        let now = Moment::now();
        let recorder = Recorder::new(PERIOD, now);
        recorder.queued(&both(), now);
        let triggers = vec![(Family::V6, now.wall + Duration::from_secs(1))];
        recorder.seen(&Seen { triggers, ..Seen::default() }, now);
        recorder.settled(&Families::new(), now);
        let text = text(&recorder);
        let start = "kubeproxy_network_programming_duration_seconds_bucket{le=\"";
        let buckets: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix(start)?.split('"').next()).collect();
        assert_eq!(buckets.len(), 2 + 59 + 12 + 7 + 1);
        for bucket in
            ["0.25", "0.5", "1.0", "59.0", "60.0", "65.0", "115.0", "120.0", "300.0", "+Inf"]
        {
            assert!(buckets.contains(&bucket), "{bucket} is not in {buckets:?}");
        }
    }

    /// A recorder after `uptime`, whose clock was set meanwhile, and one change whose trigger has the
    /// time of a clock that is right: the latency that is told, if any is.
    #[track_caller]
    fn check_set_clock(uptime: u64, [started, wall, written]: [u64; 3], expected: Option<&str>) {
        let time = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let start = Instant::now();
        let recorder = Recorder::new(PERIOD, Moment { instant: start, wall: time(started) });
        let instant = start + Duration::from_secs(uptime);
        let now = Moment { instant, wall: time(wall) };
        recorder.queued(&both(), now);
        let triggers = vec![(Family::V4, time(written))];
        recorder.seen(&Seen { triggers, ..Seen::default() }, now);
        // Set once more, while it is programmed.
        let instant = instant + Duration::from_secs(1);
        recorder.settled(&Families::new(), Moment { instant, wall: time(5) });
        let text = text(&recorder);
        let start = "kubeproxy_network_programming_duration_seconds_sum{ip_family=\"IPv4\"} ";
        assert_eq!(text.lines().find_map(|line| line.strip_prefix(start)), expected, "{text}");
    }

    #[test]
    fn a_clock_that_is_set_makes_no_latency_of_days() {
        const DAY: u64 = 86_400;
        const NOON: u64 = 1000 * DAY;
        for uptime in [600, 7 * DAY] {
            let start = NOON - uptime;
            // It goes a day wrong, either way.
            check_set_clock(uptime, [start, NOON, NOON - 2], Some("3.0"));
            check_set_clock(uptime, [start, NOON + DAY, NOON - 2], Some("3.0"));
            check_set_clock(uptime, [start, NOON - DAY, NOON - 2], Some("3.0"));
            // It was wrong at the start, and is put right.
            check_set_clock(uptime, [start + DAY, NOON, NOON - 2], Some("3.0"));
            check_set_clock(uptime, [start - DAY, NOON, NOON - 2], Some("3.0"));
            // It was a little behind at the start, or ahead, and is put right.
            check_set_clock(uptime, [start - 2, NOON, NOON - 2], Some("3.0"));
            check_set_clock(uptime, [start + 2, NOON, NOON - 2], Some("3.0"));
            // The other one is ahead; or the change older than we are.
            check_set_clock(uptime, [start, NOON, NOON + 2], Some("1.0"));
            check_set_clock(uptime, [start, NOON, start - 1], None);
        }
    }

    #[test]
    fn a_family_that_fails_stays_pending_and_the_other_does_not() {
        let now = Moment::now();
        let recorder = Recorder::new(PERIOD, now);
        recorder.queued(&both(), now);
        recorder.settled(&Families::new(), now);
        recorder.seen(&Seen { services: 1, families: both(), ..Seen::default() }, now);
        recorder.queued(&both(), now);
        recorder.settled(&Families::from([Family::V6]), now);
        let later = Moment { instant: now.instant + PERIOD * 2, wall: now.wall + PERIOD * 2 };
        let report = recorder.health.livez(later);
        assert!(report.status["IPv4"].healthy && !report.status["IPv6"].healthy);
        expect(&recorder, &["kubeproxy_sync_proxy_rules_service_changes_pending 1"]);
        recorder.settled(&Families::new(), later);
        assert!(recorder.health.is_healthy(later));
        expect(&recorder, &["kubeproxy_sync_proxy_rules_service_changes_pending 0"]);
    }

    #[test]
    fn what_fails_without_a_change_becomes_pending() {
        let now = Moment::now();
        let recorder = Recorder::new(PERIOD, now);
        recorder.queued(&both(), now);
        recorder.settled(&Families::new(), now);
        recorder.settled(&Families::from([Family::V4]), now);
        assert!(recorder.health.is_pending(Family::V4) && !recorder.health.is_pending(Family::V6));
    }

    #[test]
    fn only_services_and_slices_are_counted() {
        let delete = |kind| Event::Delete(ObjectRef::new(kind, ObjectName::namespaced("a", "b")));
        let batch = [delete(Kind::Service), delete(Kind::EndpointSlice), delete(Kind::Pod)];
        let expected = Seen { services: 1, endpoints: 1, families: both(), triggers: vec![] };
        assert_eq!(Seen::of(&batch), expected);
        assert_eq!(Seen::of(&[delete(Kind::Node), Event::Synced]), Seen::default());
    }

    #[test]
    fn a_slice_tells_when_its_change_began() {
        let mut files = crate::source::text::Texts::default();
        files.write(
            "a.yaml",
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web\n  \
             labels: {kubernetes.io/service-name: web}\n  annotations: \
             {endpoints.kubernetes.io/last-change-trigger-time: '1970-01-01T00:00:05Z'}\n\
             addressType: IPv6\nendpoints: []\n",
        );
        let seen = Seen::of(&files.events());
        assert_eq!(seen.families, Families::from([Family::V6]));
        assert_eq!(seen.triggers, [(Family::V6, UNIX_EPOCH + Duration::from_secs(5))]);
    }
}
