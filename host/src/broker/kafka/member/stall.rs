//! Whether the fetching of a partition has stalled without a word. librdkafka's consumers have done that, and a member
//! that only waits cannot tell it from a topic on which nothing happens.
//!
//! It has stalled where the log grows and nothing comes. Kafka itself has to say so: one that cannot be asked is an outage,
//! which mends itself. That there are records behind the last one is not enough, since markers of transactions are never
//! handed over; nor is growth alone, since what it grew by may still be on its way. Pure.

use std::time::{Duration, Instant};

/// How long nothing may come before Kafka is asked where the log ends, and then between two questions.
pub(super) const QUIET: Duration = Duration::from_secs(30);
/// A queue that was not found empty within this time may hold records: its reader is busy, not its fetcher.
const UNSEEN: Duration = Duration::from_secs(1);

/// What is seen of one partition's queue.
#[derive(Debug)]
pub(super) struct Pulse {
    /// When it last gave a record, or was let go on.
    since: Instant,
    /// When it was last found empty.
    empty: Option<Instant>,
    /// What Kafka has said in this silence.
    answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    when: Instant,
    end: u64,
    /// Whether the log was longer than an earlier answer in this silence had it.
    grown: bool,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, empty: None, answer: None }
    }

    /// Its queue was found empty.
    pub(super) fn empty(&mut self, now: Instant) {
        self.empty = Some(now);
    }

    /// A record came, or it is not to give any now: the silence up to now means nothing.
    pub(super) fn rest(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Whether Kafka is to be asked where the log ends.
    pub(super) fn is_suspicious(&self, now: Instant) -> bool {
        let heard = self.answer.map_or(self.since, |answer| answer.when);
        let seen = self.empty.is_some_and(|empty| now.saturating_duration_since(empty) < UNSEEN);
        seen && now.saturating_duration_since(heard) >= QUIET
    }

    /// Kafka says where the log ends. Whether the fetching has stalled.
    pub(super) fn judge(&mut self, end: u64, now: Instant) -> bool {
        if !self.is_suspicious(now) {
            return false; // something came while it was asked
        }
        let before = self.answer;
        let grown = before.is_some_and(|before| before.grown || end > before.end);
        self.answer = Some(Answer { when: now, end, grown });
        before.is_some_and(|before| before.grown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Queue {
        pulse: Pulse,
        now: Instant,
    }

    impl Queue {
        fn new() -> Self {
            let now = Instant::now();
            Self { pulse: Pulse::new(now), now }
        }

        /// Time passes in which the queue is found empty; then Kafka says where the log ends.
        fn after(&mut self, silence: Duration, end: u64) -> bool {
            self.now += silence;
            self.pulse.empty(self.now);
            self.pulse.judge(end, self.now)
        }
    }

    #[test]
    fn a_topic_on_which_nothing_happens_is_no_stall_however_long_it_lasts() {
        let mut queue = Queue::new();
        assert!((0..100).all(|_| !queue.after(QUIET, 7)));
    }

    #[test]
    fn one_that_gives_nothing_has_stalled_when_the_log_has_grown_for_long_enough() {
        let mut queue = Queue::new();
        assert!(!queue.after(QUIET / 2, 6), "too early to ask");
        assert!(!queue.after(QUIET / 2, 7));
        assert!(!queue.after(QUIET, 8), "this may only just have been written");
        assert!(queue.after(QUIET, 8));
    }

    #[test]
    fn whatever_comes_ends_the_silence() {
        let mut queue = Queue::new();
        for end in [10, 20, 30, 40] {
            assert!(!queue.after(QUIET, end));
            assert!(!queue.after(QUIET, end + 1));
            queue.pulse.rest(queue.now);
            assert!(!queue.after(QUIET / 2, end + 2));
        }
    }

    #[test]
    fn a_queue_that_nobody_looks_into_is_not_suspicious() {
        let mut queue = Queue::new();
        queue.pulse.empty(queue.now);
        assert!(!queue.pulse.is_suspicious(queue.now + 2 * QUIET));
        queue.pulse.empty(queue.now + 2 * QUIET);
        assert!(queue.pulse.is_suspicious(queue.now + 2 * QUIET));
    }
}
