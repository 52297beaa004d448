//! Maps of random states, written by the one and read by the other.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Seek as _, Write as _},
    ops::Range,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use keyway::dispatch::OffsetMap;

use crate::{java::Java, support};

const STATES: usize = 2000;

/// What a partition may look like at a commit: the last offset is finished, or there is none.
struct State {
    base: u64,
    end: u64,
    unfinished: Vec<Range<u64>>,
}

impl State {
    /// A state of unfinished and finished runs by turns.
    fn of_runs(base: u64, runs: &[u64]) -> Self {
        let (mut end, mut unfinished) = (base, Vec::new());
        for pair in runs.chunks_exact(2) {
            unfinished.push(end..end + pair[0]);
            end += pair[0] + pair[1];
        }
        Self { base, end, unfinished }
    }

    fn random(random: &mut fastrand::Rng) -> Self {
        let bits = random.u32(1..60);
        let base = random.u64(..1 << bits);
        let (pairs, longest) = match random.u8(..100) {
            0..45 => (random.usize(..40), 4),
            45..75 => (random.usize(..150), 20),
            75..88 => (random.usize(..1000), 3),
            88..97 => (random.usize(..300), 12),
            97..99 => (random.usize(1..6), 25_000),
            99.. => (random.usize(9000..16_000), 2), // does not fit, or hardly
        };
        // Of a partition of which nothing is finished yet, Parallel Consumer never writes a map.
        let base = if pairs == 0 { base.max(1) } else { base };
        let pattern = if random.u8(..4) == 0 { random.usize(1..9).min(pairs) } else { pairs };
        let lengths: Vec<_> = (0..pattern * 2).map(|_| random.u64(1..=longest)).collect();
        let mut lengths: Vec<_> = lengths.into_iter().cycle().take(pairs * 2).collect();
        // A run that is too long for 16 bits among shorter ones.
        if random.u8(..25) == 0 {
            lengths.extend([1, random.u64(30_000..50_000)]);
        }
        Self::of_runs(base, &lengths)
    }

    /// Below an end, what is finished.
    fn finished(&self, end: u64) -> Vec<Range<u64>> {
        let unfinished = self.unfinished.iter().take_while(|range| range.start < end);
        finished(self.base, end, unfinished.cloned())
    }
}

/// What is finished between a base and an end.
fn finished(base: u64, end: u64, unfinished: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut finished = Vec::new();
    let mut at = base;
    for range in unfinished {
        if range.start > at {
            finished.push(at..range.start);
        }
        at = range.end;
    }
    if end > at {
        finished.push(at..end);
    }
    finished
}

fn states() -> Vec<State> {
    let mut random = fastrand::Rng::with_seed(0x6b65_7977);
    (0..STATES).map(|_| State::random(&mut random)).collect()
}

/// What the program makes of these lines, a line of each.
fn ask(classes: &str, question: &str, lines: impl Iterator<Item = String>) -> Vec<String> {
    let lines: String = lines.map(|line| line + "\n").collect();
    let answers = Java::start(classes, "Maps.java", &[question], Some(holding(&lines))).end();
    assert_eq!(answers.len(), lines.lines().count());

    answers
}

fn holding(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

fn written(ranges: &[Range<u64>]) -> String {
    let ranges: Vec<_> =
        ranges.iter().map(|range| format!("{}-{}", range.start, range.end)).collect();
    ranges.join(",")
}

fn read(ranges: &str) -> impl Iterator<Item = Range<u64>> {
    ranges.split_terminator(',').map(|range| {
        let (start, end) = range.split_once('-').unwrap();
        start.parse().unwrap()..end.parse().unwrap()
    })
}

#[test]
fn keyway_reads_what_parallel_consumer_writes_in_every_format() {
    let Some(classes) = support::parallel_consumer() else { return };
    let states = states();
    let lines =
        states.iter().map(|it| format!("{} {} {}", it.base, it.end, written(&it.unfinished)));
    let mut formats = BTreeMap::<_, usize>::new();
    for (state, texts) in states.iter().zip(ask(classes, "encode", lines)) {
        for (format, text) in texts.split(' ').map(|pair| pair.split_once('=').unwrap()) {
            *formats.entry(format.to_owned()).or_default() += 1;
            let map = OffsetMap::decode(state.base, text).unwrap_or_else(|why| {
                panic!("{format} of {} to {} is left unread: {why}", state.base, state.end)
            });
            let is_finished = finished(state.base, map.end(), map.unfinished());
            assert_eq!(is_finished, state.finished(state.end), "{format}: {text}");
        }
    }
    assert_eq!(formats.len(), 11, "ten formats and the chosen one: {formats:?}");
    assert!(formats.values().all(|states| *states >= STATES / 2), "{formats:?}");
}

#[test]
fn parallel_consumer_reads_what_keyway_writes() {
    let Some(classes) = support::parallel_consumer() else { return };
    let states = states();
    let maps: Vec<_> = states
        .iter()
        .map(|it| OffsetMap::new(it.base, it.end, it.unfinished.clone()).encode())
        .collect();
    let lines = states.iter().zip(&maps).map(|(state, (text, _))| format!("{} {text}", state.base));
    let (mut formats, mut cut) = (BTreeMap::<_, usize>::new(), 0);
    for ((state, (text, is_whole)), answer) in
        states.iter().zip(&maps).zip(ask(classes, "decode", lines))
    {
        let (end, unfinished) = answer.split_once(' ').unwrap();
        let end = end.parse().unwrap();
        let is_finished = finished(state.base, end, read(unfinished));
        assert_eq!(is_finished, state.finished(end), "{text}");
        // What does not fit is the beginning; and Parallel Consumer takes the last offset of a map for finished.
        assert!(if *is_whole { end == state.end } else { end < state.end }, "{end}: {text}");
        assert_eq!(is_finished.last().map_or(state.base, |last| last.end), end, "{text}");
        cut += usize::from(!is_whole);
        let format = STANDARD.decode(text).unwrap().first().map(|magic| char::from(*magic));
        *formats.entry(format).or_default() += 1;
    }
    // 'o', the long bit set that is not compressed, does not fit where a shorter format does not do.
    for format in "lanJsep".chars() {
        assert!(formats.contains_key(&Some(format)), "never wrote {format:?}: {formats:?}");
    }
    assert!((1..STATES / 10).contains(&cut), "{cut} of {STATES} did not fit");
}
