//! A broker and a process that are only told about.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::super::{
    Choice, Local, SteerError,
    dead_letters::Through,
    preview, replay,
    snapshot::{Range, ReplayLine, View, example},
};
use crate::{
    broker::{
        Acknowledgement, Broker, BrokerError, EnsuredTopic, GroupInfo, Health, Member, MemberSpec,
        OffsetCommit, ProduceError, TopicInfo, TopicSpec, Transactions,
    },
    config::{Source, Terms},
    dispatch::{Pause, Pauses, Scope},
    plugin::GenerationError,
    produce::Skew,
    record::{NewRecord, Record, TopicPartition},
};

/// Knows the example's topic and group; partition 0 has three records, the last of them no text.
pub(super) struct ToldBroker {
    pub(super) down: bool,
}

impl ToldBroker {
    fn answer<T>(&self, answer: T) -> Result<T, BrokerError> {
        if self.down {
            Err(BrokerError::Unavailable("connection refused".into()))
        } else {
            Ok(answer)
        }
    }
}

#[async_trait]
impl Broker for ToldBroker {
    fn produce(&self, _record: NewRecord) -> Acknowledgement {
        Acknowledgement::failed(ProduceError::Unavailable { reason: "only told about".into() })
    }

    async fn partitions(&self, _topic: &str) -> Result<u32, BrokerError> {
        self.answer(3)
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, BrokerError> {
        self.answer(vec![example::my_topic()])
    }

    async fn topic(&self, name: &str) -> Result<TopicInfo, BrokerError> {
        match name {
            "my-topic" => self.answer(example::my_topic()),
            _ => Err(BrokerError::UnknownTopic(name.into())),
        }
    }

    async fn ensure_topic(&self, _spec: &TopicSpec) -> Result<EnsuredTopic, BrokerError> {
        self.answer(EnsuredTopic::Existed)
    }

    async fn records(
        &self,
        at: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Record>, BrokerError> {
        if at.partition > 2 {
            return Err(BrokerError::UnknownPartition(at.clone()));
        }
        let value = |offset| if offset == 2 { b"\xff".as_slice() } else { b"text" };
        let record = |offset| Record {
            topic: at.topic.clone(),
            partition: at.partition,
            offset,
            timestamp: None,
            key: None,
            value: Some(bytes::Bytes::from_static(value(offset))),
            headers: Vec::new(),
        };
        self.answer((offset..3).take(limit).map(record).collect())
    }

    fn join(&self, _spec: MemberSpec) -> Result<Member, BrokerError> {
        Err(BrokerError::Unavailable("only told about".into()))
    }

    async fn transactions(&self, _id: &str) -> Result<Box<dyn Transactions>, BrokerError> {
        unreachable!("nothing here is written")
    }

    async fn group(&self, id: &str) -> Result<GroupInfo, BrokerError> {
        match id {
            "my-topic-group-1" => self.answer(example::group_info()),
            _ => Err(BrokerError::UnknownGroup(id.into())),
        }
    }

    async fn offsets_at(&self, _topic: &str, timestamp: u64) -> Result<Vec<u64>, BrokerError> {
        self.answer(vec![timestamp / 1000, 6, 0])
    }

    async fn set_committed(
        &self,
        group: &str,
        _offsets: Vec<OffsetCommit>,
    ) -> Result<(), BrokerError> {
        Err(BrokerError::GroupHasMembers(group.into()))
    }

    async fn groups(&self) -> Result<Vec<String>, BrokerError> {
        self.answer(vec!["my-topic-group-1".into()])
    }

    fn health(&self) -> Health {
        if self.down { Health::Unavailable("connection refused".into()) } else { Health::Ready }
    }

    async fn close(&self, _deadline: std::time::Duration) {}
}

/// Remembers what it was told to do with its group.
#[derive(Default)]
pub(super) struct ToldProcess {
    pauses: Mutex<Pauses>,
    pub(super) sought: Mutex<BTreeMap<TopicPartition, u64>>,
}

fn runs(group: &str) -> Result<(), SteerError> {
    if group == "my-topic-group-1" { Ok(()) } else { Err(SteerError::NotHere) }
}

#[async_trait]
impl Local for ToldProcess {
    fn view(&self) -> View {
        let mut view = example::view();
        view.groups[0].pauses = Arc::new(self.pauses.lock().unwrap().clone());
        view
    }

    fn skew(&self, topic: &str) -> Option<Skew> {
        (topic == "my-topic").then(example::skew)
    }

    fn skews(&self) -> Vec<(Arc<str>, Skew)> {
        vec![("my-topic".into(), example::skew())]
    }

    async fn pause(
        &self,
        group: &str,
        scope: &Scope,
        by: Option<String>,
    ) -> Result<(), SteerError> {
        runs(group)?;
        let since = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        self.pauses.lock().unwrap().pause(scope, &Pause { since, by });
        Ok(())
    }

    async fn resume(&self, group: &str, scope: &Scope) -> Result<(), SteerError> {
        runs(group)?;
        let resumed = self.pauses.lock().unwrap().resume(scope);
        resumed.map_err(|error| SteerError::Conflict(error.to_string()))
    }

    async fn seek(
        &self,
        group: &str,
        offsets: BTreeMap<TopicPartition, u64>,
    ) -> Result<(), SteerError> {
        runs(group)?;
        self.sought.lock().unwrap().extend(offsets);
        Ok(())
    }

    async fn choose(&self, plugin: &str, choice: Choice) -> Result<(), GenerationError> {
        if plugin != "print" {
            return Err(GenerationError::UnknownPlugin(plugin.into()));
        }
        let plugin = plugin.into();
        match choice {
            Choice::RollBack { to: None } => Ok(()),
            Choice::RollBack { to: Some(given) } => {
                Err(GenerationError::UnknownGeneration { plugin, given })
            }
            Choice::Try { group, canary } => {
                assert_eq!(canary.source, Source::File("new.wasm".into()));
                let terms = Terms { percent: 7, slower: 2, ..Terms::default() };
                assert_eq!((group.as_deref(), canary.terms), (Some("g"), terms));
                Ok(())
            }
            Choice::Shadow { group, source } => {
                assert_eq!(
                    (group.as_deref(), source),
                    (Some("g"), Source::Generation("77".into()))
                );
                Ok(())
            }
            Choice::Promote { generation } => {
                assert_eq!(generation.as_deref(), Some("0e0e"));
                Err(GenerationError::NotTried(plugin))
            }
            Choice::Abort { reason, .. } => Err(GenerationError::Unusable(reason)),
        }
    }

    async fn replay(&self, request: replay::Request, lines: mpsc::Sender<ReplayLine>) {
        let range =
            Range { topic: request.topic.unwrap_or_default(), partition: 0, from: 3, to: 5 };
        let (handler, into) = ("print@0a0a0a0a0a0a".to_owned(), request.into);
        let begin = ReplayLine::Begin { handler, into, ranges: vec![range] };
        let end = ReplayLine::End { handled: 2, written: 2, not_handled: 0, error: None };
        lines.send(begin).await.unwrap();
        lines.send(end).await.unwrap();
    }

    async fn through(&self, plugin: &str) -> Result<Arc<dyn Through>, String> {
        Err(format!("there is no plugin {plugin:?}"))
    }

    async fn selectors(
        &self,
        topic: &str,
        other: &preview::Other,
    ) -> Result<preview::Sides, GenerationError> {
        match other {
            preview::Other::Caller => Ok(preview::Sides { serving: None, other: None }),
            _ => Err(GenerationError::NoSelector(topic.into())),
        }
    }

    fn not_ready(&self) -> Vec<String> {
        Vec::new()
    }
}
