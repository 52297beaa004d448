//! What waits for the writer: everything that arrives while it writes forms its next batch.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    catalog::Partition, commits, error::StoreError, placement::Placed, transactions::Transaction,
};
use crate::broker::{Acknowledge, CommitError, Committed, EnsuredTopic};

/// Requests that may wait.
const REQUESTS: usize = 65_536;
/// Bytes of records that may wait.
const BYTES: usize = 32 << 20;

/// Something for the writer to do.
#[derive(Debug)]
pub(super) enum Request {
    /// Write a record.
    Append(Append),
    /// Keep committed offsets.
    Commit {
        group: Arc<str>,
        offsets: commits::Offsets,
        done: oneshot::Sender<Result<(), CommitError>>,
    },
    /// Write records and keep committed offsets, all or nothing.
    Transact(Transaction),
    /// Tell what is committed, after the commits that were asked for before.
    Committed {
        group: Arc<str>,
        partitions: Vec<Arc<Partition>>,
        answer: Answer<Vec<Option<Committed>>>,
    },
    /// Create a topic where it is missing.
    EnsureTopic {
        name: Arc<str>,
        partitions: u32,
        keep_forever: bool,
        answer: Answer<EnsuredTopic>,
    },
}

/// Where the answer to a request goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// A record on its way to the writer.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) placed: Placed,
    pub(super) acknowledge: Acknowledge,
}

/// What [`Queue::take`] found.
pub(super) enum Taken {
    /// At least one request, in the order they came.
    Requests(Vec<Request>),
    /// Nothing, for as long as was waited.
    Nothing,
    /// Nothing, and nothing will come any more.
    Closed,
}

/// Why a request was not taken; it comes back.
#[derive(Debug)]
pub(super) struct Refused(pub(super) Box<Request>, pub(super) StoreError);

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requests: Vec<Request>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// Puts a request in. Never waits.
    pub(super) fn push(&self, request: Request) -> Result<(), Refused> {
        let mut state = self.state();
        let size = request.size();
        let reason = if state.closed {
            "the broker is closed"
        } else if state.requests.len() >= REQUESTS
            || (state.bytes > 0 && state.bytes + size > BYTES)
        {
            "the embedded broker's queue is full"
        } else {
            state.bytes += size;
            state.requests.push(request);
            self.filled.notify_one();
            return Ok(());
        };
        Err(Refused(Box::new(request), StoreError::Unavailable(reason.into())))
    }

    /// Takes everything that waits, or waits up to `patience` for something; `None`: as long as it takes.
    pub(super) fn take(&self, patience: Option<Duration>) -> Taken {
        let is_waiting = |state: &mut State| state.requests.is_empty() && !state.closed;
        let state = self.state();
        let mut state = match patience {
            None => {
                self.filled.wait_while(state, is_waiting).unwrap_or_else(PoisonError::into_inner)
            }
            Some(patience) => {
                self.filled
                    .wait_timeout_while(state, patience, is_waiting)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        if !state.requests.is_empty() {
            state.bytes = 0;
            return Taken::Requests(std::mem::take(&mut state.requests));
        }
        if state.closed { Taken::Closed } else { Taken::Nothing }
    }

    /// Takes no more requests. Those that wait are still served.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    fn size(&self) -> usize {
        match self {
            Self::Append(append) => append.placed.record.size(),
            Self::Transact(transaction) => {
                transaction.records.iter().map(|placed| placed.record.size()).sum()
            }
            _ => 0,
        }
    }

    /// Answers that it was not done.
    pub(super) fn fail(self, error: &StoreError) {
        match self {
            Self::Append(append) => append.acknowledge.send(Err(error.clone().into())),
            // Nobody waits any more: nobody to tell.
            Self::Commit { done, .. } => drop(done.send(Err(error.clone().into()))),
            Self::Transact(Transaction { done, .. }) => drop(done.send(Err(error.clone().into()))),
            Self::Committed { answer, .. } => drop(answer.send(Err(error.clone()))),
            Self::EnsureTopic { answer, .. } => drop(answer.send(Err(error.clone()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::catalog::Extent, *};
    use crate::{
        broker::Acknowledgement,
        record::{NewRecord, TopicPartition},
    };

    fn append(size: usize) -> (Request, Acknowledgement) {
        let empty = Extent { beginning: 0, end: 0, bytes: 0, oldest: 0 };
        let partition = Arc::new(Partition::new(0, 1, TopicPartition::new("topic", 0), empty));
        let record = NewRecord::new("topic", vec![0; size]);
        let (acknowledge, acknowledgement) = Acknowledgement::pair();
        let placed = Placed { partition, timestamp: 0, record };
        (Request::Append(Append { placed, acknowledge }), acknowledgement)
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_takes_more_when_it_is_emptied() {
        let queue = Queue::default();
        assert!(queue.push(append(BYTES - 10).0).is_ok());
        assert!(queue.push(append(10).0).is_ok());
        let Err(Refused(_, error)) = queue.push(append(1).0) else { panic!("it was taken") };
        assert_eq!(error.to_string(), "the embedded broker's queue is full");
        let Taken::Requests(batch) = queue.take(None) else { panic!("there is something") };
        assert_eq!(batch.len(), 2);
        assert!(queue.push(append(1).0).is_ok());
    }

    #[test]
    fn what_waits_is_counted_too() {
        let queue = Queue::default();
        for _ in 0..REQUESTS {
            assert!(queue.push(append(0).0).is_ok());
        }
        assert!(queue.push(append(0).0).is_err());
    }

    #[test]
    fn a_closed_queue_gives_out_what_it_has_and_takes_nothing() {
        let queue = Queue::default();
        assert!(queue.push(append(1).0).is_ok());
        queue.close();
        assert!(queue.push(append(1).0).is_err());
        assert!(matches!(queue.take(None), Taken::Requests(batch) if batch.len() == 1));
        assert!(matches!(queue.take(None), Taken::Closed));
    }
}
