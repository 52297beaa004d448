//! The workers of one handler: tasks on the host's threads that share one queue of batches, each of one run or several.
//!
//! A hop between threads costs more than most calls, so batches are not handed out one by one: a worker that is done
//! with one takes the next. One worker at the most is on its way at a time, and only when it has found a batch is another
//! called. So a handler that computes keeps about as many workers as there are threads, and one that waits gets as many
//! as its use of the plugin may have instances, each of which holds no thread.
//!
//! While the breaker is open, the worker on its way waits for it, and all others end: batches wait in the queue, where
//! they hold no thread and use up no attempt.
//!
//! Invariants: a batch has one worker, and is answered whatever becomes of that one; no run waits for the call of
//! another that does. While batches wait, a worker is at work or on its way.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, oneshot},
    task::yield_now,
};

use super::{
    breaker::{Breaker, Change, End, Pass},
    host::Threads,
    instance::Instance,
    usage::{Turn, Usage},
};
use crate::{
    handler::{Delivery, Failure, Generation, Outcome},
    record::NewRecord,
};

/// A worker that worked for this long lets others have its thread and its room.
const SLICE: Duration = Duration::from_millis(10);
/// A batch that took this long, or emitted so many bytes, gives its results back before the next record: so a batch is a
/// hop between threads for many quick calls, and no more than one call of a slow handler, and those that wait for a worker
/// do not wait long.
const BATCH_SLICE: Duration = Duration::from_millis(1);
const BATCH_OUTPUT: usize = 1 << 20;
/// How often a worker that waits for the breaker looks whether another generation serves, and who still waits.
const LOOK: Duration = Duration::from_millis(100);

/// The workers of one use of a plugin, and the batches that wait for them.
pub(super) struct Workers {
    usage: Arc<Usage>,
    threads: Arc<Threads>,
    queue: Mutex<Queue>,
    /// The breaker lets calls through again, or says until when not.
    turned: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Batch>,
    breaker: Breaker,
    /// Whether a worker is on its way to the queue.
    called: bool,
}

/// Records of one lane, and what came of the first of them.
pub(super) struct Run {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) outcomes: Vec<Outcome>,
}

/// What came of a batch.
pub(super) struct Returned {
    /// The runs, as they were given, but for one that waits; those without an outcome were not begun.
    pub(super) runs: Vec<Run>,
    /// Whose call has to wait, by its place among those that were given, and what will come of it.
    pub(super) waiting: Option<(usize, oneshot::Receiver<Returned>)>,
    /// How many runs had their turn and did not wait.
    pub(super) quick: usize,
    /// Who handled them; `None`: nobody could.
    pub(super) generation: Option<Generation>,
    /// How long that took.
    pub(super) took: Duration,
}

/// Runs on their way through the handler, one after another. Dropped, it answers with what there is.
struct Batch {
    /// Those that are over, in order.
    over: Vec<Run>,
    /// The one that is being handled.
    current: Option<Run>,
    /// Those that have not begun, in order.
    rest: VecDeque<Run>,
    /// A call of the current run has had to wait.
    waited: bool,
    /// Of those that are over, how many have not.
    quick: usize,
    began: Instant,
    calls: usize,
    emitted: usize,
    generation: Option<Generation>,
    answer: Option<oneshot::Sender<Returned>>,
}

/// What follows a call.
#[derive(PartialEq, Eq)]
enum Next {
    Record,
    Run,
    Nothing,
}

impl Workers {
    /// Workers of `usage` on `threads`; none yet.
    pub(super) fn new(usage: Arc<Usage>, threads: Arc<Threads>) -> Arc<Self> {
        Arc::new(Self { usage, threads, queue: Mutex::default(), turned: Notify::new() })
    }

    /// Queues a batch. Dropping the answer's receiver ends it where it is.
    pub(super) fn push(self: &Arc<Self>, runs: Vec<Vec<Delivery>>) -> oneshot::Receiver<Returned> {
        let (answer, answered) = oneshot::channel();
        let batch = Batch::new(runs, answer);
        let mut queue = self.queue();
        queue.waiting.push_back(batch);
        self.call(queue);
        answered
    }

    /// Calls a worker when none is on its way and there is something to do.
    fn call(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        if queue.called || queue.waiting.is_empty() {
            return;
        }
        queue.called = true;
        drop(queue);
        let worker = Worker { workers: self.clone(), on_its_way: true, on_trial: false };
        self.threads.handle().spawn(worker.work());
    }

    /// What is wrong, while every call fails.
    pub(super) fn trouble(&self) -> Option<String> {
        let mut queue = self.queue();
        if queue.breaker.is_calm() {
            return None;
        }
        self.follow(&mut queue.breaker);
        queue.breaker.trouble(Instant::now())
    }

    /// Waits until the breaker lets a call through, or nobody waits for one any more.
    async fn pass(&self) {
        loop {
            let wait = {
                let mut queue = self.queue();
                if queue.breaker.is_calm() {
                    return;
                }
                self.follow(&mut queue.breaker);
                let now = Instant::now();
                let wait = match queue.breaker.pass(now) {
                    Pass::Now => return,
                    Pass::At(due) => LOOK.min(due.saturating_duration_since(now)),
                    Pass::AfterTrial => LOOK,
                };
                queue.waiting.retain(|batch| !batch.is_abandoned());
                if queue.waiting.is_empty() {
                    return;
                }
                wait
            };
            tokio::time::timeout(wait, self.turned.notified()).await.ok();
        }
    }

    /// Notes how a batch ended.
    fn note(&self, batch: &Batch, on_trial: bool) {
        let Some(generation) = &batch.generation else { return };
        let failed = batch.failed();
        let well = batch.calls > usize::from(failed.is_some());
        let mut queue = self.queue();
        if failed.is_none() && queue.breaker.is_calm() {
            return;
        }
        self.follow(&mut queue.breaker);
        let end = End { well, failed };
        let change = queue.breaker.end(on_trial, generation, end, Instant::now());
        self.tell(&queue.breaker, change);
        if on_trial || change.is_some() {
            self.turned.notify_one();
        }
    }

    /// Lets the breaker forget what another generation did than the one that serves.
    fn follow(&self, breaker: &mut Breaker) {
        let change = breaker.follow(&self.usage.generation());
        self.tell(breaker, change);
    }

    fn tell(&self, breaker: &Breaker, change: Option<Change>) {
        let (plugin, owner) = (&self.usage.plugin.name, &self.usage.owner);
        match change {
            Some(Change::Opened) => {
                let trouble = breaker.trouble(Instant::now()).unwrap_or_default();
                tracing::error!(%plugin, %owner, "A plugin fails every call: {trouble}.");
            }
            Some(Change::Closed) => {
                tracing::info!(%plugin, %owner, "A plugin is called as ever again.");
            }
            None => {}
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    workers: Arc<Workers>,
    on_its_way: bool,
    /// Whether the batch in hand is the one that the breaker tries.
    on_trial: bool,
}

impl Worker {
    async fn work(mut self) {
        let usage = self.workers.usage.clone();
        self.workers.pass().await;
        loop {
            let mut turn = usage.turn().await;
            let began = Instant::now();
            let mut instance = None;
            while began.elapsed() < SLICE {
                let Some(mut batch) = self.next() else {
                    return put_back(&turn, instance);
                };
                if turn.goes_over() {
                    instance = None;
                }
                batch.handle(&turn, &mut instance).await;
                self.workers.note(&batch, mem::take(&mut self.on_trial));
            }
            put_back(&turn, instance);
            drop(turn);
            yield_now().await;
        }
    }

    /// The next batch, when it may begin. Another worker is called if there is more.
    fn next(&mut self) -> Option<Batch> {
        let mut queue = self.workers.queue();
        if mem::take(&mut self.on_its_way) {
            queue.called = false;
        }
        let mut batch = None;
        if !queue.waiting.is_empty()
            && let Some(on_trial) = queue.breaker.begin(Instant::now())
        {
            self.on_trial = on_trial;
            batch = queue.waiting.pop_front();
        }
        self.workers.call(queue);
        batch
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut queue = self.workers.queue();
        if self.on_its_way {
            queue.called = false;
        }
        if self.on_trial {
            queue.breaker.left(Instant::now());
        }
        // Otherwise the threads are ending, and a worker that is called would be dropped here as well.
        if thread::panicking() {
            tracing::error!(plugin = %self.workers.usage.plugin.name, "Handling records broke down.");
            self.workers.call(queue);
        }
    }
}

impl Batch {
    fn new(runs: Vec<Vec<Delivery>>, answer: oneshot::Sender<Returned>) -> Self {
        let runs = runs.into_iter();
        Self {
            over: Vec::with_capacity(runs.len()),
            current: None,
            rest: runs.map(|deliveries| Run { deliveries, outcomes: Vec::new() }).collect(),
            waited: false,
            quick: 0,
            began: Instant::now(),
            calls: 0,
            emitted: 0,
            generation: None,
            answer: Some(answer),
        }
    }

    fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// How its last call failed, and which attempt that was.
    fn failed(&self) -> Option<(u32, &Failure)> {
        let last = self.over.last()?;
        match last.outcomes.last()? {
            Outcome::Failed(failure) => {
                Some((last.deliveries[last.outcomes.len() - 1].attempt, failure))
            }
            _ => None,
        }
    }

    async fn handle(&mut self, turn: &Turn<'_>, instance: &mut Option<Instance>) {
        self.generation = Some(turn.generation());
        self.began = Instant::now();
        let mut goes_on = true;
        while goes_on && let Some(run) = self.rest.pop_front() {
            self.current = Some(run);
            self.waited = false;
            goes_on = self.handle_current(turn, instance).await;
            let Some(run) = self.current.take() else { break };
            self.quick += usize::from(!self.waited && !run.outcomes.is_empty());
            self.over.push(run);
        }
        turn.count(self.calls, self.failed().is_some());
    }

    /// Handles a run. Says whether the batch goes on after it.
    async fn handle_current(&mut self, turn: &Turn<'_>, instance: &mut Option<Instance>) -> bool {
        loop {
            if self.current.as_ref().is_none_or(Run::is_over) {
                return true;
            }
            if self.is_abandoned() {
                return false; // nobody waits for it any more
            }
            let outcome = match ready(turn, instance).await {
                Ok(instance) => {
                    let now = Instant::now();
                    if self.has_outcomes() && now - self.began >= BATCH_SLICE {
                        return false;
                    }
                    self.call(instance, now).await
                }
                Err(failure) => Some(Outcome::Failed(failure)),
            };
            if !turn.reuses() || matches!(outcome, None | Some(Outcome::Failed(_))) {
                *instance = None;
            }
            let Some(outcome) = outcome else { return false };
            match self.add(outcome) {
                Next::Record => {}
                next => return next == Next::Run,
            }
        }
    }

    fn has_outcomes(&self) -> bool {
        !self.over.is_empty() || self.current.as_ref().is_some_and(|run| !run.outcomes.is_empty())
    }

    /// Adds what came of a record of the current run.
    fn add(&mut self, outcome: Outcome) -> Next {
        let next = match &outcome {
            Outcome::Handled(records) => {
                self.emitted += records.iter().map(NewRecord::size).sum::<usize>();
                if self.emitted < BATCH_OUTPUT { Next::Record } else { Next::Nothing }
            }
            Outcome::Retry { .. } | Outcome::Reject { .. } => Next::Run,
            // What is wrong with the plugin is for the breaker to see before others are tried.
            Outcome::Failed(_) => Next::Nothing,
        };
        self.calls += 1;
        self.current.as_mut().expect("a call is of the current run").outcomes.push(outcome);
        next
    }

    /// The call for the next record of the current run. As soon as that has to wait, the other runs are given back.
    ///
    /// `None`: nobody waits for the outcome any more, and the call was left where it was.
    async fn call(&mut self, instance: &mut Instance, now: Instant) -> Option<Outcome> {
        let Self { over, current, rest, waited, quick, began, generation, answer, .. } = self;
        let run = current.as_ref()?;
        let mut call = pin!(instance.handle(&run.deliveries[run.outcomes.len()], now));
        poll_fn(|context| {
            if let Poll::Ready(outcome) = call.as_mut().poll(context) {
                return Poll::Ready(Some(outcome));
            }
            *waited = true;
            if !(over.is_empty() && rest.is_empty()) {
                let (later, waiting) = oneshot::channel();
                let place = over.len();
                let mut runs = mem::take(over);
                runs.extend(rest.drain(..));
                let returned = Returned {
                    runs,
                    waiting: Some((place, waiting)),
                    quick: mem::take(quick),
                    generation: generation.clone(),
                    took: now - mem::replace(began, now),
                };
                if let Some(answer) = answer.replace(later) {
                    answer.send(returned).ok(); // nobody waits for it any more
                }
            }
            match answer {
                Some(answer) => answer.poll_closed(context).map(|()| None),
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        let mut runs = mem::take(&mut self.over);
        runs.extend(self.current.take());
        runs.extend(self.rest.drain(..));
        if runs.iter().all(|run| run.outcomes.is_empty())
            && let Some(first) = runs.first_mut().filter(|run| !run.deliveries.is_empty())
        {
            let cause = "handling broke down in the gateway".to_owned();
            first.outcomes.push(Outcome::Failed(Failure::Instance(cause)));
        }
        let returned = Returned {
            runs,
            waiting: None,
            quick: self.quick,
            generation: self.generation.take(),
            took: self.began.elapsed(),
        };
        answer.send(returned).ok(); // nobody waits for it any more
    }
}

impl Run {
    fn is_over(&self) -> bool {
        self.outcomes.len() == self.deliveries.len()
    }
}

/// The instance in hand, or one to go on with.
pub(super) async fn ready<'a>(
    turn: &Turn<'_>,
    instance: &'a mut Option<Instance>,
) -> Result<&'a mut Instance, Failure> {
    if instance.is_none() {
        *instance = Some(turn.instance().await?);
    }
    Ok(instance.as_mut().expect("it was just put there"))
}

/// Gives back the instance in hand.
pub(super) fn put_back(turn: &Turn<'_>, instance: Option<Instance>) {
    if let Some(instance) = instance {
        turn.give_back(instance);
    }
}
