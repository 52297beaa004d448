//! What whoever handles the records has a member do. What is to be committed is checked here, and goes on as an errand.

use std::{
    ops::ControlFlow::{self, Break, Continue},
    task::{Context, Poll},
};

use rdkafka::{Offset, consumer::Consumer as _};
use tokio::sync::oneshot;

use super::{
    super::{error, record, transactions::Offsets},
    Driver,
    errand::Transaction,
};
use crate::{
    broker::{Command, CommitError, MemberEvent, OffsetCommit, Produced, TransactError},
    record::{NewRecord, TopicPartition},
};

impl Driver {
    pub(super) fn serve_commands(&mut self) -> ControlFlow<Option<String>, bool> {
        let mut busy = false;
        loop {
            match self.commands.poll_recv(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => return Continue(busy),
                Poll::Ready(None | Some(Command::Leave)) => return Break(None),
                Poll::Ready(Some(command)) => self.obey(command),
            }
            busy = true;
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Commit { offsets, done } => self.commit(offsets, done),
            Command::Transact { records, offsets, done } => self.transact(records, offsets, done),
            Command::Rewind(partitions) => self.rewind(partitions),
            Command::Pause(partitions) => self.set_paused(&partitions, true),
            Command::Resume(partitions) => self.set_paused(&partitions, false),
            Command::Seek { partition, offset } => {
                if let Some(holding) = self.holdings.get_mut(&partition) {
                    let to = Offset::Offset(offset as i64);
                    holding.seeking = Some((to, MemberEvent::Sought { partition, offset }));
                }
            }
            Command::Release(partitions) => {
                self.drop_holdings(&partitions);
                self.revoking.retain(|partition| !partitions.contains(partition));
                if self.revoking.is_empty() {
                    self.give_up();
                }
            }
            Command::Leave => {} // served where commands are taken
        }
    }

    fn commit(&self, offsets: Vec<OffsetCommit>, done: oneshot::Sender<Result<(), CommitError>>) {
        match self.check(&offsets) {
            Ok(()) => self.errands.commit(offsets, done),
            Err(foreign) => drop(done.send(Err(foreign))), // nobody waits any more
        }
    }

    fn transact(
        &self,
        records: Vec<NewRecord>,
        offsets: Vec<OffsetCommit>,
        done: oneshot::Sender<Result<Vec<Produced>, TransactError>>,
    ) {
        match self.offsets(&offsets) {
            Ok(offsets) => self.errands.transact(Transaction { records, offsets, done }),
            Err(error) => drop(done.send(Err(error))), // nobody waits any more
        }
    }

    /// Offsets with the generation in which they are the member's.
    fn offsets(&self, offsets: &[OffsetCommit]) -> Result<Offsets, TransactError> {
        self.check(offsets)?;
        let none = || TransactError::Aborted("the member is not in its group now".into());
        let member = self.consumer.group_metadata().ok_or_else(none)?;
        // In this order: from a generation that was there before the assignment was lost Kafka takes nothing any more;
        // and none comes after it before this thread has answered the loss.
        if self.consumer.assignment_lost() {
            return Err(TransactError::Fenced(
                "the group has taken the member's partitions".into(),
            ));
        }
        let list = record::commits(offsets).map_err(|error| error::transaction(&error))?;
        Ok(Offsets { list, member })
    }

    fn check(&self, offsets: &[OffsetCommit]) -> Result<(), CommitError> {
        let foreign = offsets.iter().find(|offset| !self.holdings.contains(&offset.partition));
        foreign.map_or(Ok(()), |offset| Err(CommitError::NotOwned(offset.partition.to_string())))
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        for partition in partitions {
            if let Some(holding) = self.holdings.get_mut(partition) {
                holding.paused = paused;
            }
        }
    }
}
