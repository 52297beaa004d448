//! Lanes: the queues of records that must be handled in order, and whose turn it is.
//!
//! A lane is taken by one run at a time and is given back when that run, with its retries, is over; that is how
//! records of one lane are handled one at a time. Lanes with waiting records take turns, so that a hot one starves
//! nobody. A lane exists only while it has records or is taken: idle ones cost nothing. Plain data: no clock, no
//! broker, no handler.

use std::{
    collections::{HashMap, VecDeque},
    mem,
};

use bytes::Bytes;

use crate::{config::Ordering, handler::Delivery, record::Record};

/// One assignment of one partition. A partition that comes back gets a new number, so that what is left over from
/// its earlier assignment can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot(pub(super) u64);

/// A lane's identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    /// The partition it belongs to.
    pub(super) slot: Slot,
    /// Which of that partition's lanes it is.
    pub(super) kind: Kind,
}

/// What the records of one lane have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Their partition.
    Partition,
    /// Their key.
    Key(Bytes),
    /// Nothing: it is one record, the one of this offset.
    Record(u64),
}

impl Kind {
    /// The lane of the record with this key at this offset.
    pub(super) fn of(ordering: Ordering, key: Option<&Bytes>, offset: u64) -> Self {
        match (ordering, key) {
            (Ordering::Partition, _) => Self::Partition,
            (Ordering::Key, Some(key)) => Self::Key(key.clone()),
            (Ordering::Key, None) | (Ordering::None, _) => Self::Record(offset),
        }
    }
}

/// Records that go to the handler together.
#[derive(Debug)]
pub(super) struct Run {
    /// The lane that is taken until [`Lanes::give_back`].
    pub(super) lane: Lane,
    /// At least one record, in offset order.
    pub(super) deliveries: Vec<Delivery>,
}

/// Records that wait, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// All lanes of one member.
#[derive(Debug)]
pub(super) struct Lanes {
    ordering: Ordering,
    lanes: HashMap<Lane, Queue>,
    /// Lanes with waiting records that no run has taken, in the order of their turns; each at most once.
    ready: VecDeque<Lane>,
    /// Of each partition that is held back, the lanes that would be ready.
    suspended: HashMap<Slot, VecDeque<Lane>>,
    loads: HashMap<Slot, Load>,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Delivery>,
    taken: bool,
}

impl Queue {
    /// With room for one record: there may be as many lanes as records.
    fn new() -> Self {
        Self { waiting: VecDeque::with_capacity(1), taken: false }
    }
}

impl Lanes {
    pub(super) fn new(ordering: Ordering) -> Self {
        Self {
            ordering,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            suspended: HashMap::new(),
            loads: HashMap::new(),
        }
    }

    /// Queues a record that was read, behind those of its lane.
    pub(super) fn push(&mut self, slot: Slot, record: Record) {
        let kind = Kind::of(self.ordering, record.key.as_ref(), record.offset);
        let lane = Lane { slot, kind };
        self.loads.entry(slot).or_default().add(&record);
        let queue = self.lanes.entry(lane.clone()).or_insert_with(Queue::new);
        queue.waiting.push_back(Delivery { record, attempt: 1 });
        if queue.waiting.len() == 1 && !queue.taken {
            self.make_ready(lane);
        }
    }

    fn make_ready(&mut self, lane: Lane) {
        match self.suspended.get_mut(&lane.slot) {
            Some(suspended) => suspended.push_back(lane),
            None => self.ready.push_back(lane),
        }
    }

    /// Takes the lane whose turn it is, if it is of partition `of`, where one is named; with `records` of its records at the
    /// most, and none behind the one with which they come to have `bytes`.
    pub(super) fn take(&mut self, of: Option<Slot>, records: usize, bytes: usize) -> Option<Run> {
        let lane = self.ready.pop_front_if(|lane| of.is_none_or(|slot| lane.slot == slot))?;
        let queue = self.lanes.get_mut(&lane).expect("a ready lane has records");
        queue.taken = true;
        let mut taken = Load::default();
        for Delivery { record, .. } in queue.waiting.iter().take(records.max(1)) {
            taken.add(record);
            if taken.bytes >= bytes {
                break;
            }
        }
        let deliveries = queue.waiting.drain(..taken.records).collect();
        let load = self.loads.get_mut(&lane.slot).expect("a lane's records are counted");
        load.records -= taken.records;
        load.bytes -= taken.bytes;
        Some(Run { lane, deliveries })
    }

    /// How many lanes could be taken now.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Puts records of a taken lane back to its front, in order. The lane stays taken.
    pub(super) fn put_back(&mut self, lane: &Lane, deliveries: Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let Some(queue) = self.lanes.get_mut(lane) else { return };
        let load = self.loads.entry(lane.slot).or_default();
        for delivery in deliveries.into_iter().rev() {
            load.add(&delivery.record);
            queue.waiting.push_front(delivery);
        }
    }

    /// Gives a taken lane back: the next run may take it.
    pub(super) fn give_back(&mut self, lane: &Lane) {
        let Some(queue) = self.lanes.get_mut(lane) else { return };
        if !mem::take(&mut queue.taken) {
            return;
        }
        if queue.waiting.is_empty() {
            self.lanes.remove(lane);
        } else {
            self.make_ready(lane.clone());
        }
    }

    /// Lets no run take a lane of this partition until [`Lanes::resume`]. Lanes that are taken stay so.
    pub(super) fn suspend(&mut self, slot: Slot) {
        if self.suspended.contains_key(&slot) {
            return;
        }
        let ready = mem::take(&mut self.ready).into_iter();
        let (theirs, rest) = ready.partition(|lane| lane.slot == slot);
        self.ready = rest;
        self.suspended.insert(slot, theirs);
    }

    /// Lets the lanes of a partition take turns again.
    pub(super) fn resume(&mut self, slot: Slot) {
        self.ready.extend(self.suspended.remove(&slot).into_iter().flatten());
    }

    /// Every lane there is, with how many of its records wait; none do where a run has taken them all.
    pub(super) fn all(&self) -> impl Iterator<Item = (Slot, &Kind, usize)> {
        self.lanes.iter().map(|(lane, queue)| (lane.slot, &lane.kind, queue.waiting.len()))
    }

    /// What waits of one partition.
    pub(super) fn load(&self, slot: Slot) -> Load {
        self.loads.get(&slot).copied().unwrap_or_default()
    }

    /// Forgets every lane of a partition, with what waits in it.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.lanes.retain(|lane, _| lane.slot != slot);
        self.ready.retain(|lane| lane.slot != slot);
        self.suspended.remove(&slot);
        self.loads.remove(&slot);
    }
}

impl Load {
    pub(super) fn add(&mut self, record: &Record) {
        self.records += 1;
        self.bytes += record.size();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn record(partition: u32, offset: u64, key: Option<u8>) -> Record {
        Record {
            topic: "t".into(),
            partition,
            offset,
            timestamp: None,
            key: key.map(|key| Bytes::copy_from_slice(&[key])),
            value: Some(Bytes::from_static(b"value")),
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_hot_lane_takes_turns_with_the_others() {
        let mut lanes = Lanes::new(Ordering::Key);
        (0..10).for_each(|offset| lanes.push(Slot(0), record(0, offset, Some(1))));
        lanes.push(Slot(0), record(0, 10, Some(2)));
        let hot = lanes.take(None, 2, 100).unwrap();
        lanes.give_back(&hot.lane);
        assert_eq!(lanes.take(None, 2, 100).unwrap().deliveries[0].record.offset, 10);
        assert_eq!(lanes.take(None, 2, 100).unwrap().deliveries[0].record.offset, 2);
    }

    #[test]
    fn a_run_ends_with_the_record_that_makes_it_large() {
        let mut lanes = Lanes::new(Ordering::Partition);
        (0..5).for_each(|offset| lanes.push(Slot(0), record(0, offset, None))); // five bytes each
        for (bytes, expected) in [(0, 1), (6, 2), (100, 2)] {
            let run = lanes.take(None, 9, bytes).unwrap();
            assert_eq!(run.deliveries.len(), expected);
            lanes.give_back(&run.lane);
        }
        assert_eq!(lanes.load(Slot(0)), Load::default());
    }

    #[test]
    fn a_lane_of_another_partition_than_the_one_that_is_named_keeps_its_turn() {
        let mut lanes = Lanes::new(Ordering::Key);
        [0, 1].into_iter().for_each(|slot| lanes.push(Slot(slot), record(0, slot, None)));
        assert!(lanes.take(Some(Slot(1)), 9, 100).is_none());
        assert_eq!(lanes.take(Some(Slot(0)), 9, 100).unwrap().lane.slot, Slot(0));
        assert_eq!(lanes.take(None, 9, 100).unwrap().lane.slot, Slot(1));
    }

    #[test]
    fn records_without_a_key_do_not_wait_for_each_other_under_key() {
        let mut lanes = Lanes::new(Ordering::Key);
        (0..3).for_each(|offset| lanes.push(Slot(0), record(0, offset, None)));
        assert_eq!(lanes.ready(), 3);
    }

    #[test]
    fn every_lane_is_counted_with_what_waits_in_it_also_while_it_is_taken() {
        let mut lanes = Lanes::new(Ordering::Key);
        (0..3).for_each(|offset| lanes.push(Slot(0), record(0, offset, Some(1))));
        lanes.push(Slot(1), record(1, 0, None));
        lanes.take(None, 2, 100).unwrap();
        let mut all: Vec<_> =
            lanes.all().map(|(slot, kind, waiting)| (slot, kind.clone(), waiting)).collect();
        all.sort_by_key(|(slot, ..)| *slot);
        let key = Kind::Key(Bytes::from_static(&[1]));
        assert_eq!(all, [(Slot(0), key, 1), (Slot(1), Kind::Record(0), 1)]);
    }

    /// What a step of a random sequence does.
    #[derive(Clone, Debug)]
    enum Step {
        Push {
            slot: u64,
            key: Option<u8>,
        },
        Take {
            limit: usize,
        },
        /// Ends the nth run that is under way after `handled` of its records.
        End {
            nth: usize,
            handled: usize,
        },
        Forget {
            slot: u64,
        },
        Suspend {
            slot: u64,
        },
        Resume {
            slot: u64,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..3u64, prop::option::of(0..4u8)).prop_map(|(slot, key)| Step::Push { slot, key }),
            4 => (1..5usize).prop_map(|limit| Step::Take { limit }),
            4 => (0..4usize, 0..5usize).prop_map(|(nth, handled)| Step::End { nth, handled }),
            1 => (0..3u64).prop_map(|slot| Step::Forget { slot }),
            1 => (0..3u64).prop_map(|slot| Step::Suspend { slot }),
            1 => (0..3u64).prop_map(|slot| Step::Resume { slot }),
        ]
    }

    /// The naive model: every lane's unfinished offsets in order, and who is taken. It checks what it is shown.
    #[derive(Default)]
    struct Model {
        waiting: BTreeMap<(u64, Name), Vec<u64>>,
        taken: BTreeSet<(u64, Name)>,
        suspended: BTreeSet<u64>,
    }

    /// The name of a lane among those of a slot.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Name {
        Partition,
        Key(u8),
        Record(u64),
    }

    fn name(ordering: Ordering, record: &Record) -> Name {
        match (ordering, &record.key) {
            (Ordering::Partition, _) => Name::Partition,
            (Ordering::Key, Some(key)) => Name::Key(key[0]),
            _ => Name::Record(record.offset),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn lanes_agree_with_a_naive_model(
            ordering in prop_oneof![
                Just(Ordering::Partition), Just(Ordering::Key), Just(Ordering::None)
            ],
            steps in prop::collection::vec(step(), 1..400),
        ) {
            let mut lanes = Lanes::new(ordering);
            let mut model = Model::default();
            let mut runs: Vec<((u64, Name), Run)> = Vec::new();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Push { slot, key } => {
                        let record = record(slot as u32, next, key);
                        next += 1;
                        model.waiting.entry((slot, name(ordering, &record))).or_default().push(record.offset);
                        lanes.push(Slot(slot), record);
                    }
                    Step::Take { limit } => {
                        let free = model.waiting.iter().any(|(lane, queue)| {
                            !queue.is_empty() && !model.taken.contains(lane) && !model.suspended.contains(&lane.0)
                        });
                        let run = lanes.take(None, limit, usize::MAX);
                        prop_assert_eq!(run.is_some(), free);
                        let Some(run) = run else { continue };
                        let lane = (run.lane.slot.0, name(ordering, &run.deliveries[0].record));
                        prop_assert!(model.taken.insert(lane), "a lane was handed out twice");
                        let offsets: Vec<_> = run.deliveries.iter().map(|delivery| delivery.record.offset).collect();
                        prop_assert!(offsets.len() <= limit);
                        let queue = model.waiting.get_mut(&lane).unwrap();
                        let expected: Vec<_> = queue.drain(..offsets.len()).collect();
                        prop_assert_eq!(offsets, expected);
                        runs.push((lane, run));
                    }
                    Step::End { nth, handled } => {
                        if runs.is_empty() { continue }
                        let (lane, mut run) = runs.remove(nth % runs.len());
                        let rest = run.deliveries.split_off(handled.min(run.deliveries.len()));
                        if model.taken.remove(&lane) {
                            let queue = model.waiting.entry(lane).or_default();
                            queue.splice(0..0, rest.iter().map(|delivery| delivery.record.offset));
                        }
                        lanes.put_back(&run.lane, rest);
                        lanes.give_back(&run.lane);
                    }
                    Step::Forget { slot } => {
                        lanes.forget(Slot(slot));
                        model.waiting.retain(|(of, _), _| *of != slot);
                        model.taken.retain(|(of, _)| *of != slot);
                        model.suspended.remove(&slot);
                        // A slot's number is never used again; here it is, so its old runs must go with it.
                        runs.retain(|(lane, _)| lane.0 != slot);
                    }
                    Step::Suspend { slot } => {
                        lanes.suspend(Slot(slot));
                        model.suspended.insert(slot);
                    }
                    Step::Resume { slot } => {
                        lanes.resume(Slot(slot));
                        model.suspended.remove(&slot);
                    }
                }
                model.waiting.retain(|_, queue| !queue.is_empty());
                for slot in 0..3 {
                    let expected = model.waiting.iter().filter(|((of, _), _)| *of == slot).map(|(_, queue)| queue.len()).sum::<usize>();
                    prop_assert_eq!(lanes.load(Slot(slot)).records, expected);
                }
            }
            prop_assert!(lanes.lanes.values().all(|queue| queue.taken || !queue.waiting.is_empty()), "an idle lane was kept");
        }
    }
}
