//! A breaker: keeps a generation that fails every call from being called again and again. Pure.
//!
//! After so many failures in a row it is open: no call begins before a pause is over, then one is tried. Where that one
//! fails, too, the pause doubles; a call that ends well closes the breaker. What the plugin itself says, `retry` and
//! `reject`, is no failure: it ends well.
//!
//! Invariant: poison alone does not open it. A record counts by its first attempts only, so it takes several that fail
//! with none that ends well between them.

use std::time::{Duration, Instant};

use super::capability::logging::cut;
use crate::handler::{Failure, Generation};

/// Counted failures in a row that open it.
const MOST: u32 = 32;
/// Attempts of one record that count.
const COUNTED: u32 = 4;
/// The first pause, and the longest.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// Bytes of the last failure that are told.
const TOLD: usize = 300;

/// The breaker of one use of a plugin.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Whose failures these are; `None`: nobody's yet.
    generation: Option<Generation>,
    /// All of them, in a row.
    failures: u64,
    counted: u32,
    last: String,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One call is under way.
    Trying {
        pause: Duration,
    },
}

/// When a call may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Now,
    At(Instant),
    /// When it is known how the one on trial ended.
    AfterTrial,
}

/// How a call, or a run of calls, ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct End<'a> {
    /// Whether one ended with an answer of the plugin's own.
    pub(super) well: bool,
    /// How the last one failed, and which attempt of its record it was.
    pub(super) failed: Option<(u32, &'a Failure)>,
}

/// What became of the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
}

impl Breaker {
    /// Whether it is closed and there is nothing to forget.
    pub(super) fn is_calm(&self) -> bool {
        self.failures == 0
    }

    /// Forgets what another generation did.
    pub(super) fn follow(&mut self, generation: &Generation) -> Option<Change> {
        if self.generation.as_ref() == Some(generation) {
            return None;
        }
        let was_closed = self.state == State::Closed;
        *self = Self { generation: Some(generation.clone()), ..Self::default() };
        (!was_closed).then_some(Change::Closed)
    }

    /// When the next call may begin.
    pub(super) fn pass(&self, now: Instant) -> Pass {
        match self.state {
            State::Closed => Pass::Now,
            State::Open { until, .. } if until <= now => Pass::Now,
            State::Open { until, .. } => Pass::At(until),
            State::Trying { .. } => Pass::AfterTrial,
        }
    }

    /// Begins a call; `None`: it may not begin now. Says whether it is the one on trial, which must be ended.
    pub(super) fn begin(&mut self, now: Instant) -> Option<bool> {
        match self.state {
            State::Closed => Some(false),
            State::Open { until, pause } if until <= now => {
                self.state = State::Trying { pause };
                Some(true)
            }
            State::Open { .. } | State::Trying { .. } => None,
        }
    }

    /// Notes how a call of `generation` ended, or a run of calls.
    pub(super) fn end(
        &mut self,
        on_trial: bool,
        generation: &Generation,
        end: End<'_>,
        now: Instant,
    ) -> Option<Change> {
        if self.generation.as_ref() != Some(generation) {
            return None; // what was on trial is forgotten
        }
        let closed = end.well.then(|| self.ended_well()).flatten();
        match end.failed {
            Some((attempt, failure)) => self.failed(on_trial, attempt, failure, now).or(closed),
            None => {
                if on_trial {
                    self.left(now);
                }
                closed
            }
        }
    }

    /// The call on trial ended without a result: another is tried.
    pub(super) fn left(&mut self, now: Instant) {
        if let State::Trying { pause } = self.state {
            self.state = State::Open { until: now, pause };
        }
    }

    fn ended_well(&mut self) -> Option<Change> {
        let was_closed = self.state == State::Closed;
        *self = Self { generation: self.generation.take(), ..Self::default() };
        (!was_closed).then_some(Change::Closed)
    }

    fn failed(
        &mut self,
        on_trial: bool,
        attempt: u32,
        failure: &Failure,
        now: Instant,
    ) -> Option<Change> {
        self.failures += 1;
        self.last = cut(&failure.to_string(), TOLD).into_owned();
        match self.state {
            State::Closed => {
                self.counted += u32::from(attempt <= COUNTED);
                (self.counted >= MOST).then(|| {
                    self.state = State::Open { until: now + SHORTEST, pause: SHORTEST };
                    Change::Opened
                })
            }
            State::Trying { pause } if on_trial => {
                let pause = (pause * 2).min(LONGEST);
                self.state = State::Open { until: now + pause, pause };
                None
            }
            // It began before: it says nothing new.
            State::Open { .. } | State::Trying { .. } => None,
        }
    }

    /// What is wrong, while it is not closed.
    pub(super) fn trouble(&self, now: Instant) -> Option<String> {
        let next = match self.state {
            State::Closed => return None,
            State::Trying { .. } => "one is tried now".to_owned(),
            State::Open { until, .. } => {
                let wait = Duration::from_millis(
                    u64::try_from(until.saturating_duration_since(now).as_millis())
                        .unwrap_or(u64::MAX),
                );
                format!("one is tried in {}", humantime::format_duration(wait))
            }
        };
        let who = self.generation.as_ref().map(ToString::to_string).unwrap_or_default();
        let (failures, last) = (self.failures, &self.last);
        Some(format!(
            "{who} failed {failures} calls in a row, the last one so: {last}; records wait, {next}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn generation(digest: u8) -> Generation {
        Generation { plugin: "p".into(), digest: [digest; 32] }
    }

    fn trap() -> Failure {
        Failure::Trap("unreachable".into())
    }

    fn breaker() -> Breaker {
        let mut breaker = Breaker::default();
        breaker.follow(&generation(0));
        breaker
    }

    fn fail(breaker: &mut Breaker, on_trial: bool, attempt: u32, now: Instant) -> Option<Change> {
        let end = End { well: false, failed: Some((attempt, &trap())) };
        breaker.end(on_trial, &generation(0), end, now)
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = breaker();
        for count in 1..=MOST {
            let change = fail(&mut breaker, false, 1, now);
            assert_eq!(change, (count == MOST).then_some(Change::Opened));
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_then_tries_one_call_at_a_time() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.begin(now), None);
        assert_eq!(breaker.pass(now), Pass::At(now + SHORTEST));
        let then = now + SHORTEST;
        assert_eq!((breaker.begin(then), breaker.begin(then)), (Some(true), None));
        assert_eq!(breaker.pass(then), Pass::AfterTrial);
        assert_eq!(fail(&mut breaker, true, 2, then), None, "it is told once");
        assert_eq!(breaker.pass(then), Pass::At(then + 2 * SHORTEST));
        let told = breaker.trouble(then).unwrap();
        assert!(told.contains("33 calls in a row") && told.contains("trap: unreachable"), "{told}");
        assert!(told.contains("p@000000000000") && told.contains("in 200ms"), "{told}");
    }

    #[test]
    fn a_call_that_ends_well_closes_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let well = End { well: true, failed: None };
        assert_eq!(breaker.end(false, &generation(0), well, now), Some(Change::Closed));
        assert_eq!((breaker.begin(now), breaker.trouble(now)), (Some(false), None));
        assert!(breaker.is_calm());
    }

    #[test]
    fn one_record_that_is_tried_for_ever_does_not_open_it() {
        let (mut breaker, now) = (breaker(), Instant::now());
        for attempt in 1..1000 {
            assert_eq!(fail(&mut breaker, false, attempt, now), None);
        }
        assert_eq!(breaker.pass(now), Pass::Now);
    }

    #[test]
    fn a_trial_that_nobody_waits_for_is_another_ones() {
        let now = Instant::now();
        let (mut breaker, then) = (opened(now), now + SHORTEST);
        assert_eq!(breaker.begin(then), Some(true));
        assert_eq!(breaker.end(true, &generation(0), End::default(), then), None);
        assert_eq!(breaker.begin(then), Some(true));
    }

    #[test]
    fn another_generation_begins_anew_and_what_the_old_one_does_is_not_its() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.follow(&generation(1)), Some(Change::Closed));
        assert_eq!(breaker.begin(now), Some(false));
        for _ in 0..MOST {
            assert_eq!(fail(&mut breaker, false, 1, now), None);
        }
        assert!(breaker.is_calm());
        assert_eq!(breaker.follow(&generation(1)), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Fail { attempt: u32 },
        Well,
        Try { ends: Option<bool> },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => (0_u64..40_000).prop_map(Step::Wait),
            40 => (1_u32..7).prop_map(|attempt| Step::Fail { attempt }),
            1 => Just(Step::Well),
            10 => proptest::option::weighted(0.9, proptest::bool::weighted(0.1))
                .prop_map(|ends| Step::Try { ends }),
        ];
        proptest::collection::vec(step, 0..400)
    }

    /// When the next call may begin, in milliseconds, read off all that happened since the last call that ended well:
    /// when it opened, and when each trial failed.
    fn due(history: &[(u64, Option<u32>)]) -> Option<u64> {
        let counted = |(_, attempt): &(u64, Option<u32>)| attempt.is_some_and(|it| it <= COUNTED);
        let opening = history
            .iter()
            .enumerate()
            .filter(|(_, event)| counted(event))
            .nth(MOST as usize - 1)?
            .0;
        let trials: Vec<u64> = history[opening..]
            .iter()
            .filter(|(_, attempt)| attempt.is_none())
            .map(|event| event.0)
            .collect();
        let pause = (0..trials.len()).fold(100, |pause, _| 30_000.min(pause * 2));
        Some(trials.last().copied().unwrap_or(history[opening].0) + pause)
    }

    proptest! {
        #[test]
        fn it_does_what_its_history_says(steps in steps()) {
            let start = Instant::now();
            let at = |ms: u64| start + Duration::from_millis(ms);
            let (mut breaker, mut now) = (breaker(), 0);
            // When a call failed, and its attempt; `None` for the one on trial.
            let mut history: Vec<(u64, Option<u32>)> = Vec::new();
            for step in steps {
                let due = due(&history);
                match step {
                    Step::Wait(ms) => now += ms,
                    Step::Fail { attempt } => {
                        fail(&mut breaker, false, attempt, at(now));
                        history.push((now, Some(attempt)));
                    }
                    Step::Well => {
                        let well = End { well: true, failed: None };
                        let change = breaker.end(false, &generation(0), well, at(now));
                        prop_assert_eq!(change, due.map(|_| Change::Closed));
                        history.clear();
                    }
                    Step::Try { ends } => {
                        let expected = due.is_none_or(|due| due <= now);
                        let begun = breaker.begin(at(now));
                        prop_assert_eq!(begun, expected.then_some(due.is_some()));
                        if begun != Some(true) {
                            continue;
                        }
                        match ends {
                            Some(true) => {
                                let well = End { well: true, failed: None };
                                breaker.end(true, &generation(0), well, at(now));
                                history.clear();
                            }
                            Some(false) => {
                                fail(&mut breaker, true, 1, at(now));
                                history.push((now, None));
                            }
                            None => breaker.left(at(now)),
                        }
                    }
                }
            }
            prop_assert_eq!(breaker.trouble(at(now)).is_some(), due(&history).is_some());
        }
    }
}
