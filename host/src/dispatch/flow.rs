//! How much of one member is under way: calls of the handler, and what they emitted until it is acknowledged.
//!
//! A call's place is free again when the handler is done with its records, so `max-in-flight` says how many are handled at
//! once, however long the broker takes with what came of them. That has a bound of its own, in bytes; a call whose output
//! finds no room keeps its place until there is some, which is how a slow broker slows the handler down. Knows no lanes,
//! no handler and no broker.
//!
//! Invariants: no more calls hold a place than there are; output that is being written has no more bytes than there is room
//! for, and one that is larger than all of it is alone.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::handler::{Outcome, RunReport};

/// Bytes of output that may be under way, with the records that it came of.
const OUTPUT_BYTES: u32 = 32 << 20;
/// What a record of output takes beside its bytes, while it is under way.
const OVERHEAD: usize = 512;

/// The bounds of one member.
#[derive(Debug)]
pub(super) struct Flow {
    calls: Arc<Semaphore>,
    output: Arc<Semaphore>,
}

/// A place for one call, until the handler is done with it.
#[derive(Debug)]
pub(super) struct Call {
    _place: Option<OwnedSemaphorePermit>,
    output: Arc<Semaphore>,
}

impl Flow {
    /// Places for so many calls.
    pub(super) fn new(calls: usize) -> Self {
        let output = Arc::new(Semaphore::new(OUTPUT_BYTES as usize));
        Self { calls: Arc::new(Semaphore::new(calls)), output }
    }

    /// A place, where one is free.
    pub(super) fn call(&self) -> Option<Call> {
        let place = self.calls.clone().try_acquire_owned().ok()?;
        Some(Call { _place: Some(place), output: self.output.clone() })
    }

    pub(super) fn is_full(&self) -> bool {
        self.calls.available_permits() == 0
    }

    /// Waits until a place is free.
    pub(super) async fn freed(&self) {
        drop(self.calls.acquire().await);
    }
}

impl Call {
    /// The same without a place: for calls that are over, while another that had this one goes on.
    pub(super) fn over(&self) -> Self {
        Self { _place: None, output: self.output.clone() }
    }

    /// Ends the call, when what came of it has room. That is to be held until it is acknowledged; `None`: nothing came.
    pub(super) async fn end<'a>(
        self,
        reports: impl Iterator<Item = &'a RunReport>,
    ) -> Option<OwnedSemaphorePermit> {
        let size = reports.map(size).sum::<usize>();
        let size = u32::try_from(size).unwrap_or(u32::MAX).min(OUTPUT_BYTES);
        if size == 0 {
            return None;
        }
        self.output.acquire_many_owned(size).await.ok()
    }
}

/// Bytes that a run takes until its output is acknowledged; 0: it has none.
pub(super) fn size(RunReport { deliveries, outcomes, .. }: &RunReport) -> usize {
    let emitted = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Handled(records) => Some(records),
        _ => None,
    });
    let emitted: usize = emitted.flatten().map(|record| OVERHEAD + record.size()).sum();
    let sources = || deliveries.iter().map(|delivery| delivery.record.size()).sum::<usize>();
    if emitted > 0 { emitted + sources() } else { 0 }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::{handler::Generation, record::NewRecord};

    /// The report of a run that emitted so many records of so many bytes.
    fn report(records: usize, bytes: usize) -> RunReport {
        let value = Bytes::from_static(&[0; 4 << 20]).slice(..bytes);
        let generation = Generation { plugin: "p".into(), digest: [0; 32] };
        let emitted = vec![NewRecord::new("t", value); records];
        let outcomes = vec![Outcome::Handled(Vec::new()), Outcome::Handled(emitted)];
        RunReport { generation, on_trial: false, deliveries: Vec::new(), outcomes }
    }

    #[test]
    fn a_call_without_output_needs_no_room() {
        let flow = Flow::new(2);
        let all = flow.output.clone().try_acquire_many_owned(OUTPUT_BYTES).unwrap();
        assert!(flow.call().unwrap().end([report(0, 0)].iter()).now_or_never().unwrap().is_none());
        assert!(flow.call().unwrap().end([report(1, 0)].iter()).now_or_never().is_none());
        drop(all);
    }

    #[test]
    fn an_output_larger_than_all_room_is_written_alone() {
        let flow = Flow::new(2);
        let large = flow.call().unwrap().end([report(20, 4 << 20)].iter()).now_or_never().unwrap();
        let other = [report(1, 1)];
        let mut waiting = Box::pin(flow.call().unwrap().end(other.iter()));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(large);
        assert!(waiting.now_or_never().unwrap().is_some());
    }

    #[test]
    fn whoever_waits_for_a_place_gets_one_when_a_call_ends_or_is_dropped() {
        let flow = Flow::new(1);
        for ends in [true, false] {
            let call = flow.call().unwrap();
            assert!(flow.is_full() && flow.call().is_none());
            let mut freed = Box::pin(flow.freed());
            assert!(freed.as_mut().now_or_never().is_none());
            if ends {
                drop(call.end([report(1, 1)].iter()).now_or_never().unwrap());
            } else {
                drop(call);
            }
            assert!(freed.now_or_never().is_some());
            assert!(!flow.is_full());
        }
    }

    /// What a step of a random sequence does.
    #[derive(Clone, Debug)]
    enum Step {
        Begin,
        /// The nth call is handled, with so much output.
        End {
            nth: usize,
            records: usize,
            bytes: usize,
        },
        /// The nth output is acknowledged, or cut off.
        Acknowledge {
            nth: usize,
        },
        /// The nth call is cut off before it has ended.
        Cancel {
            nth: usize,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let nth = 0..4usize;
        prop_oneof![
            6 => Just(Step::Begin),
            5 => (nth.clone(), 0..4usize, 0..4usize << 20)
                .prop_map(|(nth, records, bytes)| Step::End { nth, records, bytes }),
            3 => nth.clone().prop_map(|nth| Step::Acknowledge { nth }),
            1 => nth.prop_map(|nth| Step::Cancel { nth }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        /// The naive model: how many calls are out, who waits in which order, and what is being written.
        #[test]
        fn calls_and_output_stay_within_their_bounds(
            places in 1..6usize,
            steps in prop::collection::vec(step(), 1..100),
        ) {
            let flow = Flow::new(places);
            let mut calls = Vec::new();
            let mut waiting = std::collections::VecDeque::new();
            let mut written: Vec<(usize, Option<OwnedSemaphorePermit>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Begin => {
                        let call = flow.call();
                        prop_assert_eq!(call.is_some(), calls.len() + waiting.len() < places);
                        calls.extend(call);
                    }
                    Step::End { nth, records, bytes } if !calls.is_empty() => {
                        let call = calls.remove(nth % calls.len());
                        let reports = [report(records, bytes)];
                        let size = (records * (bytes + OVERHEAD)).min(OUTPUT_BYTES as usize);
                        waiting.push_back((size, Box::pin(async move { call.end(reports.iter()).await })));
                    }
                    Step::Acknowledge { nth } if !written.is_empty() => {
                        written.swap_remove(nth % written.len());
                    }
                    Step::Cancel { nth } if !calls.is_empty() => {
                        calls.swap_remove(nth % calls.len());
                    }
                    _ => {}
                }
                // As a member does: whatever can go on does, those who came first first.
                let mut still = std::collections::VecDeque::new();
                let mut is_blocked = false;
                for (size, mut end) in waiting.drain(..) {
                    let room = OUTPUT_BYTES as usize - written.iter().map(|(size, _)| size).sum::<usize>();
                    let ended = end.as_mut().now_or_never();
                    let goes = size == 0 || !is_blocked && size <= room;
                    prop_assert_eq!(ended.is_some(), goes, "{} bytes, room for {}", size, room);
                    match ended {
                        Some(room) => written.push((size, room)),
                        None => {
                            is_blocked = true;
                            still.push_back((size, end));
                        }
                    }
                }
                waiting = still;
                prop_assert_eq!(flow.is_full(), calls.len() + waiting.len() == places);
            }
        }
    }
}
