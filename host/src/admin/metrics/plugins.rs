//! The metrics of plugins' own, as a collector for the text format.
//!
//! They are named by whoever writes the plugin, so they have a prefix of their own: none can pass for one of the gateway's.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};

use super::{Labels, label};
use crate::plugin::{MetricValue, UseMetrics};

const NONE: Option<&Exemplar<NoLabelSet, u64>> = None;

/// A registry of these metrics and nothing else.
pub(super) fn registry(metrics: &[UseMetrics]) -> Registry {
    let mut registry = Registry::with_prefix("plugin");
    registry.register_collector(Box::new(Families::of(metrics)));
    registry
}

/// By the metric's name, every use that has it.
#[derive(Debug)]
struct Families(BTreeMap<String, Vec<(Labels, MetricValue)>>);

impl Families {
    fn of(metrics: &[UseMetrics]) -> Self {
        let mut families: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for of_use in metrics {
            for (name, value) in &of_use.metrics {
                families.entry(name.clone()).or_default().push((labels(of_use), value.clone()));
            }
        }
        Self(families)
    }
}

pub(super) fn labels(metrics: &UseMetrics) -> Labels {
    vec![("plugin", label(&metrics.plugin)), ("owner", label(&metrics.owner))]
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for (name, series) in &self.0 {
            let Some((_, first)) = series.first() else { continue };
            let (kind, help) = match first {
                MetricValue::Counter(_) => (MetricType::Counter, "Counted by the plugin"),
                MetricValue::Distribution { .. } => {
                    (MetricType::Histogram, "Observed by the plugin")
                }
            };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (labels, value) in series {
                let mut metric = family.encode_family(labels)?;
                match (kind, value) {
                    (MetricType::Counter, MetricValue::Counter(count)) => {
                        metric.encode_counter(count, NONE)?;
                    }
                    (MetricType::Histogram, MetricValue::Distribution { sum, buckets }) => {
                        let count = buckets.iter().map(|(_, count)| count).sum();
                        metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
                    }
                    _ => {} // one plugin went and another gave its name a new kind while the snapshot was taken
                }
            }
        }
        Ok(())
    }
}
