//! Writes what handlers emit and, in `letters`, the records they could not handle.
//!
//! Trouble with the broker is not the record's fault: such a write is tried again until it works, while its lane
//! waits. An output that the broker or a key selector refuses is the record's fault, and fails it.

mod letters;

use std::{collections::HashMap, sync::Arc, time::Duration};

pub(super) use letters::DeadLetter;
pub use letters::note_seek;
use tokio::sync::Mutex;

use crate::{
    broker::{Broker, ProduceError, Produced},
    config,
    handler::{Outcome, RunReport, SelectError},
    produce::{Counted, Pending, Producer, SendError},
    record::NewRecord,
};

/// The wait after a write that failed for the broker's reasons; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A record whose place is chosen, for a transaction.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) record: NewRecord,
    /// What is to be counted of it; `None`: it is no handler's output.
    pub(super) pending: Option<Pending>,
}

impl From<NewRecord> for Chosen {
    fn from(record: NewRecord) -> Self {
        Self { record, pending: None }
    }
}

/// Writes for one group.
pub(super) struct Output {
    broker: Arc<dyn Broker>,
    producer: Producer,
    group: Arc<config::Group>,
    /// Topics of letters that are known to exist, and how many partitions they have.
    ensured: Mutex<HashMap<Arc<str>, u32>>,
}

impl Output {
    pub(super) fn new(
        broker: Arc<dyn Broker>,
        producer: Producer,
        group: Arc<config::Group>,
    ) -> Self {
        Self { broker, producer, group, ensured: Mutex::default() }
    }

    /// Writes what a run emitted and waits until it is durable. A record whose output is refused becomes a failed
    /// one, and those behind it count as not handled: they are handled again after it, so that order holds.
    pub(super) async fn write(&self, mut report: RunReport) -> RunReport {
        let (mut emitted, mut sent) = (Vec::new(), Vec::new());
        for (index, outcome) in report.outcomes.iter_mut().enumerate() {
            let Outcome::Handled(records) = outcome else { continue };
            for record in records.drain(..) {
                sent.push(self.send(&record).await);
                emitted.push((index, record));
            }
        }
        let mut results = Vec::with_capacity(sent.len());
        // The last first: when that one is acknowledged the others mostly are, and each wait costs the member a look.
        for sent in sent.into_iter().rev() {
            results.push(acknowledged(sent).await);
        }
        for ((index, record), result) in emitted.into_iter().zip(results.into_iter().rev()) {
            let Err(error) = result else { continue };
            if let Err(reason) = self.write_again(&record, error).await {
                report.outcomes.truncate(index);
                report.outcomes.push(Outcome::Retry { reason, after: None });
                break;
            }
        }
        report
    }

    /// Chooses where what a run emitted goes, and leaves it to be written: what came of each record that was handled, which
    /// are the first of the run. A record of which a key selector refuses something becomes a failed one, and those behind
    /// it count as not handled, as with [`Output::write`].
    pub(super) async fn choose(&self, mut report: RunReport) -> (RunReport, Vec<Vec<Chosen>>) {
        let mut chosen = Vec::with_capacity(report.outcomes.len());
        for outcome in &mut report.outcomes {
            let Outcome::Handled(records) = outcome else { break };
            match self.choose_all(std::mem::take(records)).await {
                Ok(records) => chosen.push(records),
                Err(reason) => {
                    report.outcomes.truncate(chosen.len());
                    report.outcomes.push(Outcome::Retry { reason, after: None });
                    break;
                }
            }
        }
        (report, chosen)
    }

    async fn choose_all(&self, records: Vec<NewRecord>) -> Result<Vec<Chosen>, String> {
        let mut chosen = Vec::with_capacity(records.len());
        for mut record in records {
            let mut wait = FIRST_WAIT;
            let pending = loop {
                match self.producer.choose(&mut record).await {
                    Ok(pending) => break pending,
                    Err(error) if passes(&error) => {
                        self.wait_for_output(&record, &error, &mut wait).await;
                    }
                    Err(error) => {
                        let topic = &record.topic;
                        return Err(format!("its output to {topic:?} was refused: {error}"));
                    }
                }
            };
            chosen.push(Chosen { record, pending: Some(pending) });
        }
        Ok(chosen)
    }

    /// Counts what was written in a transaction that was committed: what there was to count of each record, and where it
    /// went.
    pub(super) fn count(&self, pending: &[Option<Pending>], produced: &[Produced]) {
        for (pending, produced) in pending.iter().zip(produced) {
            if let Some(pending) = pending {
                self.producer.count(pending, produced);
            }
        }
    }

    async fn wait_for_output(&self, record: &NewRecord, error: &SendError, wait: &mut Duration) {
        tracing::warn!(
            group = %self.group.id, topic = %record.topic, reason = %error,
            "A handler's output could not be written; its lane waits until it can."
        );
        pause(wait).await;
    }

    async fn send(&self, record: &NewRecord) -> Result<Counted, SendError> {
        self.producer.send(record.clone()).await.map(|sent| sent.acknowledgement)
    }

    /// Sends a record that met trouble again, until it is written.
    async fn write_again(&self, record: &NewRecord, mut error: SendError) -> Result<(), String> {
        let mut wait = FIRST_WAIT;
        loop {
            if !passes(&error) {
                return Err(format!("its output to {:?} was refused: {error}", record.topic));
            }
            self.wait_for_output(record, &error, &mut wait).await;
            match acknowledged(self.send(record).await).await {
                Ok(()) => return Ok(()),
                Err(again) => error = again,
            }
        }
    }
}

async fn acknowledged(sent: Result<Counted, SendError>) -> Result<(), SendError> {
    sent?.await?;
    Ok(())
}

/// Whether trouble passes by itself, so that the same write may work later.
fn passes(error: &SendError) -> bool {
    matches!(
        error,
        SendError::Select(SelectError::Busy)
            | SendError::Produce(
                ProduceError::Unavailable { .. } | ProduceError::Indefinite { .. }
            )
    )
}

async fn pause(wait: &mut Duration) {
    tokio::time::sleep(*wait).await;
    *wait = (*wait * 2).min(LONGEST_WAIT);
}
