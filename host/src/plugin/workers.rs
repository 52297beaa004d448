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
//! Invariants: a batch has one worker. While batches wait, a worker is at work or on its way.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, oneshot},
    task::yield_now,
};

use super::{
    batch::{Batch, Returned},
    breaker::{Breaker, Change, End, Pass},
    host::Threads,
    usage::Usage,
};
use crate::handler::Delivery;

/// A worker that worked for this long lets others have its thread and its room.
const SLICE: Duration = Duration::from_millis(10);
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
                    return turn.put_back(instance);
                };
                if turn.goes_over() {
                    instance = None;
                }
                batch.handle(&turn, &mut instance).await;
                self.workers.note(&batch, mem::take(&mut self.on_trial));
            }
            turn.put_back(instance);
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
