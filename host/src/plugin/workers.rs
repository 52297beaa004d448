//! The workers of one handler: tasks on the host's threads that share one queue of runs.
//!
//! A hop between threads costs more than most calls, so runs are not handed out one by one: a worker that is done with
//! one takes the next. One worker at the most is on its way at a time, and only when it has found a run is another
//! called. So a handler that computes keeps about as many workers as there are threads, and one that waits gets as many
//! as its use of the plugin may have instances, each of which holds no thread.
//!
//! While the breaker is open, the worker on its way waits for it, and all others end: runs wait in the queue, where they
//! hold no thread and use up no attempt.
//!
//! Invariants: a run has one worker, and is answered whatever becomes of that one. While runs wait, a worker is at work
//! or on its way.

use std::{
    collections::VecDeque,
    future::poll_fn,
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
/// A run that took this long, or emitted so many bytes, gives its results back before the next record: so a run is a hop
/// between threads for many quick calls, and no more than one call of a slow handler, and those that wait for a worker do
/// not wait long.
const RUN_SLICE: Duration = Duration::from_millis(1);
const RUN_OUTPUT: usize = 1 << 20;
/// How often a worker that waits for the breaker looks whether another generation serves, and who still waits.
const LOOK: Duration = Duration::from_millis(100);

/// The workers of one use of a plugin, and the runs that wait for them.
pub(super) struct Workers {
    usage: Arc<Usage>,
    threads: Arc<Threads>,
    queue: Mutex<Queue>,
    /// The breaker lets calls through again, or says until when not.
    turned: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Run>,
    breaker: Breaker,
    /// Whether a worker is on its way to the queue.
    called: bool,
}

/// What came of a run.
pub(super) struct Returned {
    /// The records, as they were given.
    pub(super) deliveries: Vec<Delivery>,
    /// What came of the first of them, of one at the least where there are any.
    pub(super) outcomes: Vec<Outcome>,
    /// Who handled them; `None`: nobody could.
    pub(super) generation: Option<Generation>,
    /// How long that took.
    pub(super) took: Duration,
}

/// Records on their way through one call each. Dropped, it answers with what there is.
struct Run {
    deliveries: Vec<Delivery>,
    outcomes: Vec<Outcome>,
    generation: Option<Generation>,
    took: Duration,
    answer: Option<oneshot::Sender<Returned>>,
}

impl Workers {
    /// Workers of `usage` on `threads`; none yet.
    pub(super) fn new(usage: Arc<Usage>, threads: Arc<Threads>) -> Arc<Self> {
        Arc::new(Self { usage, threads, queue: Mutex::default(), turned: Notify::new() })
    }

    /// Queues a run. Dropping the answer's receiver ends the run where it is.
    pub(super) fn push(self: &Arc<Self>, deliveries: Vec<Delivery>) -> oneshot::Receiver<Returned> {
        let (answer, answered) = oneshot::channel();
        let run = Run {
            deliveries,
            outcomes: Vec::new(),
            generation: None,
            took: Duration::ZERO,
            answer: Some(answer),
        };
        let mut queue = self.queue();
        queue.waiting.push_back(run);
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
                queue.waiting.retain(|run| !run.is_abandoned());
                if queue.waiting.is_empty() {
                    return;
                }
                wait
            };
            tokio::time::timeout(wait, self.turned.notified()).await.ok();
        }
    }

    /// Notes how a run ended.
    fn note(&self, run: &Run, on_trial: bool) {
        let failed = match run.outcomes.last() {
            Some(Outcome::Failed(failure)) => {
                Some((run.deliveries[run.outcomes.len() - 1].attempt, failure))
            }
            _ => None,
        };
        let Some(generation) = &run.generation else { return };
        let well = run.outcomes.len() > usize::from(failed.is_some());
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
    /// Whether the run in hand is the one that the breaker tries.
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
                let Some(mut run) = self.next() else {
                    return put_back(&turn, instance);
                };
                if turn.goes_over() {
                    instance = None;
                }
                run.handle(&turn, &mut instance).await;
                self.workers.note(&run, std::mem::take(&mut self.on_trial));
            }
            put_back(&turn, instance);
            drop(turn);
            yield_now().await;
        }
    }

    /// The next run, when it may begin. Another worker is called if there is more.
    fn next(&mut self) -> Option<Run> {
        let mut queue = self.workers.queue();
        if std::mem::take(&mut self.on_its_way) {
            queue.called = false;
        }
        let mut run = None;
        if !queue.waiting.is_empty()
            && let Some(on_trial) = queue.breaker.begin(Instant::now())
        {
            self.on_trial = on_trial;
            run = queue.waiting.pop_front();
        }
        self.workers.call(queue);
        run
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
            tracing::error!(plugin = %self.workers.usage.plugin.name, "Handling a run broke down.");
            self.workers.call(queue);
        }
    }
}

impl Run {
    fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    async fn handle(&mut self, turn: &Turn<'_>, instance: &mut Option<Instance>) {
        self.generation = Some(turn.generation());
        let began = Instant::now();
        self.handle_some(turn, instance, began).await;
        self.took = began.elapsed();
        turn.count(self.outcomes.len(), matches!(self.outcomes.last(), Some(Outcome::Failed(_))));
    }

    async fn handle_some(
        &mut self,
        turn: &Turn<'_>,
        instance: &mut Option<Instance>,
        began: Instant,
    ) {
        let mut emitted = 0;
        while self.outcomes.len() < self.deliveries.len() {
            if self.is_abandoned() {
                return; // nobody waits for it any more
            }
            let outcome = match ready(turn, instance).await {
                Ok(instance) => {
                    let now = Instant::now();
                    if !self.outcomes.is_empty() && now - began >= RUN_SLICE {
                        return;
                    }
                    self.handle_next(instance, now).await
                }
                Err(failure) => Some(Outcome::Failed(failure)),
            };
            if !turn.reuses() || matches!(outcome, None | Some(Outcome::Failed(_))) {
                *instance = None;
            }
            let Some(outcome) = outcome else { return };
            let goes_on = match &outcome {
                Outcome::Handled(records) => {
                    emitted += records.iter().map(NewRecord::size).sum::<usize>();
                    emitted < RUN_OUTPUT
                }
                _ => false,
            };
            self.outcomes.push(outcome);
            if !goes_on {
                return;
            }
        }
    }

    /// `None`: nobody waits for the outcome any more, and the call was left where it was.
    async fn handle_next(&mut self, instance: &mut Instance, now: Instant) -> Option<Outcome> {
        let delivery = &self.deliveries[self.outcomes.len()];
        let mut call = pin!(instance.handle(delivery, now));
        let answer = &mut self.answer;
        poll_fn(|context| match call.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => match answer {
                Some(answer) => answer.poll_closed(context).map(|()| None),
                None => Poll::Pending,
            },
        })
        .await
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        let mut outcomes = std::mem::take(&mut self.outcomes);
        if outcomes.is_empty() && !self.deliveries.is_empty() {
            let cause = "handling broke down in the gateway".to_owned();
            outcomes.push(Outcome::Failed(Failure::Instance(cause)));
        }
        let deliveries = std::mem::take(&mut self.deliveries);
        let (generation, took) = (self.generation.take(), self.took);
        let returned = Returned { deliveries, outcomes, generation, took };
        answer.send(returned).ok(); // nobody waits for it any more
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
