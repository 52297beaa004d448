//! Apache Kafka, and whatever speaks its protocol, through librdkafka.
//!
//! Five parts, each with its own thread where it needs one: [`producer`] writes; [`transactions`] writes all or nothing;
//! [`observer`] looks at the cluster and fills the [`directory`] of topics; [`query`] asks what screens show; [`member`] is
//! one member of a group. No method here waits for a Kafka that is down: that is what [`Broker::health`] tells, and all of it goes on when Kafka is back.
//!
//! Invariant: `acks=all` and idempotence cannot be configured away ([`settings`]), and no topic is made by mention.

mod assignment;
mod directory;
mod error;
mod gate;
mod lookup;
mod member;
mod observer;
mod producer;
mod query;
mod reach;
mod record;
mod settings;
mod transactions;
mod wake;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::{sync::Semaphore, time};

use self::{
    directory::{Directory, Topics},
    lookup::Lookup,
    observer::{Observer, Observing},
    producer::Producer,
    query::PATIENCE,
    reach::Reach,
    settings::{Settings, client_id},
    transactions::{Holder, Transactor},
};
use super::{
    Acknowledgement, Broker, BrokerError, EnsuredTopic, GroupInfo, Health, Member, MemberSpec,
    OffsetCommit, TopicInfo, TopicSpec, Transactions, process_name,
};
use crate::record::{NewRecord, Record, TopicPartition};

/// Questions that may be asked at once; each takes a thread while it waits.
const QUESTIONS: usize = 4;

/// A topic that was seen within this time is there: at a start, the first look at the cluster does for all of them.
const LATELY: Duration = Duration::from_secs(1);

/// Topics that Kafka keeps for itself.
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// A connection to Kafka.
pub struct Kafka {
    settings: Settings,
    process: String,
    lookup: Lookup,
    reach: Arc<Reach>,
    producer: Arc<Producer>,
    observer: Observer,
    questions: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Kafka {
    /// Connects to the Kafka at `bootstrap_servers` (`HOST:PORT`, several with commas), in the background: whether it is
    /// there is what [`Broker::health`] says. `properties` go to librdkafka as they are; a property that one of its
    /// clients does not have is not given to that one, and those that Keyway's promises rest on are set after them.
    ///
    /// # Errors
    /// [`BrokerError::Fatal`], naming it, when librdkafka does not know a property or does not take its value.
    pub fn connect(
        bootstrap_servers: &str,
        properties: &BTreeMap<String, String>,
    ) -> Result<Self, BrokerError> {
        let settings = Settings::new(bootstrap_servers, properties);
        let process = process_name();
        let reach = Arc::new(Reach::new(bootstrap_servers));
        let directory = Arc::new(Directory::default());
        let (producer, writing) = Producer::start(settings.producer(&process), Arc::clone(&reach))
            .map_err(error::client)?;
        let observer = Observer::start(
            &settings.observer(&process),
            Arc::clone(&directory),
            Arc::clone(&producer),
            Arc::clone(&reach),
        );
        let (observer, looking) = observer.map_err(|error| {
            producer.stop();
            error::client(error)
        })?;
        Ok(Self {
            settings,
            process,
            lookup: Lookup { directory, observer: Arc::clone(&observer.wakeup) },
            reach,
            producer,
            observer,
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            threads: Mutex::new(vec![writing, looking]),
        })
    }

    /// Every topic, as the next look at the cluster says.
    async fn refresh(&self) -> Result<Arc<Topics>, BrokerError> {
        // A name that no topic can have: the answer comes after a look at all of them.
        match self.lookup.ask("").await {
            Ok(_) | Err(BrokerError::UnknownTopic(_)) => Ok(self.lookup.directory.topics()),
            Err(error) => Err(error),
        }
    }

    /// Runs a question on a thread that may block.
    async fn question<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Observing) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let turn = Arc::clone(&self.questions).acquire_owned().await;
        let turn = turn.expect("the semaphore is never closed");
        let client = Arc::clone(&self.observer.client);
        let asking = tokio::task::spawn_blocking(move || {
            let answer = ask(&client);
            drop(turn);
            answer
        });
        asking.await.unwrap_or_else(|broken| {
            Err(BrokerError::Unavailable(format!(
                "the question to Kafka was not answered: {broken}"
            )))
        })
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<bool, BrokerError> {
        let what = format!("creating topic {:?}", spec.name);
        let failed = |error: &KafkaError| error::query(&what, error);
        let client: AdminClient<DefaultClientContext> =
            self.settings.observer(&self.process).create().map_err(error::client)?;
        // -1 is the broker's `default.replication.factor` (KIP-464).
        let replication = TopicReplication::Fixed(spec.replication_factor.map_or(-1, i32::from));
        let mut topic = NewTopic::new(&spec.name, spec.partitions as i32, replication);
        if spec.keep_forever {
            topic = topic
                .set("cleanup.policy", "delete") // the cluster's default may be to compact
                .set("retention.ms", "-1")
                .set("retention.bytes", "-1");
        }
        let options =
            AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
        let results = client.create_topics([&topic], &options).await;
        match results.map_err(|error| failed(&error))?.pop() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(failed(&KafkaError::Global(code))),
            Some(Ok(_)) | None => Ok(true),
        }
    }

    /// Waits until a topic that was just created can be written to. Its leaders are named before they know that they are:
    /// one that takes a producer's second batch but not its first makes a mess of the order, so ask them all first.
    async fn await_topic(&self, topic: &str) -> Result<u32, BrokerError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.topic(topic).await {
                Ok(info) => return Ok(info.partitions.len() as u32),
                Err(BrokerError::Fatal(reason)) => return Err(BrokerError::Fatal(reason)),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_not_yet) => time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

#[async_trait]
impl Broker for Kafka {
    fn produce(&self, record: NewRecord) -> Acknowledgement {
        let (acknowledge, acknowledgement) = Acknowledgement::pair();
        if self.lookup.directory.admit(record, acknowledge, |ready| self.producer.send(ready)) {
            self.observer.look();
        }
        acknowledgement
    }

    async fn partitions(&self, topic: &str) -> Result<u32, BrokerError> {
        match self.lookup.directory.partitions(topic) {
            Some(partitions) => Ok(partitions),
            None => self.lookup.ask(topic).await,
        }
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, BrokerError> {
        let topics = self.refresh().await?;
        let mut topics: Vec<_> = topics
            .iter()
            .filter(|(name, _)| !INTERNAL.contains(&name.as_ref()))
            .map(|(name, partitions)| (Arc::clone(name), *partitions))
            .collect();
        topics.sort_unstable();
        self.question(move |client| query::offsets(client, &topics)).await
    }

    async fn topic(&self, name: &str) -> Result<TopicInfo, BrokerError> {
        let topic = [(Arc::from(name), self.lookup.ask(name).await?)];
        let mut found = self.question(move |client| query::offsets(client, &topic)).await?;
        found.pop().ok_or_else(|| BrokerError::UnknownTopic(name.to_owned()))
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<EnsuredTopic, BrokerError> {
        let found = match self.lookup.directory.partitions_lately(&spec.name, LATELY) {
            Some(partitions) => Ok(partitions),
            None => self.lookup.ask(&spec.name).await,
        };
        let existed = match found {
            Ok(partitions) => partitions,
            Err(BrokerError::UnknownTopic(_)) => {
                let created = self.create_topic(spec).await?;
                let partitions = self.await_topic(&spec.name).await?;
                if created {
                    return Ok(EnsuredTopic::Created);
                }
                partitions
            }
            Err(error) => return Err(error),
        };
        Ok(if existed == spec.partitions {
            EnsuredTopic::Existed
        } else {
            EnsuredTopic::Differs { partitions: existed }
        })
    }

    async fn records(
        &self,
        at: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Record>, BrokerError> {
        let partitions = self.lookup.ask(&at.topic).await?;
        if at.partition >= partitions {
            return Err(BrokerError::UnknownPartition(at.clone()));
        }
        let (config, at) = (self.settings.observer(&self.process), at.clone());
        self.question(move |client| query::records(config, client, &at, offset, limit)).await
    }

    async fn written(&self, at: &TopicPartition) -> Result<u64, BrokerError> {
        let (config, at) = (self.settings.observer(&self.process), at.clone());
        self.question(move |_client| query::written(config, &at)).await
    }

    fn join(&self, spec: MemberSpec) -> Result<Member, BrokerError> {
        member::join(&self.settings, &self.process, self.lookup.clone(), spec)
    }

    async fn transactions(&self, id: &str) -> Result<Box<dyn Transactions>, BrokerError> {
        let client_id = client_id(&self.process, "transactions");
        let config = self.settings.transactional(id, &client_id);
        let transactor = Transactor::shared(config, self.lookup.clone());
        Ok(Box::new(Holder::take(transactor).await?))
    }

    async fn group(&self, id: &str) -> Result<GroupInfo, BrokerError> {
        let config = self.settings.observer(&self.process);
        let (id, topics) = (id.to_owned(), self.refresh().await?);
        self.question(move |client| query::group(config, client, &id, &topics)).await
    }

    async fn offsets_at(&self, topic: &str, timestamp: u64) -> Result<Vec<u64>, BrokerError> {
        let topic = (Arc::from(topic), self.lookup.ask(topic).await?);
        self.question(move |client| query::offsets_at(client, &topic, timestamp)).await
    }

    async fn set_committed(
        &self,
        group: &str,
        offsets: Vec<OffsetCommit>,
    ) -> Result<(), BrokerError> {
        let (config, group) = (self.settings.observer(&self.process), group.to_owned());
        self.question(move |_| query::set_committed(config, &group, &offsets)).await
    }

    async fn groups(&self) -> Result<Vec<String>, BrokerError> {
        self.question(query::groups).await
    }

    fn health(&self) -> Health {
        self.reach.health()
    }

    async fn close(&self, deadline: Duration) {
        let deadline = Instant::now() + deadline;
        while self.producer.in_flight() > 0 && Instant::now() < deadline {
            time::sleep(Duration::from_millis(5)).await;
        }
        let left = self.producer.in_flight();
        if left > 0 {
            tracing::warn!(records = left, "Kafka is closed before it acknowledged everything.");
        }
        self.stop();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                thread.join().ok(); // a panic has been printed already
            }
        });
        joined.await.ok(); // as above
    }
}

impl Kafka {
    fn stop(&self) {
        self.producer.stop();
        self.observer.stop();
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.stop();
    }
}
