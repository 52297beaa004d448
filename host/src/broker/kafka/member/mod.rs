//! One member of a group, on a thread of its own, with two librdkafka clients: one is the member, the other fetches.
//!
//! The thread serves, in turn, the commands of whoever handles the records, what librdkafka tells of the group, and the
//! records; and sleeps until one of the three has something. It never waits for Kafka: what has to is an errand.
//!
//! Invariant: between a [`MemberEvent::Revoking`] and the release that answers it librdkafka is not told that the
//! partitions were given up, so nobody else gets them; after it they are not the member's, and a commit is refused
//! without asking.

mod context;
mod errand;
mod holdings;

use std::{
    collections::VecDeque,
    ops::ControlFlow::{self, Break, Continue},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
};
use tokio::sync::oneshot;
use tokio_util::sync::PollSender;

use self::{
    context::{MemberContext, Notice},
    errand::{Beginnings, Errandee, Errands},
    holdings::Holdings,
};
use super::{
    error,
    settings::{Settings, client_id},
    wake::Wakeup,
};
use crate::{
    broker::{
        Assigned, BrokerError, Command, CommitError, Member, MemberDriver, MemberEvent, MemberSpec,
        OffsetCommit,
    },
    record::TopicPartition,
};

type MemberConsumer = BaseConsumer<MemberContext>;

/// The longest sleep: whatever might be missed is seen after this.
const NAP: Duration = Duration::from_millis(100);
/// How long an errand that failed waits before the next try.
const AGAIN: Duration = Duration::from_millis(500);
/// How long the last commits may take when the member leaves.
const LAST_COMMITS: Duration = Duration::from_secs(5);
/// The same trouble is told again only after this.
const TROUBLE: Duration = Duration::from_secs(10);

/// Starts one more member.
pub(super) fn join(
    settings: &Settings,
    process: &str,
    spec: MemberSpec,
) -> Result<Member, BrokerError> {
    static JOINED: AtomicU64 = AtomicU64::new(0);
    let number = JOINED.fetch_add(1, Relaxed); // tells a member from one that had its index before
    let client_id = client_id(process, &format!("{}.{number}", spec.index));
    let wakeup = Arc::new(Wakeup::default());
    let fetcher = settings.fetcher(&spec, &client_id);
    let fetcher = consumer(&fetcher, &wakeup).map_err(error::client)?;
    let consumer = settings.membership(&spec, &client_id);
    let consumer = self::consumer(&consumer, &wakeup).map_err(error::client)?;
    let topics: Vec<&str> = spec.topics.iter().map(AsRef::as_ref).collect();
    consumer.subscribe(&topics).map_err(|error| {
        BrokerError::Fatal(format!("joining group {:?}: {}", spec.group, error::text(&error)))
    })?;
    let (member, MemberDriver { events, commands }) = Member::pair();
    let start = move || {
        wakeup.is_here();
        let errands = Errands::start(Errandee {
            consumer: Arc::clone(&consumer),
            group: Arc::clone(&spec.group),
            client_id,
            start: spec.start,
            wakeup: Arc::clone(&wakeup),
        });
        let driver = Driver {
            waker: wakeup.waker(),
            consumer,
            events: PollSender::new(events),
            commands,
            outbox: VecDeque::new(),
            holdings: Holdings::new(fetcher, wakeup),
            revoking: Vec::new(),
            open: false,
            assigning: None,
            errands,
            trouble: None,
        };
        driver.run();
    };
    thread::Builder::new().name("kafka-member".into()).spawn(start).map_err(|error| {
        BrokerError::Unavailable(format!("no thread for a member of the group: {error}"))
    })?;
    Ok(member)
}

fn consumer(config: &ClientConfig, wakeup: &Arc<Wakeup>) -> KafkaResult<Arc<MemberConsumer>> {
    let mut consumer: MemberConsumer = config.create_with_context(MemberContext::default())?;
    let nonempty = Arc::clone(wakeup);
    consumer.set_nonempty_callback(move || nonempty.wake());
    Ok(Arc::new(consumer))
}

/// What librdkafka has to tell next. Records have queues of their own, so all that comes by this one are events, which the
/// context keeps.
fn next(consumer: &MemberConsumer) -> Option<Notice> {
    while consumer.poll(Duration::ZERO).is_some() || consumer.context().served() {}
    consumer.context().next()
}

struct Driver {
    /// The member.
    consumer: Arc<MemberConsumer>,
    waker: Waker,
    events: PollSender<MemberEvent>,
    commands: tokio::sync::mpsc::Receiver<Command>,
    /// Events that wait for room. While there are any, no records are drained and librdkafka is not polled.
    outbox: VecDeque<MemberEvent>,
    holdings: Holdings,
    /// Partitions of the revocation that is open, which are not released yet.
    revoking: Vec<TopicPartition>,
    /// Whether librdkafka waits for an answer to a revocation.
    open: bool,
    /// Partitions of the assignment that is open, and when to ask again where they begin; `None`: it is being asked.
    assigning: Option<(Vec<TopicPartition>, Option<Instant>)>,
    errands: Errands,
    /// The trouble that was told last, and when.
    trouble: Option<(String, Instant)>,
}

impl Driver {
    fn run(mut self) {
        let ended = loop {
            match self.turn() {
                Continue(true) => {}
                Continue(false) => thread::park_timeout(NAP),
                Break(failure) => break failure,
            }
        };
        self.leave(ended);
    }

    /// Serves whatever there is, once. Says whether there was anything; breaks when the member is to end, with what
    /// failed if anything did.
    fn turn(&mut self) -> ControlFlow<Option<String>, bool> {
        let mut busy = self.serve_commands()?;
        if self.outbox.is_empty() {
            busy |= self.serve_librdkafka()?;
            busy |= self.serve_beginnings();
            let sought = self.holdings.seek().into_iter();
            self.outbox.extend(
                sought.map(|(partition, offset)| MemberEvent::Sought { partition, offset }),
            );
        }
        busy |= self.hand_over()?;
        Continue(busy)
    }

    fn serve_commands(&mut self) -> ControlFlow<Option<String>, bool> {
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
            Command::Pause(partitions) => self.set_paused(&partitions, true),
            Command::Resume(partitions) => self.set_paused(&partitions, false),
            Command::Seek { partition, offset } => {
                if let Some(holding) = self.holdings.get_mut(&partition) {
                    holding.seeking = Some(offset);
                }
            }
            Command::Release(partitions) => {
                self.holdings.remove(&partitions);
                self.revoking.retain(|partition| !partitions.contains(partition));
                if self.revoking.is_empty() {
                    self.give_up();
                }
            }
            Command::Leave => {} // served where commands are taken
        }
    }

    fn commit(&self, offsets: Vec<OffsetCommit>, done: oneshot::Sender<Result<(), CommitError>>) {
        let foreign = offsets.iter().find(|offset| !self.holdings.contains(&offset.partition));
        match foreign {
            Some(offset) => {
                let partition = offset.partition.to_string();
                done.send(Err(CommitError::NotOwned(partition))).ok(); // nobody waits any more
            }
            None => self.errands.commit(offsets, done),
        }
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        for partition in partitions {
            if let Some(holding) = self.holdings.get_mut(partition) {
                holding.paused = paused;
            }
        }
    }

    /// Serves what librdkafka has to tell, in order.
    fn serve_librdkafka(&mut self) -> ControlFlow<Option<String>, bool> {
        let mut busy = false;
        while let Some(notice) = next(&self.consumer).or_else(|| next(self.holdings.fetcher())) {
            busy = true;
            match notice {
                Notice::Assign(partitions) => self.begin(partitions),
                Notice::Revoke(partitions) => self.revoke(partitions),
                Notice::Lost(partitions) => self.lose(partitions),
                Notice::Trouble(text) => self.tell_trouble(text),
                Notice::Fatal(text) => return Break(Some(text)),
            }
        }
        Continue(busy)
    }

    fn begin(&mut self, partitions: Vec<TopicPartition>) {
        let taken = self.errands.begin(partitions.clone());
        let again = if taken { None } else { Some(Instant::now() + AGAIN) };
        self.assigning = Some((partitions, again));
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>) {
        for partition in &partitions {
            if let Some(holding) = self.holdings.get_mut(partition) {
                holding.revoking = true;
            }
        }
        self.open = true;
        if partitions.is_empty() {
            return self.give_up();
        }
        self.revoking.clone_from(&partitions);
        self.outbox.push_back(MemberEvent::Revoking(partitions));
    }

    fn lose(&mut self, partitions: Vec<TopicPartition>) {
        self.holdings.remove(&partitions);
        self.revoking.clear();
        self.open = true;
        self.give_up();
        if !partitions.is_empty() {
            self.outbox.push_back(MemberEvent::Lost(partitions));
        }
    }

    /// Tells the group that the partitions of the open revocation are given up.
    fn give_up(&mut self) {
        if std::mem::take(&mut self.open) {
            context::answer(&self.consumer, false);
        }
    }

    /// Takes the partitions whose beginnings have come.
    fn serve_beginnings(&mut self) -> bool {
        if let Some((partitions, Some(again))) = &self.assigning
            && Instant::now() >= *again
        {
            let partitions = partitions.clone();
            self.begin(partitions);
        }
        match self.errands.beginnings() {
            None => return false,
            Some(Ok(beginnings)) => self.assign(beginnings),
            Some(Err(reason)) => {
                if let Some((_, again)) = &mut self.assigning {
                    *again = Some(Instant::now() + AGAIN);
                }
                self.tell_trouble(reason);
            }
        }
        true
    }

    fn assign(&mut self, Beginnings { member_id, partitions }: Beginnings) {
        if self.assigning.take().is_none() {
            return; // lost meanwhile
        }
        let begin: Vec<_> =
            partitions.iter().map(|(partition, _, offset)| (partition.clone(), *offset)).collect();
        if let Err(error) = self.holdings.add(&begin) {
            tracing::error!(%error, "Partitions that the group has given cannot be fetched.");
        }
        context::answer(&self.consumer, true);
        self.trouble = None;
        let assigned = partitions
            .into_iter()
            .map(|(partition, committed, _)| Assigned { partition, committed })
            .collect();
        self.outbox.push_back(MemberEvent::Assigned { member_id, partitions: assigned });
    }

    /// Hands events over, and then one run of records, as far as there is room.
    fn hand_over(&mut self) -> ControlFlow<Option<String>, bool> {
        let mut busy = false;
        loop {
            match self.events.poll_reserve(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => return Continue(busy),
                Poll::Ready(Err(_closed)) => return Break(None), // the member was dropped
                Poll::Ready(Ok(())) => {}
            }
            let Some(event) = self.outbox.pop_front().or_else(|| self.drain()) else {
                return Continue(busy);
            };
            let records = matches!(event, MemberEvent::Records(_));
            if self.events.send_item(event).is_err() {
                return Break(None);
            }
            busy = true;
            if records {
                return Continue(true); // commands and rebalances come before the next run
            }
        }
    }

    fn drain(&mut self) -> Option<MemberEvent> {
        let run = self.holdings.drain();
        for (partition, error) in run.errors {
            self.tell_trouble(format!("{partition}: {}", error::text(&error)));
        }
        if run.records.is_empty() {
            return self.outbox.pop_front();
        }
        Some(MemberEvent::Records(run.records))
    }

    fn tell_trouble(&mut self, text: String) {
        let told = self.trouble.as_ref();
        if told.is_some_and(|(last, when)| *last == text && when.elapsed() < TROUBLE) {
            return;
        }
        tracing::warn!(reason = text, "A member of a group has trouble with Kafka.");
        self.trouble = Some((text.clone(), Instant::now()));
        self.outbox.push_back(MemberEvent::Troubled(text));
    }

    /// Leaves the group. What is open is answered first, or librdkafka would wait for it; the last owner of the consumer
    /// then closes it, which tells the group.
    fn leave(mut self, failure: Option<String>) {
        if let Some(failure) = failure {
            tracing::error!(reason = failure, "A member of a group cannot go on.");
            // Without room for it the closed channel has to say it.
            if let Some(events) = self.events.get_ref() {
                events.try_send(MemberEvent::Failed(failure)).ok();
            }
        }
        self.errands.finish(LAST_COMMITS);
        self.holdings.clear();
        self.consumer.context().close();
        self.give_up();
        if self.assigning.take().is_some() {
            context::answer(&self.consumer, true);
        }
    }
}
