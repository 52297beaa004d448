//! A batch: runs of several lanes on their way through a handler, one after another, and what comes back of them when.
//!
//! Knows no queue and no breaker. Invariants: whatever becomes of a batch, its answer comes, at the latest when it is
//! dropped; no run waits for the call of another that does.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{instance::Instance, usage::Turn};
use crate::{
    handler::{Delivery, Failure, Generation, Outcome},
    record::NewRecord,
};

/// A batch that took this long, or emitted so many bytes, gives its results back before the next record: so a batch is a
/// hop between threads for many quick calls, and no more than one call of a slow handler, and those that wait for a worker
/// do not wait long.
const BATCH_SLICE: Duration = Duration::from_millis(1);
const BATCH_OUTPUT: usize = 1 << 20;
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
pub(super) struct Batch {
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
    /// How many calls have ended.
    pub(super) calls: usize,
    emitted: usize,
    pub(super) generation: Option<Generation>,
    answer: Option<oneshot::Sender<Returned>>,
}

/// What follows a call.
#[derive(PartialEq, Eq)]
enum Next {
    Record,
    Run,
    Nothing,
}

impl Batch {
    /// Runs that have not begun, and where their answer is waited for.
    pub(super) fn new(runs: Vec<Vec<Delivery>>, answer: oneshot::Sender<Returned>) -> Self {
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

    /// Whether nobody waits for the answer any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// How its last call failed, and which attempt that was.
    pub(super) fn failed(&self) -> Option<(u32, &Failure)> {
        let last = self.over.last()?;
        match last.outcomes.last()? {
            Outcome::Failed(failure) => {
                Some((last.deliveries[last.outcomes.len() - 1].attempt, failure))
            }
            _ => None,
        }
    }

    /// Handles what it can, with `instance` or a fresh one, and leaves the instance where that may be called again.
    pub(super) async fn handle(&mut self, turn: &Turn<'_>, instance: &mut Option<Instance>) {
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
            let outcome = match turn.ready(instance).await {
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
