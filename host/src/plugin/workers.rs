//! The workers of one handler: tasks on the host's threads that share one queue of runs.
//!
//! A hop between threads costs more than most calls, so runs are not handed out one by one: a worker that is done with
//! one takes the next. One worker at the most is on its way at a time, and only when it has found a run is another
//! called. So a handler that computes keeps about as many workers as there are threads, and one that waits gets as many
//! as its use of the plugin may have instances, each of which holds no thread.
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

use tokio::{sync::oneshot, task::yield_now};

use super::{
    host::Threads,
    instance::Instance,
    usage::{Turn, Usage},
};
use crate::handler::{Delivery, Failure, Generation, Outcome};

/// A run that took this long gives its results back before the next record, and a worker that worked for this long lets
/// others have its thread and its room.
const SLICE: Duration = Duration::from_millis(10);

/// The workers of one use of a plugin, and the runs that wait for them.
pub(super) struct Workers {
    usage: Arc<Usage>,
    threads: Arc<Threads>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Run>,
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
        Arc::new(Self { usage, threads, queue: Mutex::default() })
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
        let worker = Worker { workers: self.clone(), on_its_way: true };
        self.threads.handle().spawn(worker.work());
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    workers: Arc<Workers>,
    on_its_way: bool,
}

impl Worker {
    async fn work(mut self) {
        let usage = self.workers.usage.clone();
        loop {
            let mut turn = usage.turn().await;
            let began = Instant::now();
            let mut instance = None;
            while began.elapsed() < SLICE {
                let Some(run) = self.next() else {
                    return put_back(&turn, instance);
                };
                if turn.goes_over() {
                    instance = None;
                }
                run.handle(&turn, &mut instance).await;
            }
            put_back(&turn, instance);
            drop(turn);
            yield_now().await;
        }
    }

    /// The next run. Finding one calls another worker, if there is more.
    fn next(&mut self) -> Option<Run> {
        let mut queue = self.workers.queue();
        if std::mem::take(&mut self.on_its_way) {
            queue.called = false;
        }
        let run = queue.waiting.pop_front();
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
        // Otherwise the threads are ending, and a worker that is called would be dropped here as well.
        if thread::panicking() {
            tracing::error!(plugin = %self.workers.usage.plugin.name, "Handling a run broke down.");
            self.workers.call(queue);
        }
    }
}

impl Run {
    async fn handle(mut self, turn: &Turn<'_>, instance: &mut Option<Instance>) {
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
        while self.outcomes.len() < self.deliveries.len() {
            if self.answer.as_ref().is_none_or(oneshot::Sender::is_closed) {
                return; // nobody waits for it any more
            }
            let outcome = match ready(turn, instance).await {
                Ok(instance) => self.handle_next(instance).await,
                Err(failure) => Some(Outcome::Failed(failure)),
            };
            if !turn.reuses() || matches!(outcome, None | Some(Outcome::Failed(_))) {
                *instance = None;
            }
            let Some(outcome) = outcome else { return };
            let goes_on = matches!(outcome, Outcome::Handled(_)) && began.elapsed() < SLICE;
            self.outcomes.push(outcome);
            if !goes_on {
                return;
            }
        }
    }

    /// `None`: nobody waits for the outcome any more, and the call was left where it was.
    async fn handle_next(&mut self, instance: &mut Instance) -> Option<Outcome> {
        let delivery = &self.deliveries[self.outcomes.len()];
        let mut call = pin!(instance.handle(delivery));
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
async fn ready<'a>(
    turn: &Turn<'_>,
    instance: &'a mut Option<Instance>,
) -> Result<&'a mut Instance, Failure> {
    if instance.is_none() {
        *instance = Some(turn.instance().await?);
    }
    Ok(instance.as_mut().expect("it was just put there"))
}

fn put_back(turn: &Turn<'_>, instance: Option<Instance>) {
    if let Some(instance) = instance {
        turn.give_back(instance);
    }
}
