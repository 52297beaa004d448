//! Handles parked records that an operator gives back: the letters of one lane, in order, each attempted as often as any
//! record.
//!
//! Invariant: a letter is done with only when what its handler emitted is durable, and then a mark says so; without the
//! mark, the letter is handled again by whoever comes next.

use std::collections::VecDeque;

use tokio_util::sync::CancellationToken;

use super::{
    member::Shared,
    retry::{self, Verdict},
};
use crate::{
    handler::{Delivery, Outcome, RunReport},
    letter::{self, Letter, Mark, MarkKind},
    record::{NewRecord, Record},
};

/// What came of a lane's letters.
#[derive(Debug, Default)]
pub(super) struct GivenBack {
    /// Those that are done with: the offset of each one's source, and its own.
    pub(super) done: Vec<(u64, u64)>,
    /// The one behind them was given up on again, and the lane is parked as before.
    pub(super) is_held: bool,
}

/// Handles letters of one lane until all are done with, one is given up on again, or `stop` while one waits for its next
/// attempt.
pub(super) async fn handle(
    shared: &Shared,
    letters: Vec<(Letter, Record)>,
    stop: &CancellationToken,
) -> GivenBack {
    let mut given_back = GivenBack::default();
    let mut deliveries: Vec<_> = letters.iter().map(delivery).collect();
    let mut letters = VecDeque::from(letters);
    while !deliveries.is_empty() {
        let report = shared.handler.handle(deliveries).await;
        let RunReport { deliveries: mut attempted, outcomes, .. } =
            shared.output.write(report).await;
        let handled =
            outcomes.iter().take_while(|outcome| matches!(outcome, Outcome::Handled(_))).count();
        let done: Vec<_> = letters.drain(..handled).collect();
        let marks: Vec<_> = done.iter().map(|letter| mark(letter, MarkKind::Redriven)).collect();
        shared.output.mark(&marks).await;
        shared.counters.handled.add(handled as u64);
        given_back
            .done
            .extend(done.iter().map(|(letter, record)| (letter.source.offset, record.offset)));
        deliveries = attempted.split_off(handled);
        let (Some(outcome), Some(failed)) = (outcomes.get(handled), deliveries.first_mut()) else {
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
                tracing::warn!(
                    group = %shared.group.id, record = %failed.record.place(), attempts = failed.attempt,
                    reason, "A parked record was given up on again; its lane stays parked."
                );
                let held = letters.front().map(|letter| mark(letter, MarkKind::Held));
                shared.output.mark(held.as_slice()).await;
                given_back.is_held = true;
                return given_back;
            }
        }
    }
    given_back
}

/// The record as it was when it was read from its source.
fn delivery((letter, record): &(Letter, Record)) -> Delivery {
    let partition = letter.source.partition.clone();
    let original = Record {
        topic: partition.topic,
        partition: partition.partition,
        offset: letter.source.offset,
        headers: letter::original_headers(record).to_vec(),
        ..record.clone()
    };
    Delivery { record: original, attempt: 1 }
}

fn mark((letter, record): &(Letter, Record), kind: MarkKind) -> NewRecord {
    Mark { kind, letter: record.place(), source: letter.source.clone() }.record(record)
}
