//! A broker and a key selector that do as they are told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{FutureExt, future::BoxFuture};
use keyway::{
    broker::{
        Acknowledge, Acknowledgement, Broker, BrokerError, EnsuredTopic, GroupInfo, Health, Member,
        MemberSpec, OffsetCommit, ProduceError, Produced, TopicInfo, TopicSpec, Transactions,
    },
    handler::{Generation, SelectError, Selection, Selector, Target},
    record::{NewRecord, Record, TopicPartition, partition_for_key},
};

/// How many partitions `my-topic`, the only topic, has.
pub(crate) const PARTITIONS: u32 = 3;

/// What becomes of the next records.
#[derive(Clone, Debug, Default)]
pub(crate) enum Script {
    /// They are written at once.
    #[default]
    Write,
    /// They wait for [`ScriptedBroker::release`].
    Hold,
    /// They come to nothing, in this way.
    Fail(ProduceError),
}

/// A broker in memory, with one topic.
#[derive(Debug, Default)]
pub(crate) struct ScriptedBroker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    script: Script,
    written: Vec<NewRecord>,
    held: Vec<(Acknowledge, Produced)>,
}

impl ScriptedBroker {
    pub(crate) fn follow(&self, script: Script) {
        self.state.lock().unwrap().script = script;
    }

    /// Every record that was written or is held, in order.
    pub(crate) fn records(&self) -> Vec<NewRecord> {
        self.state.lock().unwrap().written.clone()
    }

    /// How many wait.
    pub(crate) fn held(&self) -> usize {
        self.state.lock().unwrap().held.len()
    }

    /// Acknowledges what waits, last first, and writes what comes.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock().unwrap();
        state.script = Script::Write;
        for (acknowledge, produced) in state.held.drain(..).rev() {
            acknowledge.send(Ok(produced));
        }
    }
}

#[async_trait]
impl Broker for ScriptedBroker {
    fn produce(&self, record: NewRecord) -> Acknowledgement {
        if &*record.topic != "my-topic" {
            return Acknowledgement::failed(ProduceError::UnknownTopic { topic: record.topic });
        }
        let spread = || record.key.as_ref().map_or(0, |key| partition_for_key(key, PARTITIONS));
        let partition = record.partition.unwrap_or_else(spread);
        if partition >= PARTITIONS {
            let topic = record.topic;
            let partitions = PARTITIONS;
            return Acknowledgement::failed(ProduceError::UnknownPartition {
                topic,
                partition,
                partitions,
            });
        }
        let mut state = self.state.lock().unwrap();
        if let Script::Fail(error) = &state.script {
            return Acknowledgement::failed(error.clone());
        }
        let timestamp = record.timestamp.unwrap_or(1_700_000_000_000);
        let produced = Produced { partition, offset: state.written.len() as u64, timestamp };
        state.written.push(record);
        let (acknowledge, acknowledgement) = Acknowledgement::pair();
        match state.script {
            Script::Hold => state.held.push((acknowledge, produced)),
            _ => acknowledge.send(Ok(produced)),
        }
        acknowledgement
    }

    async fn partitions(&self, topic: &str) -> Result<u32, BrokerError> {
        match topic {
            "my-topic" => Ok(PARTITIONS),
            _ => Err(BrokerError::UnknownTopic(topic.into())),
        }
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, BrokerError> {
        Err(not_here())
    }

    async fn topic(&self, _: &str) -> Result<TopicInfo, BrokerError> {
        Err(not_here())
    }

    async fn ensure_topic(&self, _: &TopicSpec) -> Result<EnsuredTopic, BrokerError> {
        Err(not_here())
    }

    async fn records(
        &self,
        _: &TopicPartition,
        _: u64,
        _: usize,
    ) -> Result<Vec<Record>, BrokerError> {
        Err(not_here())
    }

    fn join(&self, _: MemberSpec) -> Result<Member, BrokerError> {
        Err(not_here())
    }

    async fn transactions(&self, _id: &str) -> Result<Box<dyn Transactions>, BrokerError> {
        unreachable!("callers write no transactions")
    }

    async fn group(&self, _: &str) -> Result<GroupInfo, BrokerError> {
        Err(not_here())
    }

    async fn offsets_at(&self, _: &str, _: u64) -> Result<Vec<u64>, BrokerError> {
        Err(not_here())
    }

    async fn set_committed(&self, _: &str, _: Vec<OffsetCommit>) -> Result<(), BrokerError> {
        Err(not_here())
    }

    async fn groups(&self) -> Result<Vec<String>, BrokerError> {
        Err(not_here())
    }

    fn health(&self) -> Health {
        Health::Ready
    }

    async fn close(&self, _: Duration) {}
}

fn not_here() -> BrokerError {
    BrokerError::Fatal("the data port has no use for this".into())
}

/// The selectors of a port, for its one topic.
pub(crate) fn selectors(selector: impl Selector) -> HashMap<Arc<str>, Arc<dyn Selector>> {
    HashMap::from([("my-topic".into(), Arc::new(selector) as Arc<dyn Selector>)])
}

/// The generation that every [`ScriptedSelector`] is.
pub(crate) fn generation() -> Generation {
    Generation { plugin: "scripted".into(), digest: [0xab; 32] }
}

/// A selector that always answers the same; `None`: never.
pub(crate) struct ScriptedSelector(pub Option<Result<Target, SelectError>>);

impl Selector for ScriptedSelector {
    fn select<'a>(
        &'a self,
        _: &'a NewRecord,
        _: u32,
    ) -> BoxFuture<'a, Result<Selection, SelectError>> {
        let Some(answer) = self.0.clone() else { return std::future::pending().boxed() };
        let selection = answer.map(|target| Selection { target, generation: generation() });
        std::future::ready(selection).boxed()
    }

    fn generation(&self) -> Generation {
        generation()
    }
}
