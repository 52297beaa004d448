//! Looking at what the broker keeps, past the gateways: topics and committed offsets. The embedded broker's file is looked
//! at in a copy, while its process is down.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use keyway::{
    broker::{Broker, BrokerError, embedded::Embedded, kafka::Kafka},
    config::Retention,
    dispatch::OffsetMap,
    letter::{self, Entry},
    record::{Record, TopicPartition},
};
use tokio::runtime::Runtime;

use crate::{
    error::Result,
    history::{Commit, Kept, Letter, Spot},
};

/// Records of one look.
const LOOK: usize = 1000;
/// How long a broker may not answer, and how long to wait before it is asked again.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);

/// Looks at one broker.
pub(crate) struct Observer {
    runtime: Runtime,
    broker: Arc<dyn Broker>,
}

impl Observer {
    /// Of the Kafka at this address.
    pub(crate) fn of_kafka(address: &str) -> Result<Self> {
        let runtime = Runtime::new()?;
        let broker = Arc::new(Kafka::connect(address, &BTreeMap::new())?);
        Ok(Self { runtime, broker })
    }

    /// Of a copy of what an embedded broker left in `data`; the copy is made in `copy`, in place of what was there.
    pub(crate) fn of_embedded(data: &Path, copy: &Path) -> Result<Self> {
        if copy.exists() {
            fs::remove_dir_all(copy)?;
        }
        fs::create_dir(copy)?;
        for entry in fs::read_dir(data)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), copy.join(entry.file_name()))?;
            }
        }
        let runtime = Runtime::new()?;
        let unlimited = Retention { time: None, bytes: None };
        let broker = Arc::new(Embedded::open(copy, unlimited)?);
        Ok(Self { runtime, broker })
    }

    /// What a group has committed. Where the broker does not answer now, it is asked until it does.
    pub(crate) fn all_commits(&self, group: &str) -> Result<Vec<Commit>> {
        patiently(|| self.commits(group))
    }

    /// What a group has committed, if the broker answers now.
    pub(crate) fn commits(&self, group: &str) -> Result<Vec<Commit>> {
        let found = match self.runtime.block_on(self.broker.group(group)) {
            Ok(group) => group.committed,
            Err(BrokerError::UnknownGroup(_)) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let commits = found.into_iter().map(|(partition, committed)| {
            let map = OffsetMap::decode(committed.offset, &committed.metadata)?;
            Ok(Commit { at, partition: partition.partition, offset: committed.offset, map })
        });
        commits.collect()
    }

    /// What the source topic keeps.
    pub(crate) fn source(&self, topic: &str) -> Result<BTreeMap<Spot, Kept>> {
        let kept = |record: Record| {
            let key = record.key.as_deref().map(text);
            let id = text(record.value.as_deref().unwrap_or_default());
            (Spot::new(record.partition, record.offset), Kept { key, id })
        };
        Ok(self.records(topic)?.into_iter().map(kept).collect())
    }

    /// The ids in the output topic.
    pub(crate) fn output(&self, topic: &str) -> Result<Vec<String>> {
        let id = |record: Record| text(record.value.as_deref().unwrap_or_default());
        Ok(self.records(topic)?.into_iter().map(id).collect())
    }

    /// The letters in a topic, which need not be there.
    pub(crate) fn letters(&self, topic: &str) -> Result<Vec<Letter>> {
        let letter = |record: Record| match letter::read(&record)? {
            Entry::Letter(it) => Some(Letter {
                source: Spot::new(it.source.partition.partition, it.source.offset),
                offset: record.offset,
                at: it.rejected_at.duration_since(SystemTime::UNIX_EPOCH).ok()?,
            }),
            Entry::Mark(_) | Entry::Sought(_) => None,
        };
        Ok(self.records(topic)?.into_iter().filter_map(letter).collect())
    }

    /// All records of a topic that a reader of what is committed sees, once no transaction is open there any more. Where
    /// the brokers do not agree yet on who leads it, they are asked until they do.
    fn records(&self, topic: &str) -> Result<Vec<Record>> {
        patiently(|| self.runtime.block_on(self.records_now(topic)))
    }

    async fn records_now(&self, topic: &str) -> Result<Vec<Record>> {
        let partitions = match self.broker.topic(topic).await {
            Ok(topic) => topic.partitions,
            Err(BrokerError::UnknownTopic(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut all = Vec::new();
        for number in 0..partitions.len() {
            let at = TopicPartition::new(topic, u32::try_from(number)?);
            self.wait_for_transactions(&at).await?;
            let mut next = 0;
            loop {
                let records = self.broker.records(&at, next, LOOK).await?;
                let Some(last) = records.last() else { break };
                next = last.offset + 1;
                all.extend(records);
            }
        }
        Ok(all)
    }

    /// Waits until what is committed reaches as far as what is written. Kafka aborts what its writer has left open.
    async fn wait_for_transactions(&self, at: &TopicPartition) -> Result<()> {
        let written = self.broker.written(at).await?;
        let end = Instant::now() + PATIENCE;
        loop {
            let topic = self.broker.topic(&at.topic).await?;
            let stable = topic.partitions[at.partition as usize].end;
            if stable >= written {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(
                    format!("a transaction is open in {at} from {stable} on for ever").into()
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.runtime.block_on(self.broker.close(Duration::from_secs(5)));
    }
}

/// Asks until there is an answer, or nobody has the patience any more.
fn patiently<T>(ask: impl Fn() -> Result<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(_) if Instant::now() < end => thread::sleep(PAUSE),
            result => return result,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
