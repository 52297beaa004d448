//! A broker that remembers what is written to it, for members that a test drives.

use std::{sync::Mutex, time::Duration};

use async_trait::async_trait;

use crate::{
    broker::{
        Acknowledge, Acknowledgement, Broker, BrokerError, EnsuredTopic, GroupInfo, Health, Member,
        MemberSpec, OffsetCommit, PartitionOffsets, ProduceError, Produced, TopicInfo, TopicSpec,
        Transactions,
    },
    record::{NewRecord, Record, TopicPartition},
};

/// The largest record that is taken.
const LARGEST: usize = 1 << 20;

/// Takes every record but those of a topic called `refused` and those that are too large, and remembers it. One of a topic
/// called `slow` is acknowledged when the test says so.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) produced: Mutex<Vec<NewRecord>>,
    /// The next so many records are not taken.
    pub(super) trouble: Mutex<u32>,
    /// What was written and is not acknowledged yet, while that is held back.
    pub(super) held: Mutex<Option<Vec<(Acknowledge, Produced)>>>,
    /// What was written to `slow` and is not acknowledged yet.
    pub(super) slow: Mutex<Vec<(Acknowledge, Produced)>>,
    /// The next so many looks at a topic fail.
    pub(super) blind: Mutex<u32>,
}

impl Memory {
    /// Acknowledges nothing that is written from now on.
    pub(super) fn hold(&self) {
        *self.held.lock().unwrap() = Some(Vec::new());
    }

    /// Acknowledges what was held back, and from now on everything at once.
    pub(super) fn let_go(&self) {
        let held = self.held.lock().unwrap().take();
        held.into_iter().flatten().for_each(|(acknowledge, at)| acknowledge.send(Ok(at)));
    }

    /// What was written to a topic, with offsets that have gaps where other topics were written to.
    pub(super) fn kept(&self, topic: &str) -> Vec<Record> {
        let produced = self.produced.lock().unwrap();
        let kept = produced.iter().zip(0..).filter(|(record, _)| *record.topic == *topic);
        kept.map(|(record, offset)| {
            let NewRecord { topic, partition, timestamp, key, value, headers } = record.clone();
            let partition = partition.unwrap_or(0);
            Record { topic, partition, offset, timestamp, key, value, headers }
        })
        .collect()
    }
}

#[async_trait]
impl Broker for Memory {
    fn produce(&self, record: NewRecord) -> Acknowledgement {
        if &*record.topic == "refused" {
            return Acknowledgement::failed(ProduceError::UnknownTopic { topic: record.topic });
        }
        let size = record.size();
        if size > LARGEST {
            return Acknowledgement::failed(ProduceError::TooLarge { size, limit: LARGEST });
        }
        let mut trouble = self.trouble.lock().unwrap();
        if *trouble > 0 {
            *trouble -= 1;
            return Acknowledgement::failed(ProduceError::Unavailable { reason: "down".into() });
        }
        let mut produced = self.produced.lock().unwrap();
        let (acknowledge, acknowledgement) = Acknowledgement::pair();
        let at = Produced { partition: 0, offset: produced.len() as u64, timestamp: 0 };
        match &mut *self.held.lock().unwrap() {
            _ if &*record.topic == "slow" => self.slow.lock().unwrap().push((acknowledge, at)),
            Some(held) => held.push((acknowledge, at)),
            None => acknowledge.send(Ok(at)),
        }
        produced.push(record);
        acknowledgement
    }

    async fn partitions(&self, _topic: &str) -> Result<u32, BrokerError> {
        Ok(3)
    }

    async fn ensure_topic(&self, _spec: &TopicSpec) -> Result<EnsuredTopic, BrokerError> {
        Ok(EnsuredTopic::Created)
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, BrokerError> {
        unreachable!("a member asks for no topics")
    }

    async fn topic(&self, name: &str) -> Result<TopicInfo, BrokerError> {
        let mut blind = self.blind.lock().unwrap();
        if *blind > 0 {
            *blind -= 1;
            return Err(BrokerError::Unavailable("down".into()));
        }
        match self.kept(name).last() {
            None => Err(BrokerError::UnknownTopic(name.into())),
            Some(last) => {
                let offsets = PartitionOffsets { beginning: 0, end: last.offset + 1 };
                Ok(TopicInfo { name: name.into(), partitions: vec![offsets; 3] })
            }
        }
    }

    async fn records(
        &self,
        at: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Record>, BrokerError> {
        let wanted = |record: &Record| record.partition == at.partition && record.offset >= offset;
        Ok(self.kept(&at.topic).into_iter().filter(wanted).take(limit).collect())
    }

    fn join(&self, _spec: MemberSpec) -> Result<Member, BrokerError> {
        unreachable!("the test is the driver")
    }

    async fn transactions(&self, _id: &str) -> Result<Box<dyn Transactions>, BrokerError> {
        unreachable!("a member's transactions are commands")
    }

    async fn group(&self, _id: &str) -> Result<GroupInfo, BrokerError> {
        unreachable!("a member asks for no group")
    }

    async fn offsets_at(&self, _topic: &str, _timestamp: u64) -> Result<Vec<u64>, BrokerError> {
        unreachable!("a member asks for no times")
    }

    async fn set_committed(
        &self,
        _group: &str,
        _offsets: Vec<OffsetCommit>,
    ) -> Result<(), BrokerError> {
        unreachable!("a member commits as a member")
    }

    async fn groups(&self) -> Result<Vec<String>, BrokerError> {
        unreachable!("a member asks for no groups")
    }

    fn health(&self) -> Health {
        Health::Ready
    }

    async fn close(&self, _deadline: Duration) {}
}
