// SPDX-License-Identifier: Apache-2.0
//! Metrics that come from the maps, read when they are scraped.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use crate::datapath::{
    entry::Counted,
    pins::Pins,
    view::{Maps as _, View},
};

/// Counters of the programs, and how full the maps are.
#[derive(Debug)]
pub struct MapMetrics {
    pins: Pins,
}

impl MapMetrics {
    /// Metrics of the maps below a pin directory.
    pub fn new(pins: Pins) -> Self {
        Self { pins }
    }
}

impl Collector for MapMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Ok(view) = View::open(self.pins.clone()) else { return Ok(()) };
        encode_counters(&view, &mut encoder)?;
        encode_fill(&view, &mut encoder)
    }
}

fn encode_counters(
    view: &View,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), std::fmt::Error> {
    let Ok(counters) = view.counters() else { return Ok(()) };
    for (name, help, drops) in [
        ("packets", "Packets by hook and what happened to them", false),
        ("drops", "Packets dropped by hook and reason", true),
    ] {
        let kind = prometheus_client::metrics::MetricType::Counter;
        let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
        for entry in &counters {
            if matches!(entry.counted, Counted::Drop(_)) == drops {
                let label = if drops { "reason" } else { "event" };
                let labels =
                    [("hook", entry.place.as_str().to_owned()), (label, entry.counted.to_string())];
                ConstCounter::new(entry.value).encode(metric.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

fn encode_fill(view: &View, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let Ok(fill) = view.fill(|_| true) else { return Ok(()) };
    let kind = prometheus_client::metrics::MetricType::Gauge;
    let mut metric = encoder.encode_descriptor("map_entries", "Entries in a map", None, kind)?;
    for map in &fill {
        if let Some(entries) = map.entries {
            let gauge = ConstGauge::new(entries as i64);
            gauge.encode(metric.encode_family(&[("map", map.name)])?)?;
        }
    }
    let help = "Entries that a map has room for";
    let mut metric = encoder.encode_descriptor("map_capacity", help, None, kind)?;
    for map in &fill {
        let gauge = ConstGauge::new(map.capacity as i64);
        gauge.encode(metric.encode_family(&[("map", map.name)])?)?;
    }
    Ok(())
}
