//! Sees every record that a handler was given, and what came of it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::{
    app::WrapHandler,
    handler::{Delivery, Generation, Handler, Outcome, RunReport, RunReports},
    record::NewRecord,
};

/// Records that came out of one record and are shown.
const SHOWN: usize = 3;
/// Records that wait to be shown.
const WAITING: usize = 256;

/// A record that was handled, or was tried.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The group that it was handled for.
    pub(super) group: Arc<str>,
    /// The record.
    pub(super) delivery: Delivery,
    /// The generation that handled it.
    pub(super) generation: Generation,
    /// What came of it.
    pub(super) result: SeenResult,
}

/// An [`Outcome`], as far as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SeenResult {
    /// Handled, and so many records came out, the first of which are these.
    Handled { emitted: usize, first: Vec<NewRecord> },
    /// To be tried again, in the handler's words.
    Retry(String),
    /// Refused, in the handler's words.
    Rejected(String),
    /// The handler broke.
    Failed(String),
}

/// The end that sees.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    seen: mpsc::Sender<Seen>,
    missed: Arc<AtomicU64>,
}

/// The end that shows.
#[derive(Debug)]
pub(super) struct Watched {
    seen: mpsc::Receiver<Seen>,
    missed: Arc<AtomicU64>,
}

impl Watch {
    pub(super) fn new() -> (Self, Watched) {
        let (sender, seen) = mpsc::channel(WAITING);
        let missed = Arc::<AtomicU64>::default();
        (Self { seen: sender, missed: missed.clone() }, Watched { seen, missed })
    }

    /// Puts itself around handlers.
    pub(super) fn wrap(self) -> WrapHandler {
        Arc::new(move |group, inner| {
            Arc::new(Observed { group: group.clone(), inner, watch: self.clone() })
        })
    }

    fn see(&self, group: &Arc<str>, report: &RunReport) {
        for (delivery, outcome) in report.deliveries.iter().zip(&report.outcomes) {
            let seen = Seen {
                group: group.clone(),
                delivery: delivery.clone(),
                generation: report.generation.clone(),
                result: outcome.into(),
            };
            if self.seen.try_send(seen).is_err() {
                self.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Watched {
    /// The next record, and how many were missed before or after it because too many waited.
    pub(super) async fn next(&mut self) -> Option<(Seen, u64)> {
        let seen = self.seen.recv().await?;
        Some((seen, self.missed.swap(0, Ordering::Relaxed)))
    }
}

impl From<&Outcome> for SeenResult {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Handled(output) => Self::Handled {
                emitted: output.len(),
                first: output.iter().take(SHOWN).cloned().collect(),
            },
            Outcome::Retry { reason, .. } => Self::Retry(reason.clone()),
            Outcome::Reject { reason } => Self::Rejected(reason.clone()),
            Outcome::Failed(failure) => Self::Failed(failure.to_string()),
        }
    }
}

struct Observed {
    group: Arc<str>,
    inner: Arc<dyn Handler>,
    watch: Watch,
}

impl Handler for Observed {
    fn handle(&self, run: Vec<Delivery>) -> BoxFuture<'static, RunReport> {
        let (inner, watch, group) =
            (self.inner.handle(run), self.watch.clone(), self.group.clone());
        Box::pin(async move {
            let report = inner.await;
            watch.see(&group, &report);
            report
        })
    }

    fn handle_runs(&self, runs: Vec<Vec<Delivery>>) -> BoxFuture<'static, RunReports> {
        let (inner, watch, group) =
            (self.inner.handle_runs(runs), self.watch.clone(), self.group.clone());
        Box::pin(async move {
            let RunReports { over, waiting, quick } = inner.await;
            over.iter().for_each(|report| watch.see(&group, report));
            let waiting = waiting.map(|(place, report)| {
                let waiting = async move {
                    let report = report.await;
                    watch.see(&group, &report);
                    report
                };
                (place, Box::pin(waiting) as BoxFuture<'static, _>)
            });
            RunReports { over, waiting, quick }
        })
    }

    fn generation(&self) -> Generation {
        self.inner.generation()
    }

    fn trouble(&self) -> Option<String> {
        self.inner.trouble()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{admin::snapshot::example, record::Record};

    /// Handles all but the last record, which it rejects.
    struct Picky;

    impl Handler for Picky {
        fn handle(&self, run: Vec<Delivery>) -> BoxFuture<'static, RunReport> {
            let mut outcomes = vec![Outcome::Handled(Vec::new()); run.len()];
            outcomes.pop();
            outcomes.push(Outcome::Reject { reason: "no".into() });
            let generation = self.generation();
            Box::pin(
                async move { RunReport { generation, on_trial: false, deliveries: run, outcomes } },
            )
        }

        fn generation(&self) -> Generation {
            example::generation("picky", 1)
        }
    }

    pub(in super::super) fn delivery(offset: u64) -> Delivery {
        let record = Record {
            topic: "my-topic".into(),
            partition: 0,
            offset,
            timestamp: None,
            key: None,
            value: Some("v".into()),
            headers: Vec::new(),
        };
        Delivery { record, attempt: 1 }
    }

    #[tokio::test]
    async fn every_record_is_seen_with_what_came_of_it() {
        let (watch, mut watched) = Watch::new();
        let handler = watch.wrap()(&"g".into(), Arc::new(Picky));
        let report = handler.handle((0..2).map(delivery).collect()).await;
        assert_eq!(report.deliveries.len(), 2);
        let (first, _) = watched.next().await.unwrap();
        let (second, missed) = watched.next().await.unwrap();
        let handled = SeenResult::Handled { emitted: 0, first: Vec::new() };
        assert_eq!((first.delivery.record.offset, first.result), (0, handled));
        assert_eq!(second.result, SeenResult::Rejected("no".into()));
        assert_eq!(missed, 0);
    }

    #[tokio::test]
    async fn a_terminal_that_does_not_keep_up_misses_records_and_is_told_how_many() {
        let (watch, mut watched) = Watch::new();
        let handler = watch.wrap()(&"g".into(), Arc::new(Picky));
        handler.handle((0..WAITING as u64 + 7).map(delivery).collect()).await;
        assert_eq!(watched.next().await.unwrap().1, 7);
    }
}
