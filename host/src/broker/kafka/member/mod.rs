//! One member of a group, on a thread of its own, with two librdkafka clients: one is the member, the other fetches.
//!
//! The thread serves, in turn, the commands of whoever handles the records, what librdkafka tells of the group, and the
//! records; and sleeps until one of the three has something. It never waits for Kafka: what has to is an errand.
//!
//! Invariant: between a [`MemberEvent::Revoking`] and the release that answers it librdkafka is not told that the
//! partitions were given up, so nobody else gets them; after it they are not the member's, and a commit is refused
//! without asking.

mod commands;
mod context;
mod errand;
mod holdings;
mod join;
mod rebalance;
mod stall;

use std::{
    collections::VecDeque,
    ops::ControlFlow::{self, Break, Continue},
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio_util::sync::PollSender;

pub(super) use self::join::join;
use self::{
    context::{MemberContext, Notice},
    errand::{Answer, Errands},
    holdings::Holdings,
    rebalance::Asked,
};
use super::error;
use crate::{
    broker::{Command, MemberEvent},
    record::TopicPartition,
};

type MemberConsumer = BaseConsumer<MemberContext>;

/// The longest sleep: whatever might be missed is seen after this.
const NAP: Duration = Duration::from_millis(100);
/// How long the last commits may take when the member leaves.
const LAST_COMMITS: Duration = Duration::from_secs(5);
/// At least so long between two looks for partitions that have stalled.
const LOOK: Duration = Duration::from_secs(5);
/// The same trouble is told again only after this.
const TROUBLE: Duration = Duration::from_secs(10);

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
                Asked::put_off(&mut self.assigning);
                self.tell_trouble(reason);
            }
            Some(Answer::Rewind(Ok(rewound))) => self.rewound(rewound),
            Some(Answer::Rewind(Err(reason))) => {
                Asked::put_off(&mut self.rewinding);
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
