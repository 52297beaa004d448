//! The client that writes, and the thread that hands out its acknowledgements.
//!
//! An idempotent producer that meets an error it cannot order around is done for: it is replaced by a new one, and what
//! it still held is answered as indefinite. Nothing here waits for Kafka.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use rdkafka::{
    ClientContext,
    config::{ClientConfig, RDKafkaLogLevel},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{DeliveryResult, Header, Message, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};

use super::{
    directory::Ready,
    error::{self, About},
    reach::{self, Reach},
};
use crate::{
    broker::{Acknowledge, ProduceError, Produced},
    record::NewRecord,
};

/// How often the thread looks whether it is to end. Acknowledgements do not wait for it.
const TURN: Duration = Duration::from_millis(100);

/// The writing client.
pub(super) struct Producer {
    current: ArcSwap<BaseProducer<Deliveries>>,
    config: ClientConfig,
    reach: Arc<Reach>,
    closing: AtomicBool,
}

impl Producer {
    /// Makes the client and starts its thread, which ends some time after [`Producer::stop`].
    pub(super) fn start(
        config: ClientConfig,
        reach: Arc<Reach>,
    ) -> KafkaResult<(Arc<Self>, JoinHandle<()>)> {
        let current = ArcSwap::from_pointee(client(&config, &reach)?);
        let producer = Arc::new(Self { current, config, reach, closing: AtomicBool::new(false) });
        let shared = Arc::clone(&producer);
        let thread = thread::Builder::new()
            .name("kafka-producer".into())
            .spawn(move || shared.serve())
            .expect("a process that has just started can start a thread");
        Ok((producer, thread))
    }

    /// Hands a record over, or answers why it cannot be.
    pub(super) fn send(&self, ready: Ready) {
        let Ready { record, acknowledge, partitions } = ready;
        let timestamp = match i64::try_from(record.timestamp.unwrap_or_else(now)) {
            Ok(timestamp) => timestamp,
            Err(_) => {
                let reason = "its timestamp is larger than Kafka can keep".to_owned();
                return acknowledge.send(Err(ProduceError::Refused { reason }));
            }
        };
        let pending = Box::new(Pending {
            acknowledge,
            topic: Arc::clone(&record.topic),
            partition: record.partition,
            partitions,
            size: record.size(),
            given: Instant::now(),
        });
        let base = BaseRecord::<[u8], [u8], _> {
            topic: &record.topic,
            partition: record.partition.map(|partition| partition as i32),
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: Some(timestamp),
            headers: headers(&record),
            delivery_opaque: pending,
        };
        if let Err((error, base)) = self.current.load().send(base) {
            let pending = base.delivery_opaque;
            let answer = error::not_sent(&error, &pending.about());
            pending.acknowledge.send(Err(answer));
        }
    }

    /// Records that wait to be acknowledged.
    pub(super) fn in_flight(&self) -> usize {
        usize::try_from(self.current.load().in_flight_count()).unwrap_or(0)
    }

    /// Ends the thread; what still waits then is answered as indefinite.
    pub(super) fn stop(&self) {
        self.closing.store(true, Relaxed);
    }

    fn serve(&self) {
        while !self.closing.load(Relaxed) {
            let client = self.current.load_full();
            client.poll(TURN);
            if let Some((code, reason)) = client.client().fatal_error() {
                tracing::warn!(%code, reason, "The Kafka producer broke and is replaced.");
                self.replace();
            }
        }
    }

    fn replace(&self) {
        match client(&self.config, &self.reach) {
            Ok(client) => self.current.store(Arc::new(client)),
            Err(error) => {
                tracing::error!(%error, "No new Kafka producer can be made; nothing can be written.");
                thread::sleep(TURN);
            }
        }
    }
}

fn client(config: &ClientConfig, reach: &Arc<Reach>) -> KafkaResult<BaseProducer<Deliveries>> {
    config.create_with_context(Deliveries(Arc::clone(reach)))
}

fn headers(record: &NewRecord) -> Option<OwnedHeaders> {
    if record.headers.is_empty() {
        return None;
    }
    let headers = OwnedHeaders::new_with_capacity(record.headers.len());
    Some(record.headers.iter().fold(headers, |headers, header| {
        headers.insert(Header { key: &header.key, value: header.value.as_deref() })
    }))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64 // good for 580 million years
}

/// A record in librdkafka's hands.
struct Pending {
    acknowledge: Acknowledge,
    topic: Arc<str>,
    partition: Option<u32>,
    partitions: u32,
    size: usize,
    given: Instant,
}

impl Pending {
    fn about(&self) -> About<'_> {
        About {
            topic: &self.topic,
            partition: self.partition,
            partitions: self.partitions,
            size: self.size,
        }
    }
}

/// Turns delivery reports into acknowledgements.
struct Deliveries(Arc<Reach>);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        reach::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.0.cut();
        }
        tracing::debug!(%error, reason, "The Kafka producer reports an error.");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Box<Pending>) {
        let answer = match result {
            Ok(message) => {
                self.0.acknowledged();
                produced(message)
            }
            Err((error, _message)) => {
                let never_sent = self.0.cut_since(pending.given);
                Err(error::not_delivered(error, &pending.about(), never_sent))
            }
        };
        pending.acknowledge.send(answer);
    }
}

fn produced(message: &impl Message) -> Result<Produced, ProduceError> {
    // A batch that Kafka had already, and whose first answer was lost, is acknowledged without its offsets.
    let offset = u64::try_from(message.offset()).map_err(|_unknown| ProduceError::Indefinite {
        reason: "Kafka acknowledged the record without telling its offset".into(),
    })?;
    Ok(Produced {
        partition: message.partition() as u32,
        offset,
        timestamp: message.timestamp().to_millis().unwrap_or_default().max(0) as u64,
    })
}
