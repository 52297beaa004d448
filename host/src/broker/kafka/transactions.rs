//! The client that writes transactions: one transaction at a time, in calls that block until it is committed or is not.
//!
//! librdkafka does not know KIP-890: after an abort, or a commit whose outcome is not known, what it believes of the
//! transaction and what Kafka believes may differ, and records of one could end up in the next. So a client that met any
//! error is destroyed, and another is made with the same id: taking the id settles on Kafka's side what was open.
//!
//! Invariant: nothing is written by a client that has not taken its id, and no commit is asked for before every record
//! was acknowledged.

mod deliveries;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rdkafka::{
    TopicPartitionList,
    config::ClientConfig,
    consumer::ConsumerGroupMetadata,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    producer::{BaseProducer, Producer as _},
};

use self::deliveries::{Deliveries, about};
use super::{error, lookup::Lookup, record};
use crate::{
    broker::{BrokerError, ProduceError, Produced, Refusal, TransactError, Transactions},
    record::NewRecord,
};

/// How long a transaction may take where the configuration does not say when Kafka aborts it.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long an abort may take: what is not aborted by then is when its id is taken again, or by Kafka after its time.
const ABORT: Duration = Duration::from_secs(5);
/// Delivery reports are looked for this often.
const TURN: Duration = Duration::from_millis(1);

type Client = BaseProducer<Deliveries>;

/// Writes transactions in the name of one transactional id.
pub(super) struct Transactor {
    config: ClientConfig,
    lookup: Lookup,
    /// Whether others may take the id. When they cannot, being fenced means that Kafka had no more patience.
    is_shared: bool,
    patience: Duration,
    /// A client that has taken the id; `None`: before the first transaction, and after one that failed.
    client: Option<Client>,
}

/// What a member commits with its records.
pub(super) struct Offsets {
    pub(super) list: TopicPartitionList,
    /// The member's generation, by which Kafka fences it.
    pub(super) member: ConsumerGroupMetadata,
}

impl Transactor {
    /// In the name of an id that others may take.
    pub(super) fn shared(config: ClientConfig, lookup: Lookup) -> Self {
        Self { is_shared: true, ..Self::exclusive(config, lookup) }
    }

    /// In the name of an id that is nobody else's.
    pub(super) fn exclusive(config: ClientConfig, lookup: Lookup) -> Self {
        let timeout = config.get("transaction.timeout.ms").and_then(|timeout| timeout.parse().ok());
        let patience = timeout.map_or(PATIENCE, Duration::from_millis);
        Self { config, lookup, is_shared: false, patience, client: None }
    }

    /// Takes the id, where this one does not have it: then nothing is open any more that was written in its name.
    pub(super) fn settle(&mut self) -> KafkaResult<()> {
        self.client().map(|_client| ())
    }

    fn client(&mut self) -> KafkaResult<&Client> {
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let client: Client = self.config.create_with_context(Deliveries::default())?;
                client.init_transactions(self.patience)?;
                client
            }
        };
        Ok(self.client.insert(client))
    }

    /// Serves what the client has to tell while there is nothing to write.
    pub(super) fn idle(&self) {
        if let Some(client) = &self.client {
            client.poll(Duration::ZERO);
        }
    }

    /// Writes records, and commits offsets with them.
    pub(super) fn commit(
        &mut self,
        records: &[NewRecord],
        offsets: Option<&Offsets>,
    ) -> Result<Vec<Produced>, TransactError> {
        self.check(records)?;
        let is_shared = self.is_shared;
        let failed = |error: &KafkaError| match error::is_fenced(error) {
            true if is_shared => TransactError::Fenced(format!(
                "another has taken the transactional id: {}",
                error::text(error)
            )),
            true => TransactError::TimedOut(error::text(error)),
            false => error::transaction(error),
        };
        let patience = self.patience;
        let client = self.client().map_err(|error| failed(&error))?;
        let begun = Instant::now();
        // What is late with its records must not leave it open whether it was committed.
        let (late, deadline) = (begun + patience * 2 / 3, begun + patience);
        let written = write(client, records, offsets, late, &failed).map_err(|error| {
            abort(client);
            match error {
                TransactError::Aborted(reason) if Instant::now() >= late => {
                    TransactError::TimedOut(reason)
                }
                error => error,
            }
        });
        let committed = written.and_then(|produced| {
            end(client, deadline).map_err(|error| match failed(&error) {
                fenced @ TransactError::Fenced(_) => fenced,
                _ => TransactError::Indefinite(error::text(&error)),
            })?;
            Ok(produced)
        });
        if committed.is_err() {
            self.client = None;
        }
        committed
    }

    /// Refuses what cannot be written before anything is.
    fn check(&self, records: &[NewRecord]) -> Result<(), TransactError> {
        let mut refusals = Vec::new();
        for (index, record) in records.iter().enumerate() {
            match self.lookup.fit(record).and_then(|_partitions| record::timestamp(record)) {
                Ok(_) => {}
                Err(ProduceError::Unavailable { reason }) => {
                    return Err(TransactError::Aborted(reason));
                }
                Err(error) => refusals.push(Refusal { record: index, error }),
            }
        }
        if refusals.is_empty() { Ok(()) } else { Err(TransactError::Refused(refusals)) }
    }
}

/// Writes everything and waits until it is acknowledged, short of the commit.
fn write(
    client: &Client,
    records: &[NewRecord],
    offsets: Option<&Offsets>,
    deadline: Instant,
    failed: &impl Fn(&KafkaError) -> TransactError,
) -> Result<Vec<Produced>, TransactError> {
    client.begin_transaction().map_err(|error| failed(&error))?;
    client.context().expect(records.len());
    for (index, record) in records.iter().enumerate() {
        send(client, index, record, deadline)?;
    }
    while client.context().waits() && Instant::now() < deadline {
        client.poll(TURN);
    }
    let produced = client.context().outcome(records).map_err(|error| {
        // A client that was fenced gives its records up, without telling each of them why.
        let fatal = client.client().fatal_error().map(|(code, _)| KafkaError::Global(code));
        fatal.map_or(error, |fatal| failed(&fatal))
    })?;
    if let Some(Offsets { list, member }) = offsets {
        client
            .send_offsets_to_transaction(list, member, left(deadline))
            .map_err(|error| failed(&error))?;
    }
    Ok(produced)
}

/// Hands one record over, and waits while there are too many.
fn send(
    client: &Client,
    index: usize,
    record: &NewRecord,
    deadline: Instant,
) -> Result<(), TransactError> {
    let timestamp = record::timestamp(record);
    let timestamp = timestamp.map_err(|error| refused(index, error))?;
    loop {
        match client.send(record::outgoing(record, timestamp, index)) {
            Ok(()) => return Ok(()),
            Err((error, _))
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
                    && client.context().waits()
                    && Instant::now() < deadline =>
            {
                client.poll(TURN);
            }
            Err((error, _)) => {
                let error = error::not_sent(&error, &about(record));
                return Err(match is_refusal(&error) {
                    true => refused(index, error),
                    false => TransactError::Aborted(error.to_string()),
                });
            }
        }
    }
}

/// Commits. An error says nothing of whether it was.
fn end(client: &Client, deadline: Instant) -> KafkaResult<()> {
    loop {
        match client.commit_transaction(left(deadline)) {
            Err(KafkaError::Transaction(error))
                if error.is_retriable() && Instant::now() < deadline =>
            {
                client.poll(TURN);
            }
            ended => return ended,
        }
    }
}

/// Aborts, as far as that can be had now.
fn abort(client: &Client) {
    let deadline = Instant::now() + ABORT;
    loop {
        // In short calls, since it waits for delivery reports that only a poll takes.
        match client.abort_transaction(TURN * 20) {
            Ok(()) => return,
            Err(KafkaError::Transaction(error))
                if error.is_retriable() && Instant::now() < deadline =>
            {
                client.poll(TURN);
            }
            Err(error) => {
                return tracing::debug!(%error, "A transaction was not aborted; it is when its id is taken again.");
            }
        }
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(TURN)
}

fn refused(record: usize, error: ProduceError) -> TransactError {
    TransactError::Refused(vec![Refusal { record, error }])
}

/// Whether the record is at fault, so that it would be refused again.
fn is_refusal(error: &ProduceError) -> bool {
    !matches!(error, ProduceError::Unavailable { .. } | ProduceError::Indefinite { .. })
}

/// A transactional id in the hands of one who writes to no group.
pub(super) struct Holder(Arc<Mutex<Transactor>>);

impl Holder {
    /// Takes the id.
    pub(super) async fn take(mut transactor: Transactor) -> Result<Self, BrokerError> {
        let taken = tokio::task::spawn_blocking(move || {
            transactor.settle()?;
            Ok(transactor)
        });
        match taken.await {
            Ok(Ok(transactor)) => Ok(Self(Arc::new(Mutex::new(transactor)))),
            Ok(Err(error)) => Err(error::query("taking the transactional id", &error)),
            Err(broken) => Err(BrokerError::Unavailable(broken.to_string())),
        }
    }
}

#[async_trait]
impl Transactions for Holder {
    async fn write(&mut self, records: Vec<NewRecord>) -> Result<Vec<Produced>, TransactError> {
        let transactor = Arc::clone(&self.0);
        let written = tokio::task::spawn_blocking(move || {
            let mut transactor = transactor.lock().unwrap_or_else(PoisonError::into_inner);
            transactor.commit(&records, None)
        });
        written.await.unwrap_or_else(|broken| Err(TransactError::Indefinite(broken.to_string())))
    }
}
