//! Batches formed by the requests in flight: what comes while a lane's last batch is on its way waits for that batch's
//! acknowledgement and then goes as one. A lone record never waits, and a crowd makes large batches by itself, so that no
//! `linger.ms` has to be chosen. It is a hint and no promise: nothing waits when a batch is full anyway, nor for an
//! acknowledgement that takes longer than [`LONGEST`], or [`LATE`] where librdkafka would only wait for it as well. A lane
//! is a partition, or all records of a topic that have no key. Pure: what goes is told to `send`, and what time it is comes
//! from outside.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// An acknowledgement that takes longer is not worth waiting for: then the next record takes along what waits, and
/// where none comes, whoever calls [`Gate::hurry`] does.
pub(super) const LONGEST: Duration = Duration::from_millis(20);
/// With so many records out librdkafka sends nothing more of a partition: an idempotent producer's requests must not
/// overtake each other. What it is given meanwhile it polls for without a pause, so it is given that only after [`LATE`],
/// from when on its own deadline counts.
const ENOUGH: usize = 5;
const LATE: Duration = Duration::from_secs(1);
/// What makes a batch full: what goes into one request.
const FULL_RECORDS: usize = 10_000;
const FULL_BYTES: usize = 1_000_000;

/// Which records form batches together: those of one partition of a topic, or those without one.
pub(super) type Lane = (Arc<str>, Option<u32>);

/// Waiting items of type `T`, by lane.
#[derive(Debug)]
pub(super) struct Gate<T>(Mutex<HashMap<Lane, Flight<T>>>);

#[derive(Debug)]
struct Flight<T> {
    /// Sent and not acknowledged.
    out: usize,
    /// When the last batch went.
    since: Instant,
    waiting: Vec<T>,
    bytes: usize,
}

impl<T> Gate<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// Lets an item of this many bytes through, now or later. `send` says whether an acknowledgement will come of it; it
    /// must not come back here.
    pub(super) fn admit(
        &self,
        lane: &Lane,
        item: T,
        bytes: usize,
        now: Instant,
        send: impl Fn(T) -> bool,
    ) {
        let mut lanes = self.lanes();
        if let Some(flight) = lanes.get_mut(lane) {
            flight.waiting.push(item);
            flight.bytes += bytes;
            if flight.is_full() || flight.is_late(now) {
                flight.go(now, send);
            }
        } else if send(item) {
            let flight = Flight { out: 1, since: now, waiting: Vec::new(), bytes: 0 };
            lanes.insert(lane.clone(), flight);
        }
    }

    /// One item of the lane was acknowledged, or never will be.
    pub(super) fn landed(&self, lane: &Lane, now: Instant, send: impl Fn(T) -> bool) {
        let mut lanes = self.lanes();
        let Some(flight) = lanes.get_mut(lane) else { return };
        flight.out = flight.out.saturating_sub(1);
        if flight.out == 0 {
            flight.go(now, send);
            if flight.out == 0 {
                lanes.remove(lane);
            }
        }
    }

    /// Lets through what has waited too long.
    pub(super) fn hurry(&self, now: Instant, send: impl Fn(T) -> bool) {
        for flight in self.lanes().values_mut() {
            if !flight.waiting.is_empty() && flight.is_late(now) {
                flight.go(now, &send);
            }
        }
    }

    /// Items that wait.
    pub(super) fn waiting(&self) -> usize {
        self.lanes().values().map(|flight| flight.waiting.len()).sum()
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<Lane, Flight<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Flight<T> {
    fn is_full(&self) -> bool {
        self.waiting.len() >= FULL_RECORDS || self.bytes >= FULL_BYTES
    }

    fn is_late(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= if self.out < ENOUGH { LONGEST } else { LATE }
    }

    fn go(&mut self, now: Instant, send: impl Fn(T) -> bool) {
        self.since = now;
        self.bytes = 0;
        self.out += self.waiting.drain(..).map(send).filter(|sent| *sent).count();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    struct Sent(RefCell<Vec<u32>>);

    impl Sent {
        fn take(&self) -> Vec<u32> {
            self.0.take()
        }

        fn send(&self) -> impl Fn(u32) -> bool {
            |item| {
                self.0.borrow_mut().push(item);
                true
            }
        }
    }

    fn lane(partition: u32) -> Lane {
        ("t".into(), Some(partition))
    }

    #[test]
    fn what_comes_while_a_batch_is_out_goes_together_when_it_has_landed() {
        let (gate, sent, now) = (Gate::new(), Sent(RefCell::default()), Instant::now());
        for item in 1..=4 {
            gate.admit(&lane(0), item, 1, now, sent.send());
        }
        assert_eq!(sent.take(), [1]);
        gate.landed(&lane(0), now, sent.send());
        assert_eq!(sent.take(), [2, 3, 4]);
        gate.admit(&lane(0), 5, 1, now, sent.send());
        for _ in 2..=4 {
            assert!(sent.take().is_empty());
            gate.landed(&lane(0), now, sent.send());
        }
        assert_eq!(sent.take(), [5]);
        gate.landed(&lane(0), now, sent.send());
        assert!(gate.lanes().is_empty(), "a lane with nothing in it is forgotten");
    }

    #[test]
    fn lanes_do_not_wait_for_each_other() {
        let (gate, sent, now) = (Gate::new(), Sent(RefCell::default()), Instant::now());
        gate.admit(&lane(0), 1, 1, now, sent.send());
        gate.admit(&lane(1), 2, 1, now, sent.send());
        assert_eq!(sent.take(), [1, 2]);
    }

    #[test]
    fn a_full_batch_and_a_late_one_go_at_once() {
        let (gate, sent, mut now) = (Gate::new(), Sent(RefCell::default()), Instant::now());
        gate.admit(&lane(0), 1, 1, now, sent.send());
        gate.admit(&lane(0), 2, FULL_BYTES, now, sent.send());
        assert_eq!(sent.take(), [1, 2]);
        gate.admit(&lane(0), 3, 1, now, sent.send());
        gate.hurry(now, sent.send());
        assert_eq!(gate.waiting(), 1);
        now += LONGEST;
        gate.hurry(now, sent.send());
        assert_eq!(sent.take(), [3]);
        gate.admit(&lane(0), 4, 1, now, sent.send());
        assert!(sent.take().is_empty(), "the last that went is not late");
        now += LONGEST;
        gate.admit(&lane(0), 5, 1, now, sent.send());
        assert_eq!(sent.take(), [4, 5]);
    }

    #[test]
    fn a_late_one_waits_on_while_librdkafka_would_only_keep_it() {
        let (gate, sent, mut now) = (Gate::new(), Sent(RefCell::default()), Instant::now());
        (0..=ENOUGH as u32).for_each(|item| gate.admit(&lane(0), item, 1, now, sent.send()));
        gate.landed(&lane(0), now, sent.send());
        assert_eq!(sent.take().len(), 1 + ENOUGH);
        gate.admit(&lane(0), 9, 1, now, sent.send());
        now += LONGEST;
        gate.hurry(now, sent.send());
        assert!(sent.take().is_empty());
        gate.landed(&lane(0), now, sent.send());
        gate.hurry(now, sent.send());
        assert_eq!(sent.take(), [9]);
        gate.admit(&lane(0), 10, 1, now, sent.send());
        gate.hurry(now + LATE - Duration::from_millis(1), sent.send());
        assert!(sent.take().is_empty());
        gate.hurry(now + LATE, sent.send());
        assert_eq!(sent.take(), [10], "its own deadline is near");
    }

    #[test]
    fn an_item_that_cannot_be_sent_holds_nothing_back() {
        let (gate, now) = (Gate::new(), Instant::now());
        gate.admit(&lane(0), 1, 1, now, |_| false);
        let sent = Sent(RefCell::default());
        gate.admit(&lane(0), 2, 1, now, sent.send());
        assert_eq!(sent.take(), [2]);
    }
}
