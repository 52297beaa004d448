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
mod stall;

use std::{
    collections::{HashSet, VecDeque},
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
    Offset,
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
};
use tokio::sync::oneshot;
use tokio_util::sync::PollSender;

use self::{
    context::{MemberContext, Notice},
    errand::{Answer, Beginnings, Errandee, Errands, Rewound, Transaction},
    holdings::Holdings,
};
use super::{
    error,
    lookup::Lookup,
    record,
    settings::{Settings, client_id},
    transactions::{Offsets, Transactor},
    wake::Wakeup,
};
use crate::{
    broker::{
        Assigned, BrokerError, Command, CommitError, Member, MemberDriver, MemberEvent, MemberSpec,
        OffsetCommit, TransactError,
    },
    record::{NewRecord, TopicPartition},
};

type MemberConsumer = BaseConsumer<MemberContext>;

/// The longest sleep: whatever might be missed is seen after this.
const NAP: Duration = Duration::from_millis(100);
/// How long an errand that failed waits before the next try.
const AGAIN: Duration = Duration::from_millis(500);
/// How long the last commits may take when the member leaves.
const LAST_COMMITS: Duration = Duration::from_secs(5);
/// At least so long between two looks for partitions that have stalled.
const LOOK: Duration = Duration::from_secs(5);
/// The same trouble is told again only after this.
const TROUBLE: Duration = Duration::from_secs(10);

/// Starts one more member.
pub(super) fn join(
    settings: &Settings,
    process: &str,
    lookup: Lookup,
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
    let transactional = settings.transactional(&transactional_id(&spec, &client_id), &client_id);
    let transactor = match &spec.instance_id {
        Some(_) => Transactor::shared(transactional, lookup),
        None => Transactor::exclusive(transactional, lookup),
    };
    let topics: Vec<&str> = spec.topics.iter().map(AsRef::as_ref).collect();
    consumer.subscribe(&topics).map_err(|error| {
        BrokerError::Fatal(format!("joining group {:?}: {}", spec.group, error::text(&error)))
    })?;
    let (member, MemberDriver { events, commands }) = Member::pair();
    let start = move || {
        wakeup.is_here();
        let errands = Errands::start(Errandee {
            consumer: Arc::clone(&consumer),
            fetcher: Arc::clone(&fetcher),
            led: HashSet::new(),
            group: Arc::clone(&spec.group),
            client_id,
            start: spec.start,
            transactor,
            is_static: spec.instance_id.is_some(),
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
            rewinding: None,
            errands,
            look: Instant::now() + LOOK,
            trouble: None,
        };
        driver.run();
    };
    thread::Builder::new().name("kafka-member".into()).spawn(start).map_err(|error| {
        BrokerError::Unavailable(format!("no thread for a member of the group: {error}"))
    })?;
    Ok(member)
}

/// The id of a member's transactions. A static member takes that of the one it replaces, and so ends at once what that one
/// left open; any other has one that nobody else will ever have.
fn transactional_id(spec: &MemberSpec, client_id: &str) -> String {
    let group = &spec.group;
    match &spec.instance_id {
        Some(instance) => format!("keyway/{group}/{instance}"),
        None => format!("keyway/{group}/{client_id}/{:016x}", fastrand::u64(..)),
    }
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
    /// Partitions of the assignment that is open, while it is asked where they begin.
    assigning: Option<Asked>,
    /// Partitions to be rewound, while it is asked what is committed.
    rewinding: Option<Asked>,
    errands: Errands,
    /// When to look next for partitions that have stalled.
    look: Instant,
    /// The trouble that was told last, and when.
    trouble: Option<(String, Instant)>,
}

/// Partitions that an errand is about.
struct Asked {
    partitions: Vec<TopicPartition>,
    /// When to ask again; `None`: it is being asked.
    again: Option<Instant>,
}

impl Asked {
    fn new(partitions: Vec<TopicPartition>, taken: bool) -> Self {
        Self { partitions, again: if taken { None } else { Some(Instant::now() + AGAIN) } }
    }

    /// What to ask again now.
    fn due(asked: &Option<Self>) -> Option<Vec<TopicPartition>> {
        let asked =
            asked.as_ref().filter(|asked| asked.again.is_some_and(|at| Instant::now() >= at))?;
        Some(asked.partitions.clone())
    }

    fn forget(asked: &mut Option<Self>, partitions: &[TopicPartition]) {
        if let Some(asked) = asked {
            asked.partitions.retain(|partition| !partitions.contains(partition));
        }
    }
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
            busy |= self.serve_errands()?;
            self.outbox.extend(self.holdings.seek());
        }
        busy |= self.hand_over()?;
        self.look_for_stalls();
        Continue(busy)
    }

    /// Asks where partitions end from which nothing comes.
    fn look_for_stalls(&mut self) {
        if Instant::now() < self.look {
            return;
        }
        self.look = Instant::now() + LOOK;
        let suspicious = self.holdings.suspicious();
        if !suspicious.is_empty() {
            self.errands.ends(suspicious);
        }
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
        done: oneshot::Sender<Result<(), TransactError>>,
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

    fn drop_holdings(&mut self, partitions: &[TopicPartition]) {
        self.holdings.remove(partitions);
        Asked::forget(&mut self.rewinding, partitions);
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
        self.assigning = Some(Asked::new(partitions, taken));
    }

    fn rewind(&mut self, mut partitions: Vec<TopicPartition>) {
        partitions.extend(self.rewinding.take().into_iter().flat_map(|asked| asked.partitions));
        partitions.retain(|partition| self.holdings.contains(partition));
        let taken = self.errands.rewind(partitions.clone());
        self.rewinding = Some(Asked::new(partitions, taken));
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
        self.drop_holdings(&partitions);
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

    /// Takes what errands have brought, and sends those again that failed.
    fn serve_errands(&mut self) -> ControlFlow<Option<String>, bool> {
        if let Some(partitions) = Asked::due(&self.assigning) {
            self.begin(partitions);
        }
        if let Some(partitions) = Asked::due(&self.rewinding) {
            self.rewind(partitions);
        }
        match self.errands.answer() {
            None => return Continue(false),
            Some(Answer::Begin(Ok(beginnings))) => self.assign(beginnings),
            Some(Answer::Begin(Err(reason))) => {
                if let Some(asked) = &mut self.assigning {
                    asked.again = Some(Instant::now() + AGAIN);
                }
                self.tell_trouble(reason);
            }
            Some(Answer::Rewind(Ok(rewound))) => self.rewound(rewound),
            Some(Answer::Rewind(Err(reason))) => {
                if let Some(asked) = &mut self.rewinding {
                    asked.again = Some(Instant::now() + AGAIN);
                }
                self.tell_trouble(reason);
            }
            // It joins again, with clients that are new.
            Some(Answer::Ends(ends)) => {
                if let Some(at) = self.holdings.stalled(&ends) {
                    return Break(Some(format!("{at} grows and no record of it comes")));
                }
            }
            Some(Answer::Fenced(reason)) => return Break(Some(reason)),
        }
        Continue(true)
    }

    fn rewound(&mut self, rewound: Rewound) {
        let Some(asked) = &mut self.rewinding else { return };
        for (partition, committed) in rewound {
            // One that was let go meanwhile, and perhaps taken again, is not rewound.
            let Some(index) = asked.partitions.iter().position(|asked| *asked == partition) else {
                continue;
            };
            asked.partitions.swap_remove(index);
            let holding = self.holdings.get_mut(&partition).filter(|holding| !holding.revoking);
            let Some(holding) = holding else { continue };
            let to = match &committed {
                Some(committed) => Offset::Offset(committed.offset as i64),
                None => holding.began,
            };
            let event = MemberEvent::Rewound(Assigned { partition, committed });
            holding.seeking = Some((to, event));
        }
        self.rewinding = self.rewinding.take().filter(|asked| !asked.partitions.is_empty());
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
