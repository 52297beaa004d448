//! A broker whose members are listened to on their way, and can be cut off.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use keyway::{
    broker::{
        Acknowledgement, Broker, BrokerError, Command, Commands, EnsuredTopic, GroupInfo, Health,
        Member, MemberDriver, MemberEvent, MemberSpec, OffsetCommit, TopicInfo, TopicSpec,
        Transactions,
    },
    record::{NewRecord, Record, TopicPartition},
};
use tokio::{
    sync::mpsc::{Receiver, Sender},
    task::AbortHandle,
};

use crate::audit::{Audit, Number};

pub(crate) struct Relay {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) member: Number,
    pub(crate) lines: Mutex<Vec<AbortHandle>>,
}

impl Relay {
    /// Takes the member away from who handles its records, in the middle of whatever they say to each other.
    pub(crate) fn cut(&self) {
        self.audit.kill(self.member);
        self.lines.lock().unwrap().iter().for_each(AbortHandle::abort);
    }
}

async fn events(
    audit: Arc<Audit>,
    member: Number,
    mut from: Receiver<MemberEvent>,
    to: Sender<MemberEvent>,
) {
    while let Some(event) = from.recv().await {
        audit.event(member, &event);
        if to.send(event).await.is_err() {
            return;
        }
    }
}

async fn commands(audit: Arc<Audit>, member: Number, mut from: Receiver<Command>, to: Commands) {
    while let Some(command) = from.recv().await {
        audit.command(member, &command);
        let to_too = to.clone();
        match command {
            // The first poll says it, in order; the rest waits for the answer.
            Command::Commit { offsets, done } => {
                let mut told = async move { done.send(to_too.commit(offsets).await).ok() }.boxed();
                if (&mut told).now_or_never().is_none() {
                    tokio::spawn(told);
                }
            }
            Command::Transact { records, offsets, done } => {
                let told = async move { done.send(to_too.transact(records, offsets).await).ok() };
                let mut told = told.boxed();
                if (&mut told).now_or_never().is_none() {
                    tokio::spawn(told);
                }
            }
            Command::Rewind(partitions) => to.rewind(partitions).await,
            Command::Pause(partitions) => to.pause(partitions).await,
            Command::Resume(partitions) => to.resume(partitions).await,
            Command::Seek { partition, offset } => to.seek(partition, offset).await,
            Command::Release(partitions) => to.release(partitions).await,
            Command::Leave => to.leave().await,
        }
    }
}

#[async_trait]
impl Broker for Relay {
    fn join(&self, spec: MemberSpec) -> Result<Member, BrokerError> {
        let inner = self.broker.join(spec)?;
        let (member, MemberDriver { events: to, commands: from }) = Member::pair();
        let (audit, number) = (&self.audit, self.member);
        let events = tokio::spawn(events(audit.clone(), number, inner.events, to));
        let commands = tokio::spawn(commands(audit.clone(), number, from, inner.commands));
        self.lines.lock().unwrap().extend([events.abort_handle(), commands.abort_handle()]);
        Ok(member)
    }

    fn produce(&self, record: NewRecord) -> Acknowledgement {
        self.broker.produce(record)
    }

    async fn partitions(&self, topic: &str) -> Result<u32, BrokerError> {
        self.broker.partitions(topic).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, BrokerError> {
        self.broker.topics().await
    }

    async fn topic(&self, name: &str) -> Result<TopicInfo, BrokerError> {
        self.broker.topic(name).await
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<EnsuredTopic, BrokerError> {
        self.broker.ensure_topic(spec).await
    }

    async fn records(
        &self,
        at: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Record>, BrokerError> {
        self.broker.records(at, offset, limit).await
    }

    async fn written(&self, at: &TopicPartition) -> Result<u64, BrokerError> {
        self.broker.written(at).await
    }

    async fn transactions(&self, id: &str) -> Result<Box<dyn Transactions>, BrokerError> {
        self.broker.transactions(id).await
    }

    async fn group(&self, id: &str) -> Result<GroupInfo, BrokerError> {
        self.broker.group(id).await
    }

    async fn offsets_at(&self, topic: &str, timestamp: u64) -> Result<Vec<u64>, BrokerError> {
        self.broker.offsets_at(topic, timestamp).await
    }

    async fn set_committed(
        &self,
        group: &str,
        offsets: Vec<OffsetCommit>,
    ) -> Result<(), BrokerError> {
        self.broker.set_committed(group, offsets).await
    }

    async fn groups(&self) -> Result<Vec<String>, BrokerError> {
        self.broker.groups().await
    }

    fn health(&self) -> Health {
        self.broker.health()
    }

    async fn close(&self, deadline: Duration) {
        self.broker.close(deadline).await;
    }
}
