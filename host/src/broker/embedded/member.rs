//! The driver of one member: a task that serves its commands, tells it what its group decides, and hands over records
//! as they come. Woken by the writer, by the coordinator and by its member; it polls nothing.

use std::{
    collections::VecDeque,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::{self, JoinHandle},
    time::sleep_until,
};

use super::{
    Shared,
    catalog::{Extent, Partition},
    coordinator::{Ticket, Told},
    error::StoreError,
    group::Notice,
    positions::{Positions, Readable},
    queue::{Refused, Request},
    store,
};
use crate::{
    broker::{Assigned, Command, Committed, MemberDriver, MemberEvent, MemberSpec},
    config::Start,
    record::{Record, TopicPartition},
};

/// Records of one run.
const RUN_RECORDS: usize = 512;
/// Bytes of one run, about: it ends with the record that reaches them.
const RUN_BYTES: usize = 1 << 20;
/// How long reading rests after the disk failed.
const REST: Duration = Duration::from_secs(1);

/// One member's driver.
pub(super) struct Driver {
    shared: Arc<Shared>,
    ticket: Ticket,
    start: Start,
    session: Duration,
    wake: Arc<Notify>,
    positions: Positions,
    /// Events that wait for room; at most one `Sought` a partition, and no two `Troubled` in a row.
    outbox: VecDeque<MemberEvent>,
    /// A run that waits for room, after everything in the outbox.
    run: Option<Run>,
    reading: Option<JoinHandle<Result<Run, StoreError>>>,
    assigning: Option<Asked>,
    rewinding: Option<Asked>,
    resting_until: Option<Instant>,
}

struct Run {
    partition: Arc<Partition>,
    from: u64,
    records: Vec<Record>,
}

/// Partitions that are the member's already, while their committed offsets are on their way.
struct Asked {
    partitions: Vec<Arc<Partition>>,
    answer: oneshot::Receiver<Result<Vec<Option<Committed>>, StoreError>>,
}

enum Ending {
    Left,
    Failed(String),
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, ticket: Ticket, spec: &MemberSpec) -> Self {
        let missing = spec.topics.iter().filter(|topic| shared.catalog.topic(topic).is_none());
        let trouble = |topic| MemberEvent::Troubled(format!("there is no topic {topic:?} yet"));
        let outbox = missing.map(trouble).collect();
        Self {
            session: shared.session,
            shared,
            ticket,
            start: spec.start,
            wake: Arc::new(Notify::new()),
            positions: Positions::default(),
            outbox,
            run: None,
            reading: None,
            assigning: None,
            rewinding: None,
            resting_until: None,
        }
    }

    /// Drives the member until it leaves or fails.
    pub(super) async fn drive(mut self, ends: MemberDriver) {
        let MemberDriver { events, mut commands } = ends;
        let ending = loop {
            if let ControlFlow::Break(ending) = self.step(&events, &mut commands).await {
                break ending;
            }
        };
        // Whoever waits for a command to be taken must not wait for a driver that only waits for it in turn.
        drop(commands);
        for partition in self.positions.partitions() {
            partition.forget(&self.wake);
        }
        self.shared.coordinator.leave(&self.ticket.group, self.ticket.number);
        if let Ending::Failed(reason) = ending {
            self.outbox.push_back(MemberEvent::Failed(reason));
            for event in self.outbox {
                if events.send(event).await.is_err() {
                    break;
                }
            }
        }
    }

    async fn step(
        &mut self,
        events: &mpsc::Sender<MemberEvent>,
        commands: &mut mpsc::Receiver<Command>,
    ) -> ControlFlow<Ending> {
        self.read_next();
        let has_event = !self.outbox.is_empty() || self.run.is_some();
        let timer = self.timer();
        tokio::select! {
            command = commands.recv() => match command {
                None | Some(Command::Leave) => ControlFlow::Break(Ending::Left),
                Some(command) => self.serve(command),
            },
            // One at a time, so that they stay in order; and a rewinding is not of what is assigned after it.
            Some(told) = self.ticket.told.recv(), if self.assigning.is_none() && self.rewinding.is_none() => {
                self.hear(told)
            }
            answer = maybe(self.assigning.as_mut().map(|assigning| &mut assigning.answer)) => {
                // The writer answers everything, but for a broker that was torn down.
                self.assign(answer.unwrap_or_else(|_| Err(closed())))
            }
            answer = maybe(self.rewinding.as_mut().map(|rewinding| &mut rewinding.answer)) => {
                self.rewound(answer.unwrap_or_else(|_| Err(closed())))
            }
            read = maybe(self.reading.as_mut()) => {
                self.reading = None;
                self.take(read.unwrap_or_else(|_| Err(closed())))
            }
            permit = events.reserve(), if has_event => match permit {
                Ok(permit) => {
                    if let Some(event) = self.next_event() {
                        permit.send(event);
                    }
                    ControlFlow::Continue(())
                }
                Err(_closed) => ControlFlow::Break(Ending::Left),
            },
            () = events.closed() => ControlFlow::Break(Ending::Left),
            () = self.wake.notified() => ControlFlow::Continue(()),
            () = sleep_until(timer.unwrap_or_else(Instant::now).into()), if timer.is_some() => {
                self.tick(Instant::now());
                ControlFlow::Continue(())
            }
        }
    }

    fn timer(&self) -> Option<Instant> {
        self.positions.deadline(self.session).into_iter().chain(self.resting_until).min()
    }

    fn tick(&mut self, now: Instant) {
        self.resting_until = self.resting_until.filter(|until| *until > now);
        let overdue = self.positions.overdue(self.session, now);
        if overdue.is_empty() {
            return;
        }
        tracing::warn!(
            group = %self.ticket.group,
            member = %self.ticket.id,
            partitions = ?overdue.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "A member did not give up revoked partitions in time; they are taken from it."
        );
        let lost = self.give_up(&overdue);
        self.outbox.push_back(MemberEvent::Lost(lost));
    }

    fn serve(&mut self, command: Command) -> ControlFlow<Ending> {
        match command {
            Command::Commit { offsets, done } => {
                self.shared.coordinator.commit(&self.ticket, offsets, done);
            }
            Command::Transact { records, offsets, done } => {
                self.shared.coordinator.transact(&self.ticket, records, offsets, done);
            }
            Command::Rewind(partitions) => return self.rewind(&partitions),
            Command::Pause(partitions) => self.positions.set_paused(&partitions, true),
            Command::Resume(partitions) => self.positions.set_paused(&partitions, false),
            Command::Seek { partition, offset } => {
                if let Some(offset) = self.positions.seek(&partition, offset) {
                    self.outbox.retain(|event| !is_sought(event, &partition));
                    self.outbox.push_back(MemberEvent::Sought { partition, offset });
                }
            }
            Command::Release(partitions) => drop(self.give_up(&partitions)),
            Command::Leave => {} // the loop ends with it
        }
        ControlFlow::Continue(())
    }

    fn give_up(&mut self, partitions: &[TopicPartition]) -> Vec<TopicPartition> {
        let Ticket { group, number, .. } = &self.ticket;
        let freed = self.shared.coordinator.release(group, *number, partitions);
        for partition in freed.iter().filter_map(|freed| self.positions.remove(freed)) {
            partition.forget(&self.wake);
        }
        freed
    }

    fn hear(&mut self, told: Told) -> ControlFlow<Ending> {
        match told {
            Told::Notice(Notice::Revoking(partitions)) => {
                self.positions.revoke(&partitions, Instant::now());
                self.outbox.push_back(MemberEvent::Revoking(partitions));
                ControlFlow::Continue(())
            }
            Told::Notice(Notice::Assigned(partitions)) => {
                let known = partitions.iter().filter_map(|it| self.shared.catalog.partition(it));
                self.ask_committed(known.collect())
            }
            Told::Replaced => {
                let lost = self.positions.partitions().map(|it| it.name.clone()).collect();
                self.outbox.push_back(MemberEvent::Lost(lost));
                let reason = "another member has joined with the same instance id";
                ControlFlow::Break(Ending::Failed(reason.into()))
            }
        }
    }

    fn ask_committed(&mut self, partitions: Vec<Arc<Partition>>) -> ControlFlow<Ending> {
        match self.ask(partitions) {
            Ok(asked) => {
                self.assigning = Some(asked);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Ending::Failed(error.to_string())),
        }
    }

    /// Asks what is committed through the writer, which answers after the commits that came before: those of the former
    /// owner.
    fn ask(&self, partitions: Vec<Arc<Partition>>) -> Result<Asked, StoreError> {
        let (sender, answer) = oneshot::channel();
        let group = self.ticket.group.clone();
        let request = Request::Committed { group, partitions: partitions.clone(), answer: sender };
        self.shared.queue.push(request).map_err(|Refused(_, error)| error)?;
        Ok(Asked { partitions, answer })
    }

    fn rewind(&mut self, partitions: &[TopicPartition]) -> ControlFlow<Ending> {
        let known = partitions.iter().filter_map(|name| self.positions.began(name));
        let mut known: Vec<_> = known.map(|(partition, _)| partition.clone()).collect();
        known.extend(self.rewinding.take().into_iter().flat_map(|asked| asked.partitions));
        match self.ask(known) {
            Ok(asked) => {
                self.rewinding = Some(asked);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Ending::Failed(error.to_string())),
        }
    }

    fn rewound(
        &mut self,
        answer: Result<Vec<Option<Committed>>, StoreError>,
    ) -> ControlFlow<Ending> {
        let Some(Asked { partitions, .. }) = self.rewinding.take() else {
            return ControlFlow::Continue(());
        };
        let committed = match answer {
            Ok(committed) => committed,
            Err(error) => return ControlFlow::Break(Ending::Failed(error.to_string())),
        };
        for (partition, committed) in partitions.into_iter().zip(committed) {
            let Some((_, began)) = self.positions.began(&partition.name) else { continue };
            let (next, committed) = match committed {
                Some(_) => self.begin(&partition, committed),
                None => (began, None),
            };
            self.positions.seek(&partition.name, next);
            let partition = partition.name.clone();
            self.outbox.push_back(MemberEvent::Rewound(Assigned { partition, committed }));
        }
        ControlFlow::Continue(())
    }

    fn assign(
        &mut self,
        answer: Result<Vec<Option<Committed>>, StoreError>,
    ) -> ControlFlow<Ending> {
        let Some(Asked { partitions, .. }) = self.assigning.take() else {
            return ControlFlow::Continue(());
        };
        let committed = match answer {
            Ok(committed) => committed,
            Err(error) => return ControlFlow::Break(Ending::Failed(error.to_string())),
        };
        let mut assigned = Vec::with_capacity(partitions.len());
        for (partition, committed) in partitions.into_iter().zip(committed) {
            partition.wake(&self.wake);
            let (next, committed) = self.begin(&partition, committed);
            assigned.push(Assigned { partition: partition.name.clone(), committed });
            self.positions.insert(partition, next);
        }
        let member_id = self.ticket.id.clone();
        self.outbox.push_back(MemberEvent::Assigned { member_id, partitions: assigned });
        ControlFlow::Continue(())
    }

    /// Where a partition begins, and what counts as committed.
    fn begin(
        &self,
        partition: &Partition,
        committed: Option<Committed>,
    ) -> (u64, Option<Committed>) {
        let Extent { beginning, end, .. } = partition.extent();
        let start = match self.start {
            Start::Earliest => beginning,
            Start::Latest => end,
        };
        let Some(committed) = committed else { return (start, None) };
        let (group, offset) = (&self.ticket.group, committed.offset);
        if offset < beginning {
            tracing::warn!(%group, partition = %partition.name, committed = offset, beginning,
                "Retention has removed records that this group has not handled; it goes on behind them.");
            return (beginning, Some(committed));
        }
        if offset > end {
            tracing::warn!(%group, partition = %partition.name, committed = offset, end, start,
                "The group has committed an offset that the partition has not reached, so it says nothing about \
                 these records; the group begins as if it had committed none. Was an older log put back?");
            return (start, None);
        }
        (offset, Some(committed))
    }

    fn read_next(&mut self) {
        if let Some(run) = &self.run
            && !self.positions.is_at(&run.partition.name, run.from)
        {
            self.run = None; // paused, revoked or sought meanwhile; it is read again when it is wanted
        }
        if self.reading.is_some() || self.run.is_some() || self.resting_until.is_some() {
            return;
        }
        let Some(Readable { partition, from, end }) = self.positions.next_readable() else {
            return;
        };
        let shared = self.shared.clone();
        self.reading = Some(task::spawn_blocking(move || {
            let records = shared.readers.with(|connection| {
                store::read(connection, &partition, (from, end), RUN_RECORDS, RUN_BYTES)
            })?;
            Ok(Run { partition, from, records })
        }));
    }

    fn take(&mut self, read: Result<Run, StoreError>) -> ControlFlow<Ending> {
        let run = match read {
            Ok(run) => run,
            Err(error @ StoreError::Damaged(_)) => {
                tracing::error!(group = %self.ticket.group, %error, "Records cannot be read.");
                return ControlFlow::Break(Ending::Failed(error.to_string()));
            }
            Err(error) => {
                self.resting_until = Some(Instant::now() + REST);
                if !matches!(self.outbox.back(), Some(MemberEvent::Troubled(_))) {
                    self.outbox.push_back(MemberEvent::Troubled(error.to_string()));
                }
                return ControlFlow::Continue(());
            }
        };
        if !self.positions.is_at(&run.partition.name, run.from) {
            return ControlFlow::Continue(());
        }
        let beginning = run.partition.extent().beginning;
        let first = run.records.first().map_or(beginning, |record| record.offset);
        if first > run.from {
            tracing::warn!(group = %self.ticket.group, partition = %run.partition.name, from = run.from, to = first,
                "Retention has removed records that this group has not read; it goes on behind them.");
        }
        if run.records.is_empty() {
            self.positions.advance(&run.partition.name, first.max(run.from));
        } else {
            self.run = Some(run);
        }
        ControlFlow::Continue(())
    }

    fn next_event(&mut self) -> Option<MemberEvent> {
        if let Some(event) = self.outbox.pop_front() {
            return Some(event);
        }
        let run = self.run.take()?;
        let last = run.records.last()?.offset;
        self.positions.advance(&run.partition.name, last + 1);
        Some(MemberEvent::Records(run.records))
    }
}

fn is_sought(event: &MemberEvent, of: &TopicPartition) -> bool {
    matches!(event, MemberEvent::Sought { partition, .. } if partition == of)
}

fn closed() -> StoreError {
    StoreError::Unavailable("the broker is closed".into())
}

/// The future's result, or never where there is none.
async fn maybe<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
