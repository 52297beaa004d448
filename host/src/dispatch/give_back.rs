//! Handles parked records that an operator gives back: the letters of one lane, in order, each attempted as often as any
//! record.
//!
//! Invariant: a letter is done with only when what its handler emitted is durable, and then a mark says so; without the
//! mark, the letter is handled again by whoever comes next. Under exactly-once both are in one transaction.

use std::collections::VecDeque;

use tokio_util::sync::CancellationToken;

use super::{
    member::Shared,
    output::Chosen,
    retry::{self, Verdict},
};
use crate::{
    config,
    handler::{Delivery, Outcome, RunReport},
    letter::{self, Letter, Mark, MarkKind},
    record::{NewRecord, Place, Record},
};

/// What came of a lane's letters.
#[derive(Debug, Default)]
pub(super) struct GivenBack {
    /// Those that are done with: the offset of each one's source, and its own.
    pub(super) done: Vec<(u64, u64)>,
    /// The one behind them was given up on again, and the lane is parked as before.
    pub(super) is_held: bool,
    /// Under exactly-once, what the next transaction is to write for that, by the record that it came of.
    pub(super) unwritten: Vec<(Place, Vec<Chosen>)>,
}

impl GivenBack {
    /// Notes what became of a letter: at once, or with the next transaction.
    async fn note(&mut self, shared: &Shared, notes: Vec<(Place, Vec<Chosen>)>) {
        match shared.group.delivery {
            config::Delivery::ExactlyOnce => self.unwritten.extend(notes),
            config::Delivery::AtLeastOnce => {
                let marks = notes.into_iter().flat_map(|(_, marks)| marks);
                let marks: Vec<_> = marks.map(|mark| mark.record).collect();
                shared.output.mark(&marks).await;
            }
        }
    }

    async fn hold(&mut self, shared: &Shared, letter: &(Letter, Record), reason: &str) {
        tracing::warn!(
            group = %shared.group.id, record = %letter.0.source, reason,
            "A parked record was given up on again; its lane stays parked."
        );
        let held = vec![(letter.0.source.clone(), vec![mark(letter, MarkKind::Held).into()])];
        self.note(shared, held).await;
        self.is_held = true;
    }
}

/// Handles letters of one lane until all are done with, one is given up on again, or `stop` while one waits for its next
/// attempt. The first one is given up on without an attempt where its output was `refused`.
pub(super) async fn handle(
    shared: &Shared,
    letters: Vec<(Letter, Record)>,
    refused: Option<String>,
    stop: &CancellationToken,
) -> GivenBack {
    let mut given_back = GivenBack::default();
    let delivery = |(letter, record): &(Letter, Record)| Delivery {
        record: letter::original(letter, record),
        attempt: 1,
    };
    let mut deliveries: Vec<_> = letters.iter().map(delivery).collect();
    let mut letters = VecDeque::from(letters);
    if let (Some(reason), Some(first)) = (refused, letters.front()) {
        given_back.hold(shared, first, &reason).await;
        return given_back;
    }
    while !deliveries.is_empty() {
        let (report, chosen) = attempt(shared, deliveries).await;
        let RunReport { deliveries: mut attempted, mut outcomes, .. } = report;
        let handled =
            outcomes.iter().take_while(|outcome| matches!(outcome, Outcome::Handled(_))).count();
        let mut notes = Vec::with_capacity(handled);
        outcomes.drain(..handled);
        let mut chosen = chosen.into_iter();
        for letter in letters.drain(..handled) {
            let mut records = chosen.next().unwrap_or_default();
            records.push(mark(&letter, MarkKind::Redriven).into());
            given_back.done.push((letter.0.source.offset, letter.1.offset));
            notes.push((letter.0.source, records));
        }
        given_back.note(shared, notes).await;
        shared.counters.handled.add(handled as u64);
        deliveries = attempted.split_off(handled);
        let (Some(outcome), Some(failed)) = (outcomes.first(), deliveries.first_mut()) else {
            continue;
        };
        match retry::judge(&shared.group.retry, failed.attempt, outcome, fastrand::f64()) {
            None => {}
            Some(Verdict::Again { after, reason }) => {
                tracing::debug!(
                    group = %shared.group.id, record = %failed.record.place(), attempt = failed.attempt,
                    ?after, reason, "An attempt at a parked record failed; it will be tried again."
                );
                shared.counters.retried.add(1);
                failed.attempt += 1;
                tokio::select! {
                    () = tokio::time::sleep(after) => {}
                    () = stop.cancelled() => return given_back,
                }
            }
            Some(Verdict::GiveUp { reason }) => {
                if let Some(letter) = letters.front() {
                    given_back.hold(shared, letter, &reason).await;
                }
                return given_back;
            }
        }
    }
    given_back
}

/// Hands records to the handler. What comes of them is written, or, under exactly-once, chosen where it goes.
async fn attempt(shared: &Shared, deliveries: Vec<Delivery>) -> (RunReport, Vec<Vec<Chosen>>) {
    let report = shared.handler.handle(deliveries).await;
    match shared.group.delivery {
        config::Delivery::AtLeastOnce => (shared.output.write(report).await, Vec::new()),
        config::Delivery::ExactlyOnce => shared.output.choose(report).await,
    }
}

fn mark((letter, record): &(Letter, Record), kind: MarkKind) -> NewRecord {
    Mark { kind, letter: record.place(), source: letter.source.clone() }.record(record)
}
