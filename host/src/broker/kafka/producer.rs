//! The client that writes, and the thread that hands out its acknowledgements.
//!
//! A record goes through the [`Gate`] that forms batches, then to librdkafka, whose delivery report resolves it and lets
//! the next batch go. An idempotent producer that meets an error it cannot order around is done for: it is replaced by a new one, and what
//! it still held is answered as indefinite. Nothing here waits for Kafka.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use rdkafka::{
    ClientContext,
    config::{ClientConfig, RDKafkaLogLevel},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseProducer, Producer as _, ProducerContext},
};

use super::{
    directory::Ready,
    error::{self, About},
    gate::{Gate, Lane},
    reach::{self, Reach},
    record,
};
use crate::{
    broker::Acknowledge,
    record::{NewRecord, partition_for_key},
};

/// How often the thread looks whether it is to end, or whether something waits at the gate for too long that no other
/// record takes along. Acknowledgements do not wait for it. Not shorter, because rdkafka spends the last millisecond of
/// every poll spinning: librdkafka takes whole ones.
const TURN: Duration = Duration::from_millis(100);

/// The writing client.
pub(super) struct Producer {
    current: ArcSwap<BaseProducer<Deliveries>>,
    config: ClientConfig,
    deliveries: Deliveries,
    closing: AtomicBool,
}

impl Producer {
    /// Makes the client and starts its thread, which ends some time after [`Producer::stop`].
    pub(super) fn start(
        config: ClientConfig,
        reach: Arc<Reach>,
    ) -> KafkaResult<(Arc<Self>, JoinHandle<()>)> {
        let deliveries = Deliveries { reach, gate: Arc::new(Gate::new()), owner: Arc::default() };
        let current = ArcSwap::from_pointee(config.create_with_context(deliveries.clone())?);
        let closing = AtomicBool::new(false);
        let producer = Arc::new(Self { current, config, deliveries, closing });
        // Nothing has been written yet, so no delivery report has looked for it.
        producer.deliveries.owner.set(Arc::downgrade(&producer)).ok();
        let shared = Arc::clone(&producer);
        let thread = thread::Builder::new()
            .name("kafka-producer".into())
            .spawn(move || shared.serve())
            .expect("a process that has just started can start a thread");
        Ok((producer, thread))
    }

    /// Takes a record, or answers why it cannot be taken.
    pub(super) fn send(&self, ready: Ready) {
        let Ready { record, acknowledge, partitions } = ready;
        let partition = record
            .partition
            .or_else(|| record.key.as_ref().map(|key| partition_for_key(key, partitions)));
        let lane = (Arc::clone(&record.topic), partition);
        let size = record.size();
        let now = Instant::now();
        let outgoing = Outgoing { record, acknowledge, partitions, given: now };
        self.deliveries.gate.admit(&lane, outgoing, size, now, |outgoing| self.hand_over(outgoing));
    }

    /// Hands a record to librdkafka, or answers why it cannot be. Says whether a delivery report will come of it.
    fn hand_over(&self, outgoing: Outgoing) -> bool {
        let Outgoing { record, acknowledge, partitions, given } = outgoing;
        let timestamp = match record::timestamp(&record) {
            Ok(timestamp) => timestamp,
            Err(refusal) => {
                acknowledge.send(Err(refusal));
                return false;
            }
        };
        let lane = record.key.as_ref().map(|key| partition_for_key(key, partitions));
        let pending = Box::new(Pending {
            acknowledge,
            lane: (Arc::clone(&record.topic), record.partition.or(lane)),
            partitions,
            size: record.size(),
            given,
        });
        match self.current.load().send(record::outgoing(&record, timestamp, pending)) {
            Ok(()) => true,
            Err((error, base)) => {
                let pending = base.delivery_opaque;
                let answer = error::not_sent(&error, &pending.about());
                pending.acknowledge.send(Err(answer));
                false
            }
        }
    }

    /// Records that wait to be acknowledged.
    pub(super) fn in_flight(&self) -> usize {
        let sent = usize::try_from(self.current.load().in_flight_count()).unwrap_or(0);
        sent + self.deliveries.gate.waiting()
    }

    /// Ends the thread; what still waits then is answered as indefinite.
    pub(super) fn stop(&self) {
        self.closing.store(true, Relaxed);
    }

    fn serve(&self) {
        while !self.closing.load(Relaxed) {
            let client = self.current.load_full();
            client.poll(TURN);
            self.deliveries.gate.hurry(Instant::now(), |outgoing| self.hand_over(outgoing));
            if let Some((code, reason)) = client.client().fatal_error() {
                tracing::warn!(%code, reason, "The Kafka producer broke and is replaced.");
                self.replace(client);
            }
        }
    }

    fn replace(&self, broken: Arc<BaseProducer<Deliveries>>) {
        match self.config.create_with_context(self.deliveries.clone()) {
            Ok(client) => self.current.store(Arc::new(client)),
            Err(error) => {
                tracing::error!(%error, "No new Kafka producer can be made; nothing can be written.");
                return thread::sleep(TURN);
            }
        }
        // Dropping it gives delivery reports, which go through the gate: so not where one who holds the gate lets go of
        // it last, but here.
        while Arc::strong_count(&broken) > 1 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A record on its way to librdkafka.
struct Outgoing {
    record: NewRecord,
    acknowledge: Acknowledge,
    partitions: u32,
    given: Instant,
}

/// A record in librdkafka's hands.
struct Pending {
    acknowledge: Acknowledge,
    lane: Lane,
    partitions: u32,
    size: usize,
    given: Instant,
}

impl Pending {
    fn about(&self) -> About<'_> {
        let (topic, partition) = &self.lane;
        About { topic, partition: *partition, partitions: self.partitions, size: self.size }
    }
}

/// Turns delivery reports into acknowledgements.
#[derive(Clone)]
struct Deliveries {
    reach: Arc<Reach>,
    gate: Arc<Gate<Outgoing>>,
    /// The producer that these are the deliveries of.
    owner: Arc<OnceLock<Weak<Producer>>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        reach::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.reach.cut();
        }
        tracing::debug!(%error, reason, "The Kafka producer reports an error.");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Box<Pending>) {
        let answer = match result {
            Ok(message) => {
                self.reach.acknowledged();
                record::produced(message)
            }
            Err((error, _message)) => {
                let never_sent = self.reach.cut_since(pending.given);
                Err(error::not_delivered(error, &pending.about(), never_sent))
            }
        };
        pending.acknowledge.send(answer);
        let owner = self.owner.get().and_then(Weak::upgrade);
        self.gate.landed(&pending.lane, Instant::now(), |outgoing| match &owner {
            Some(producer) => producer.hand_over(outgoing),
            None => false, // closed: dropping it answers it
        });
    }
}
