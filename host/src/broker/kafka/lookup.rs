//! Asking how many partitions a topic has: the directory, and the observer that fills it.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot::error::TryRecvError;

use super::{directory::Directory, query::PATIENCE, wake::Wakeup};
use crate::{
    broker::{BrokerError, ProduceError},
    record::NewRecord,
};

/// Between two looks whether the answer is there, for a thread that waits for it.
const NAP: Duration = Duration::from_millis(2);

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    pub(super) directory: Arc<Directory>,
    /// Wakes the observer.
    pub(super) observer: Arc<Wakeup>,
}

impl Lookup {
    /// How many partitions a topic has as the next look at the cluster says.
    pub(super) async fn ask(&self, topic: &str) -> Result<u32, BrokerError> {
        let answer = self.directory.ask(topic);
        self.observer.wake();
        answer.await.map_err(|_closed| closed())?
    }

    /// How many partitions the topic of a record has, if it has the one that the record is for. From memory, or else
    /// blocking for [`PATIENCE`] at most.
    pub(super) fn fit(&self, record: &NewRecord) -> Result<u32, ProduceError> {
        let wanted = record.partition.unwrap_or(0);
        if let Some(partitions) = self.directory.partitions(&record.topic)
            && wanted < partitions
        {
            return Ok(partitions);
        }
        let topic = record.topic.clone();
        match self.wait(&record.topic) {
            Ok(partitions) if wanted < partitions => Ok(partitions),
            Ok(partitions) => {
                Err(ProduceError::UnknownPartition { topic, partition: wanted, partitions })
            }
            Err(BrokerError::UnknownTopic(_)) => Err(ProduceError::UnknownTopic { topic }),
            Err(error) => Err(ProduceError::Unavailable { reason: error.to_string() }),
        }
    }

    fn wait(&self, topic: &str) -> Result<u32, BrokerError> {
        let mut answer = self.directory.ask(topic);
        self.observer.wake();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match answer.try_recv() {
                Ok(answer) => return answer,
                Err(TryRecvError::Empty) if Instant::now() < deadline => thread::sleep(NAP),
                Err(_closed_or_late) => return Err(closed()),
            }
        }
    }
}

fn closed() -> BrokerError {
    BrokerError::Unavailable("the connection to Kafka is closed".into())
}
