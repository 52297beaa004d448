//! Parked lanes against a naive model: what the records of the topic say, one after the other.

use std::{collections::BTreeMap, sync::LazyLock, time::SystemTime};

use proptest::prelude::*;

use super::*;
use crate::record::Place;

fn source() -> TopicPartition {
    static SOURCE: LazyLock<TopicPartition> = LazyLock::new(|| TopicPartition::new("t", 1));
    SOURCE.clone()
}

/// The topic of parked records: what the model hears, and what a next owner replays.
#[derive(Default)]
struct Topic(Vec<Record>);

impl Topic {
    fn append(&mut self, key: Option<u8>, value: &str, headers: Vec<Header>) -> u64 {
        let offset = self.0.len() as u64;
        self.0.push(Record {
            topic: "g.parked".into(),
            partition: 1,
            offset,
            timestamp: None,
            key: key.map(|key| vec![key].into()),
            value: Some(value.to_owned().into()),
            headers,
        });
        offset
    }

    fn letter(&mut self, key: Option<u8>, source: Place) -> u64 {
        let letter = Letter {
            source,
            group: "g".into(),
            handler: "h@000000000000".into(),
            attempts: 1,
            reason: "told to".into(),
            rejected_at: SystemTime::UNIX_EPOCH,
        };
        self.append(key, "v", letter.headers())
    }

    /// A mark on the letter at this offset.
    fn mark(&mut self, kind: MarkKind, letter: u64) -> u64 {
        let of = self.0[letter as usize].clone();
        let Some(Entry::Letter(Letter { source, .. })) = letter::read(&of) else {
            panic!("a mark on something else")
        };
        let headers = Mark { kind, letter: of.place(), source }.record(&of).headers;
        self.append(of.key.as_ref().map(|key| key[0]), "", headers)
    }

    fn replayed(&self, ordering: Ordering) -> Parked {
        let mut parked = Parked::new(source(), ordering, 0);
        self.0.iter().for_each(|record| parked.replay(record));
        parked
    }
}

/// The name of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    All,
    Key(u8),
    Record(u64),
}

fn name(ordering: Ordering, key: Option<u8>, source: u64) -> Name {
    match (ordering, key) {
        (Ordering::Partition, _) => Name::All,
        (Ordering::Key, Some(key)) => Name::Key(key),
        _ => Name::Record(source),
    }
}

/// Lanes with the letters in them, by the offset of their source and then by their own, and whether they are given back.
type Said = BTreeMap<Name, (Vec<(u64, u64)>, bool)>;

/// The naive model: what the topic says so far, as far as it is not done with.
struct Model {
    ordering: Ordering,
    said: Said,
    /// Every letter of this source, done with or not.
    letters: Vec<u64>,
}

impl Model {
    fn hear(&mut self, record: &Record) {
        let key = record.key.as_ref().map(|key| key[0]);
        match letter::read(record) {
            Some(Entry::Letter(letter)) if letter.source.partition == source() => {
                let name = name(self.ordering, key, letter.source.offset);
                let (letters, _) = self.said.entry(name).or_default();
                letters.push((letter.source.offset, record.offset));
                letters.sort_unstable();
                self.letters.push(record.offset);
            }
            Some(Entry::Sought(place)) if place.partition == source() => {
                self.said.retain(|_, (letters, _)| {
                    letters.retain(|(offset, _)| *offset < place.offset);
                    !letters.is_empty()
                });
            }
            Some(Entry::Mark(mark)) if mark.source.partition == source() => {
                let name = name(self.ordering, key, mark.source.offset);
                let Some((letters, released)) = self.said.get_mut(&name) else { return };
                match mark.kind {
                    MarkKind::Released => *released = true,
                    MarkKind::Held => *released = false,
                    MarkKind::Redriven => letters.retain(|(_, at)| *at != mark.letter.offset),
                }
                if letters.is_empty() {
                    self.said.remove(&name);
                }
            }
            _ => {}
        }
    }
}

fn named(kind: &Kind) -> Name {
    match kind {
        Kind::Partition => Name::All,
        Kind::Key(key) => Name::Key(key[0]),
        Kind::Record(offset) => Name::Record(*offset),
    }
}

/// Whether it has the lanes that were said.
fn has(parked: &Parked, said: &Said) -> bool {
    let is_said = |(kind, lane): (&Kind, &Lane)| {
        said.get(&named(kind)).is_some_and(|(letters, released)| {
            lane.letters.iter().eq(letters) && parked.released.contains(kind) == *released
        })
    };
    parked.lanes.len() == said.len() && parked.lanes.iter().all(is_said)
}

#[derive(Clone, Debug)]
enum Step {
    /// The next record of the source is given up on, if its lane is free, or parked behind.
    Park { key: Option<u8>, somewhere_else: bool },
    /// An operator gives the lane of the nth letter back, counted from the last.
    Release { nth: usize },
    /// The owner takes what it can of `limit` records and is done with all but the last `undone` of each lane; the
    /// first of those is given up on again, or time is up.
    GiveBack { limit: usize, undone: usize, held: bool },
    /// Another owner takes over.
    Replay,
    /// An operator moves the group so far back, from a little ahead of where it is.
    Seek { back: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => (prop::option::of(0..3u8), prop::bool::weighted(0.1))
            .prop_map(|(key, somewhere_else)| Step::Park { key, somewhere_else }),
        8 => (0..40usize).prop_map(|nth| Step::Release { nth }),
        16 => (1..6usize, 0..3usize, any::<bool>())
            .prop_map(|(limit, undone, held)| Step::GiveBack { limit, undone, held }),
        1 => Just(Step::Replay),
        1 => (0..80u64).prop_map(|back| Step::Seek { back }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn parked_lanes_agree_with_the_topic_they_are_in_and_are_given_back_in_order(
        ordering in prop_oneof![
            Just(Ordering::Partition), Just(Ordering::Key), Just(Ordering::None)
        ],
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let mut topic = Topic::default();
        let mut model = Model { ordering, said: Said::new(), letters: Vec::new() };
        let mut parked = Parked::new(source(), ordering, 0);
        // One that only ever replays, as whoever takes over at that moment.
        let mut next_owner = topic.replayed(ordering);
        let mut heard = 0;
        // By lane, the source offset that was handled last: it only grows.
        let mut handled: BTreeMap<Name, u64> = BTreeMap::new();
        for (offset, step) in (0..).zip(steps) {
            match step {
                Step::Park { key, somewhere_else: true } => {
                    let elsewhere = TopicPartition::new("t", 2);
                    let letter = topic.letter(key, Place { partition: elsewhere, offset });
                    parked.replay(&topic.0[letter as usize]);
                }
                Step::Park { key, somewhere_else: false } => {
                    let kind = Kind::of(ordering, key.map(|key| vec![key].into()).as_ref(), offset);
                    match (parked.way(&kind), model.said.get(&name(ordering, key, offset))) {
                        (Way::Free, None) => {}
                        (Way::Behind(first), Some((letters, _))) => prop_assert_eq!(first, letters[0].0),
                        (Way::Wait, Some((_, true))) => continue, // it waits in memory, and is not parked
                        (way, lane) => return Err(TestCaseError::fail(format!("{way:?} for {lane:?}"))),
                    }
                    parked.occupy(&kind);
                    let letter = topic.letter(key, Place { partition: source(), offset });
                    parked.parked(&kind, offset, letter);
                    parked.free(&kind);
                }
                Step::Release { nth } => {
                    let Some(last) = model.letters.len().checked_sub(1) else { continue };
                    let mark = topic.mark(MarkKind::Released, model.letters[last - nth.min(last)]);
                    parked.replay(&topic.0[mark as usize]);
                }
                Step::GiveBack { limit, undone, held } => {
                    let Some(from) = parked.next() else {
                        prop_assert!(model.said.values().all(|(_, released)| !released));
                        continue;
                    };
                    let read: Vec<_> = topic.0.iter().skip(from as usize).take(limit).cloned().collect();
                    let (taken, lost) = parked.take(from, read);
                    prop_assert_eq!(lost, Vec::<u64>::new());
                    prop_assert!(!taken.is_empty(), "what is next can be taken");
                    for Taken { kind, letters } in taken {
                        prop_assert_eq!(parked.way(&kind), Way::Wait);
                        let all = letters.len() == parked.lanes[&kind].letters.len();
                        let done = letters.len().saturating_sub(undone);
                        for (letter, record) in &letters[..done] {
                            let before = handled.insert(named(&kind), letter.source.offset);
                            prop_assert!(before < Some(letter.source.offset), "out of order");
                            topic.mark(MarkKind::Redriven, record.offset);
                            parked.done(&kind, letter.source.offset, record.offset);
                        }
                        if held && let Some((_, record)) = letters.get(done) {
                            topic.mark(MarkKind::Held, record.offset);
                            parked.hold(&kind);
                        }
                        parked.free(&kind);
                        prop_assert_eq!(parked.way(&kind) == Way::Free, all && done == letters.len());
                    }
                }
                Step::Replay => parked = topic.replayed(ordering),
                Step::Seek { back } => {
                    let place = Place { partition: source(), offset: (offset + 20).saturating_sub(back) };
                    topic.append(None, "", letter::sought(&source(), &place).headers);
                    parked = topic.replayed(ordering);
                    handled.clear(); // what was handled is handled again
                }
            }
            for record in &topic.0[heard..] {
                model.hear(record);
                next_owner.replay(record);
            }
            heard = topic.0.len();
            let records = model.said.values().map(|(letters, _)| letters.len()).sum();
            prop_assert_eq!(parked.size(), (model.said.len(), records));
            // What a step does to a lane is still there three steps later, and a look at all lanes takes its time.
            if offset % 4 == 0 {
                prop_assert!(has(&parked, &model.said), "{:?}\n{:?}", parked, model.said);
                prop_assert!(has(&next_owner, &model.said), "{:?}\n{:?}", next_owner, model.said);
            }
        }
    }
}

fn record(offset: u64, key: u8, value: &'static str) -> Record {
    Record {
        topic: "t".into(),
        partition: 1,
        offset,
        timestamp: None,
        key: Some(vec![key].into()),
        value: Some(value.into()),
        headers: Vec::new(),
    }
}

#[test]
fn what_was_parked_and_not_committed_is_known_once_and_by_its_content() {
    let mut topic = Topic::default();
    for offset in [4, 5, 6] {
        topic.letter(Some(7), Place { partition: source(), offset });
    }
    topic.mark(MarkKind::Redriven, 1);
    let mut parked = Parked::new(source(), Ordering::Key, 5);
    topic.0.iter().for_each(|record| parked.replay(record));
    assert!(!parked.knows(&record(4, 7, "v")), "it is committed, so it does not come again");
    assert!(parked.knows(&record(5, 7, "v")), "even if it was done with since");
    assert!(!parked.knows(&record(5, 7, "v")), "a second one is another record");
    assert!(!parked.knows(&record(6, 7, "other")), "the topic was made anew");
}

#[test]
fn new_records_are_parked_behind_while_a_long_lane_is_given_back_and_wait_for_its_end() {
    let mut topic = Topic::default();
    for offset in 0..FEW as u64 + 1 {
        topic.letter(Some(7), Place { partition: source(), offset });
    }
    topic.mark(MarkKind::Released, 0);
    let mut parked = topic.replayed(Ordering::Key);
    let kind = Kind::Key(vec![7].into());
    assert_eq!(parked.way(&kind), Way::Behind(0));
    parked.done(&kind, 0, 0);
    assert_eq!(parked.way(&kind), Way::Wait);
}

#[test]
fn a_lane_that_was_parked_after_a_release_is_not_given_back_by_it() {
    let mut topic = Topic::default();
    topic.letter(Some(7), Place { partition: source(), offset: 0 });
    let release = topic.mark(MarkKind::Released, 0);
    topic.mark(MarkKind::Redriven, 0);
    topic.letter(Some(7), Place { partition: source(), offset: 1 });
    let mut parked = topic.replayed(Ordering::Key);
    assert!(!parked.release(&Kind::Key(vec![7].into()), release));
    assert_eq!(parked.next(), None);
}

#[test]
fn letters_that_somebody_deleted_are_told_and_stop_nobody() {
    let mut topic = Topic::default();
    for offset in 0..4 {
        topic.letter(Some(7), Place { partition: source(), offset });
    }
    topic.mark(MarkKind::Released, 0);
    let mut parked = topic.replayed(Ordering::Key);
    let (taken, lost) = parked.take(0, topic.0[2..4].to_vec());
    assert_eq!(lost, [0, 1]);
    assert_eq!(taken[0].letters.len(), 2);
    parked.free(&taken[0].kind);
    let (taken, lost) = parked.take(2, Vec::new());
    assert_eq!((taken.len(), lost), (0, vec![2, 3]));
    assert!(parked.is_empty());
}
