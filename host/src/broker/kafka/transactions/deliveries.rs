//! What became of each record of the transaction that is open, as its delivery reports say.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::{
    ClientContext, config::RDKafkaLogLevel, error::KafkaError, message::DeliveryResult,
    producer::ProducerContext,
};

use super::super::{
    error::{self, About},
    reach, record,
};
use crate::{
    broker::{ProduceError, Produced, Refusal, TransactError},
    record::NewRecord,
};

/// The delivery reports of one transaction.
#[derive(Default)]
pub(super) struct Deliveries(Mutex<Reports>);

#[derive(Default)]
struct Reports {
    /// By the record's index; `None`: not there yet.
    reports: Vec<Option<Report>>,
    missing: usize,
    failed: bool,
}

enum Report {
    Produced(Produced),
    Failed(KafkaError),
    Unclear(ProduceError),
}

impl Deliveries {
    /// A transaction of this many records begins.
    pub(super) fn expect(&self, records: usize) {
        let reports = std::iter::repeat_with(|| None).take(records).collect();
        *self.reports() = Reports { reports, missing: records, failed: false };
    }

    /// Whether it is worth waiting for more.
    pub(super) fn waits(&self) -> bool {
        let reports = self.reports();
        reports.missing > 0 && !reports.failed
    }

    /// Where the records were written to, if all were.
    pub(super) fn outcome(&self, records: &[NewRecord]) -> Result<Vec<Produced>, TransactError> {
        let reports = std::mem::take(&mut *self.reports()).reports;
        let mut produced = Vec::with_capacity(records.len());
        let (mut refusals, mut reason, mut late) = (Vec::new(), None, None);
        for (index, (report, record)) in reports.into_iter().zip(records).enumerate() {
            let error = match report {
                Some(Report::Produced(place)) => {
                    produced.push(place);
                    continue;
                }
                Some(Report::Failed(error)) => error::not_delivered(&error, &about(record), false),
                Some(Report::Unclear(error)) => error,
                None => {
                    late = Some("Kafka did not acknowledge the records in time".to_owned());
                    continue;
                }
            };
            match error {
                ProduceError::Unavailable { reason: why }
                | ProduceError::Indefinite { reason: why } => {
                    reason.get_or_insert(why);
                }
                error => refusals.push(Refusal { record: index, error }),
            }
        }
        if !refusals.is_empty() {
            return Err(TransactError::Refused(at_fault(refusals)));
        }
        reason.or(late).map_or(Ok(produced), |reason| Err(TransactError::Aborted(reason)))
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of the records that were refused, those that it was for: a batch is too large as a whole, by the largest in it.
fn at_fault(mut refusals: Vec<Refusal>) -> Vec<Refusal> {
    let size = |refusal: &Refusal| match refusal.error {
        ProduceError::TooLarge { size, .. } => Some(size),
        _ => None,
    };
    let largest = refusals.iter().filter_map(size).max();
    refusals.retain(|refusal| size(refusal).is_none() || size(refusal) == largest);
    refusals
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        reach::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "A transactional Kafka producer reports an error.");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let report = match result {
            Ok(message) => match record::produced(message) {
                Ok(produced) => Report::Produced(produced),
                Err(error) => Report::Unclear(error),
            },
            Err((error, _message)) => Report::Failed(error.clone()),
        };
        let mut reports = self.reports();
        let failed = !matches!(report, Report::Produced(_));
        if let Some(slot) = reports.reports.get_mut(index) {
            *slot = Some(report);
            reports.missing -= 1;
            reports.failed |= failed;
        }
    }
}

/// A record, for what is said of its errors.
pub(super) fn about(record: &NewRecord) -> About<'_> {
    let NewRecord { topic, partition, .. } = record;
    About { topic, partition: *partition, partitions: 0, size: record.size() }
}
