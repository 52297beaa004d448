//! `keyway:plugin/metrics`: what a plugin counts and measures itself, within bounds.
//!
//! Each use of a plugin has metrics of its own, shown with the plugin's and the use's name. What is beyond a bound is
//! counted and said once on the log: a guest is never failed for it.
//!
//! Invariant: in the whole process a name is either a counter or a distribution, since `/metrics` has one type for it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use wasmtime::component::{HasSelf, Linker};

use super::{
    super::{bindings::keyway::plugin::metrics, instance::State},
    logging::cut,
};

/// Metrics of one use of a plugin; any further name is left out.
const NAMES: usize = 64;
/// Characters of a name.
const NAME: usize = 100;
/// Upper bounds of the buckets of a distribution: in steps of about a half order of magnitude, from 0.1 ms as seconds to
/// 1 GB as bytes. Above the last is one more bucket.
const BOUNDS: [f64; 27] = [
    1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3,
    1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9,
];

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    metrics::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

impl metrics::Host for State {
    fn add(&mut self, name: String, by: u64) {
        if let Some(metrics) = &self.settings.metrics {
            metrics.add(&name, by);
        }
    }

    fn observe(&mut self, name: String, value: f64) {
        if let Some(metrics) = &self.settings.metrics {
            metrics.observe(&name, value);
        }
    }
}

/// What one use of a plugin has counted and measured, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct UseMetrics {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// Whose use it is, such as `group my-topic-group-1`.
    pub owner: String,
    /// Calls that were left out because they were beyond a bound.
    pub dropped: u64,
    /// The metrics by name: letters, digits and underscores. A name has the same kind in every use of the process.
    pub metrics: BTreeMap<String, MetricValue>,
}

/// What one metric stands at.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// A sum of what was added.
    Counter(u64),
    /// How what was observed is distributed.
    Distribution {
        /// All values together.
        sum: f64,
        /// Each bucket's upper bound, the last being [`f64::MAX`], and how many values are in it and in no bucket before.
        buckets: Vec<(f64, u64)>,
    },
}

impl UseMetrics {
    /// Adds what another use has counted that has the same plugin and owner: while a group is restarted there are two.
    pub(in super::super) fn merge(&mut self, other: Self) {
        self.dropped += other.dropped;
        for (name, value) in other.metrics {
            match (self.metrics.get_mut(&name), value) {
                (None, value) => {
                    self.metrics.insert(name, value);
                }
                (Some(MetricValue::Counter(count)), MetricValue::Counter(more)) => {
                    *count = count.saturating_add(more);
                }
                (
                    Some(MetricValue::Distribution { sum, buckets }),
                    MetricValue::Distribution { sum: more, buckets: others },
                ) => {
                    *sum += more;
                    buckets.iter_mut().zip(others).for_each(|(bucket, other)| bucket.1 += other.1);
                }
                (Some(_), _) => {} // no name has two kinds
            }
        }
    }
}

/// The metrics of one use of a plugin.
#[derive(Debug)]
pub(in super::super) struct PluginMetrics {
    plugin: Arc<str>,
    owner: String,
    series: RwLock<BTreeMap<Arc<str>, Series>>,
    dropped: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Distribution,
}

#[derive(Debug)]
enum Series {
    Counter(AtomicU64),
    Distribution(Box<Mutex<Distribution>>),
}

#[derive(Debug, Default)]
struct Distribution {
    sum: f64,
    buckets: [u64; BOUNDS.len() + 1],
}

impl PluginMetrics {
    /// No metrics yet, of `plugin` as `owner` uses it.
    pub(in super::super) fn new(plugin: Arc<str>, owner: &str) -> Self {
        Self {
            plugin,
            owner: owner.into(),
            series: RwLock::default(),
            dropped: AtomicU64::default(),
        }
    }

    /// What they stand at.
    pub(in super::super) fn status(&self) -> UseMetrics {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        UseMetrics {
            plugin: self.plugin.clone(),
            owner: self.owner.clone(),
            dropped: self.dropped.load(Relaxed),
            metrics: series
                .iter()
                .map(|(name, series)| (name.to_string(), series.value()))
                .collect(),
        }
    }

    fn add(&self, name: &str, by: u64) {
        // The text format puts it behind the name of every counter itself.
        let name = name.strip_suffix("_total").unwrap_or(name);
        self.update(name, Kind::Counter, |series| {
            if let Series::Counter(count) = series {
                let add = |count: u64| Some(count.saturating_add(by));
                count.fetch_update(Relaxed, Relaxed, add).ok(); // it always has an answer
            }
        });
    }

    fn observe(&self, name: &str, value: f64) {
        if !(value.is_finite() && value >= 0.0) {
            return self.drop_one(name, "a value that is negative or no number");
        }
        self.update(name, Kind::Distribution, |series| {
            if let Series::Distribution(distribution) = series {
                distribution.lock().unwrap_or_else(PoisonError::into_inner).observe(value);
            }
        });
    }

    fn update(&self, name: &str, kind: Kind, update: impl Fn(&Series)) {
        let known = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(name).filter(|series| series.kind() == kind) {
            return update(series);
        }
        drop(known);
        match self.make(name, kind) {
            Ok(()) => self.update(name, kind, update),
            Err(reason) => self.drop_one(name, reason),
        }
    }

    /// Makes a series; once it is made it stays.
    fn make(&self, name: &str, kind: Kind) -> Result<(), &'static str> {
        if !is_name(name) {
            return Err(
                "a name that is not 1 to 100 letters, digits and underscores, the first no digit",
            );
        }
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        match series.get(name) {
            Some(made) if made.kind() == kind => return Ok(()),
            Some(_) => return Err("a name that is both added to and observed"),
            None if series.len() == NAMES => {
                return Err("more names than the 64 that a plugin may have");
            }
            None => {}
        }
        let name: Arc<str> = name.into();
        kinds::claim(&name, kind)?;
        series.insert(name, Series::new(kind));
        Ok(())
    }

    fn drop_one(&self, name: &str, reason: &'static str) {
        if self.dropped.fetch_add(1, Relaxed) == 0 {
            tracing::warn!(
                target: "plugin", plugin = %self.plugin, owner = self.owner, metric = &*cut(name, NAME).escape_debug().to_string(),
                "A metric of the plugin is left out: {reason}. Further ones are only counted."
            );
        }
    }
}

impl Drop for PluginMetrics {
    fn drop(&mut self) {
        let series = self.series.get_mut().unwrap_or_else(PoisonError::into_inner);
        series.keys().for_each(|name| kinds::release(name));
    }
}

impl Series {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(AtomicU64::default()),
            Kind::Distribution => Self::Distribution(Box::default()),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Distribution(_) => Kind::Distribution,
        }
    }

    fn value(&self) -> MetricValue {
        match self {
            Self::Counter(count) => MetricValue::Counter(count.load(Relaxed)),
            Self::Distribution(distribution) => {
                let distribution = distribution.lock().unwrap_or_else(PoisonError::into_inner);
                let bounds = BOUNDS.into_iter().chain([f64::MAX]);
                let buckets = bounds.zip(distribution.buckets).collect();
                MetricValue::Distribution { sum: distribution.sum, buckets }
            }
        }
    }
}

impl Distribution {
    fn observe(&mut self, value: f64) {
        self.sum = (self.sum + value).min(f64::MAX);
        self.buckets[BOUNDS.partition_point(|bound| *bound < value)] += 1;
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Which kind each name has in this process, for as long as a use has it.
mod kinds {
    use super::*;

    static KINDS: Mutex<BTreeMap<Arc<str>, (Kind, usize)>> = Mutex::new(BTreeMap::new());

    /// Counts one more use of a name, unless it has another kind.
    pub(super) fn claim(name: &Arc<str>, kind: Kind) -> Result<(), &'static str> {
        let mut kinds = KINDS.lock().unwrap_or_else(PoisonError::into_inner);
        let (claimed, uses) = kinds.entry(name.clone()).or_insert((kind, 0));
        if *claimed != kind {
            return Err("a name that another plugin has for the other kind of metric");
        }
        *uses += 1;
        Ok(())
    }

    /// Counts one use less.
    pub(super) fn release(name: &str) {
        let mut kinds = KINDS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, uses)) = kinds.get_mut(name) {
            *uses -= 1;
            if *uses == 0 {
                kinds.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(owner: &str) -> PluginMetrics {
        PluginMetrics::new("p".into(), owner)
    }

    fn counter(metrics: &PluginMetrics, name: &str) -> Option<u64> {
        match metrics.status().metrics.get(name) {
            Some(MetricValue::Counter(count)) => Some(*count),
            _ => None,
        }
    }

    #[test]
    fn counters_add_up_and_never_overflow() {
        let metrics = of("adds");
        metrics.add("adds_a", 2);
        metrics.add("adds_a_total", 3);
        metrics.add("adds_b", u64::MAX);
        metrics.add("adds_b", 1);
        assert_eq!(counter(&metrics, "adds_a"), Some(5));
        assert_eq!(counter(&metrics, "adds_b"), Some(u64::MAX));
        assert_eq!(metrics.status().dropped, 0);
    }

    #[test]
    fn a_value_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        let metrics = of("observes");
        for value in [0.0, 1.0, 1.5, 1e12] {
            metrics.observe("observes_a", value);
        }
        let MetricValue::Distribution { sum, buckets } = &metrics.status().metrics["observes_a"]
        else {
            panic!("no distribution")
        };
        assert_eq!(*sum, 1e12 + 2.5);
        let filled: Vec<_> = buckets.iter().filter(|bucket| bucket.1 > 0).copied().collect();
        assert_eq!(filled, [(1e-4, 1), (1.0, 1), (3.0, 1), (f64::MAX, 1)]);
    }

    #[test]
    fn what_is_beyond_a_bound_is_counted_and_changes_nothing() {
        let metrics = of("bounds");
        for name in ["", "1a", "a b", "a\u{e4}", "a-b", &"a".repeat(NAME + 1)] {
            metrics.add(name, 1);
        }
        for value in [-1.0, f64::NAN, f64::INFINITY] {
            metrics.observe("bounds_a", value);
        }
        assert_eq!(metrics.status().dropped, 9);
        (0..NAMES).for_each(|name| metrics.add(&format!("bounds_{name}"), 1));
        assert_eq!(metrics.status().dropped, 9);
        metrics.add("bounds_further", 1);
        metrics.add("bounds_0", 1);
        let status = metrics.status();
        assert_eq!((status.dropped, status.metrics.len()), (10, NAMES));
        assert_eq!(counter(&metrics, "bounds_0"), Some(2), "a name that is there goes on");
    }

    #[test]
    fn a_name_has_one_kind_in_the_process_for_as_long_as_it_is_used() {
        let (one, other) = (of("kinds"), of("kinds too"));
        one.add("kinds_a", 1);
        one.observe("kinds_a", 1.0);
        other.observe("kinds_a", 1.0);
        assert_eq!((one.status().dropped, other.status().dropped), (1, 1));
        drop(one);
        other.observe("kinds_a", 1.0);
        assert!(matches!(other.status().metrics["kinds_a"], MetricValue::Distribution { .. }));
    }

    #[test]
    fn two_uses_of_the_same_owner_are_shown_as_one() {
        let (before, after) = (of("merge"), of("merge"));
        for metrics in [&before, &after] {
            metrics.add("merge_a", 1);
            metrics.observe("merge_b", 1.0);
            metrics.add("", 1);
        }
        after.add("merge_c", 1);
        let mut merged = before.status();
        merged.merge(after.status());
        assert_eq!(merged.dropped, 2);
        assert_eq!(merged.metrics["merge_a"], MetricValue::Counter(2));
        assert_eq!(merged.metrics["merge_c"], MetricValue::Counter(1));
        let MetricValue::Distribution { sum, buckets } = &merged.metrics["merge_b"] else {
            panic!("no distribution")
        };
        assert_eq!((*sum, buckets.iter().map(|bucket| bucket.1).sum::<u64>()), (2.0, 2));
    }
}
