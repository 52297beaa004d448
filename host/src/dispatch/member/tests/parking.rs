//! Parked lanes: what is parked behind, what a next owner knows, and how a lane is given back.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;
use crate::{
    dispatch::PartitionStatus,
    letter::{self, Entry, Letter, Mark, MarkKind},
};

const TOPIC: &str = "g.parked";

/// Rejects records whose value begins with `bad`, and emits what it handles to `out`.
fn picky(delivery: Delivery) -> BoxFuture<'static, Outcome> {
    let value = delivery.record.value.unwrap_or_default();
    Box::pin(async move {
        if value.starts_with(b"bad") {
            return Outcome::Reject { reason: "it is bad".into() };
        }
        Outcome::Handled(vec![NewRecord::new("out", value)])
    })
}

fn parking(ordering: Ordering) -> Group {
    group(ordering, OnReject::Park)
}

/// Records of partition 0 from `offset` on: key and value each.
fn keyed(offset: u64, records: &[(&'static str, &'static str)]) -> MemberEvent {
    let keyed = (offset..).zip(records).map(|(offset, (key, value))| Record {
        value: Some((*value).into()),
        ..record(0, offset, Some(key).filter(|key| !key.is_empty()).copied())
    });
    MemberEvent::Records(keyed.collect())
}

impl Rig {
    /// A rig whose broker has what another member has left.
    fn after(group: Group, produced: Vec<NewRecord>) -> Self {
        let rig = Self::new(group, picky);
        *rig.broker.produced.lock().unwrap() = produced;
        rig
    }

    fn produced(&self) -> Vec<NewRecord> {
        self.broker.produced.lock().unwrap().clone()
    }

    /// What the handler emitted, in order.
    fn out(&self) -> Vec<String> {
        let text = |record: Record| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        self.broker.kept("out").into_iter().map(text).collect()
    }

    fn letters(&self) -> Vec<(Letter, Record)> {
        let letter = |record: Record| match letter::read(&record)? {
            Entry::Letter(letter) => Some((letter, record)),
            Entry::Mark(_) | Entry::Sought(_) => None,
        };
        self.broker.kept(TOPIC).into_iter().filter_map(letter).collect()
    }

    /// The offsets of the source that are parked, with the attempts that were made at each.
    fn parked(&self) -> Vec<(u64, u32)> {
        let letters = self.letters();
        letters.iter().map(|(letter, _)| (letter.source.offset, letter.attempts)).collect()
    }

    /// What the marks of this kind are about, by the offset of the source.
    fn marked(&self, kind: MarkKind) -> Vec<u64> {
        let mark = |record: Record| match letter::read(&record)? {
            Entry::Mark(mark) if mark.kind == kind => Some(mark.source.offset),
            _ => None,
        };
        self.broker.kept(TOPIC).into_iter().filter_map(mark).collect()
    }

    /// Gives the lane of the nth letter back, as an operator does.
    fn release(&self, nth: usize) {
        let (letter, record) = self.letters().swap_remove(nth);
        let mark = Mark { kind: MarkKind::Released, letter: record.place(), source: letter.source };
        self.broker.produced.lock().unwrap().push(mark.record(&record));
    }

    pub(super) async fn shows_parked(&mut self, lanes: usize, records: usize) {
        let parked = |partition: &PartitionStatus| {
            (partition.parked_lanes, partition.parked_records) == (lanes, records)
        };
        self.until(|status| status.partitions.first().is_some_and(parked)).await;
    }

    /// Answers commits until `wanted` holds.
    pub(super) async fn eventually(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let end = Instant::now() + SOON;
        while !wanted(self) {
            assert!(Instant::now() < end, "never: {what}; out {:?}", self.out());
            let command = timeout(Duration::from_millis(10), self.driver.commands.recv()).await;
            if let Ok(Some(Command::Commit { done, .. })) = command {
                done.send(Ok(())).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_record_that_is_given_up_on_parks_its_lane_and_no_other() {
    let mut rig = Rig::new(parking(Ordering::Key), picky);
    rig.assign(0, None).await;
    let records = [("a", "bad"), ("b", "1"), ("a", "2"), ("", "3"), ("a", "4"), ("b", "5")];
    rig.send(keyed(0, &records)).await;
    rig.committed(6).await;
    assert_eq!(rig.parked(), [(0, 1), (2, 0), (4, 0)]);
    let mut out = rig.out();
    out.sort_unstable();
    assert_eq!(out, ["1", "3", "5"]);
    let letters = rig.letters();
    let (first, behind) = (&letters[0], &letters[1]);
    assert_eq!(first.0.reason, "it is bad");
    assert_eq!(behind.0.reason, "parked behind t/0@0");
    assert_eq!((behind.1.partition, behind.1.timestamp), (0, Some(7)), "as it was");
    assert_eq!(rig.shared.counters.parked.get(), 3);
    rig.shows_parked(1, 3).await;
}

#[tokio::test]
async fn a_lane_is_the_whole_partition_or_one_record_as_the_ordering_says() {
    for (ordering, parked) in
        [(Ordering::Partition, vec![(0, 1), (1, 0), (2, 0)]), (Ordering::None, vec![(0, 1)])]
    {
        let mut rig = Rig::new(parking(ordering), picky);
        rig.assign(0, None).await;
        rig.send(keyed(0, &[("a", "bad"), ("a", "1"), ("b", "2")])).await;
        rig.committed(3).await;
        assert_eq!(rig.parked(), parked, "{ordering:?}");
    }
}

#[tokio::test]
async fn parked_records_are_written_before_their_offsets_are_committed_whatever_the_trouble() {
    let mut rig = Rig::new(parking(Ordering::Key), picky);
    *rig.broker.trouble.lock().unwrap() = 2;
    rig.assign(0, None).await;
    rig.send(keyed(0, &[("a", "bad"), ("a", "1"), ("a", "2")])).await;
    rig.committed(3).await;
    assert_eq!(rig.parked(), [(0, 1), (1, 0), (2, 0)]);
}

#[tokio::test]
async fn the_next_owner_knows_what_is_parked_before_it_handles_a_record() {
    let mut rig = Rig::new(parking(Ordering::Key), picky);
    rig.assign(0, None).await;
    rig.send(keyed(0, &[("a", "bad"), ("a", "1")])).await;
    rig.committed(2).await;

    let mut next = Rig::after(parking(Ordering::Key), rig.produced());
    *next.broker.blind.lock().unwrap() = 2;
    next.assign(0, Some(2)).await;
    next.send(keyed(2, &[("a", "2"), ("b", "3")])).await;
    next.committed(4).await;
    assert_eq!(*next.broker.blind.lock().unwrap(), 0, "it asked until it was told");
    assert_eq!(next.parked(), [(0, 1), (1, 0), (2, 0)]);
    assert_eq!(next.out(), ["3"]);
}

#[tokio::test]
async fn what_was_parked_but_not_committed_is_not_parked_twice() {
    let mut rig = Rig::new(parking(Ordering::Key), picky);
    rig.assign(0, None).await;
    let records = [("a", "bad"), ("a", "1")];
    rig.send(keyed(0, &records)).await;
    rig.eventually("both are parked", |rig| rig.parked().len() == 2).await;

    let mut next = Rig::after(parking(Ordering::Key), rig.produced());
    next.assign(0, None).await;
    next.send(keyed(0, &[records.as_slice(), &[("a", "2")]].concat())).await;
    next.committed(3).await;
    assert_eq!(next.parked(), [(0, 1), (1, 0), (2, 0)]);
    assert_eq!(next.calls(), []);
}

#[tokio::test]
async fn a_lane_is_given_back_in_order_in_front_of_its_new_records_and_is_free_then() {
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = mended.clone();
    let mut rig = Rig::new(parking(Ordering::Key), move |mut delivery| {
        if delivery.record.offset == 0 && !is_mended.load(Relaxed) {
            delivery.record.value = Some("bad".into());
        }
        picky(delivery)
    });
    rig.assign(0, None).await;
    rig.send(keyed(0, &[("a", "0"), ("a", "1"), ("a", "2")])).await;
    rig.committed(3).await;
    mended.store(true, Relaxed);
    rig.release(1);
    rig.send(keyed(3, &[("a", "3")])).await;
    rig.eventually("all are handled", |rig| {
        rig.out().len() == 4 || rig.marked(MarkKind::Redriven).len() == 4
    })
    .await;
    assert_eq!(rig.out()[..3], ["0", "1", "2"]);
    let parked = rig.parked().len() as u64;
    assert_eq!(rig.marked(MarkKind::Redriven), (0..parked).collect::<Vec<_>>());
    rig.shows_parked(0, 0).await;
    rig.send(keyed(4, &[("a", "4")])).await;
    rig.eventually("the lane is free", |rig| rig.out().len() == 5).await;
    assert_eq!(rig.out(), ["0", "1", "2", "3", "4"]);
    assert_eq!(rig.parked().len() as u64, parked, "nothing is parked any more");
}

#[tokio::test]
async fn a_lane_that_fails_again_stays_parked_from_there_and_loses_nothing() {
    let mut rig = Rig::new(parking(Ordering::Key), picky);
    rig.assign(0, None).await;
    rig.send(keyed(0, &[("a", "bad"), ("a", "1"), ("b", "2")])).await;
    rig.committed(3).await;
    rig.release(0);
    rig.eventually("it is held", |rig| rig.marked(MarkKind::Held) == [0]).await;
    rig.send(keyed(3, &[("a", "3"), ("b", "4")])).await;
    rig.committed(5).await;
    assert_eq!(rig.parked(), [(0, 1), (1, 0), (3, 0)]);
    assert!(rig.marked(MarkKind::Redriven).is_empty());
    assert_eq!(rig.out(), ["2", "4"]);
}

#[tokio::test]
async fn giving_back_goes_on_where_the_last_owner_left_it() {
    let mut rig = Rig::new(parking(Ordering::Key), picky);
    rig.assign(0, None).await;
    let records = [("a", "bad"), ("a", "1"), ("a", "2"), ("b", "bad"), ("b", "3")];
    rig.send(keyed(0, &records)).await;
    rig.committed(5).await;
    // As if it had been handled by a better plugin, and the member had died then.
    rig.task.abort();
    rig.release(0);
    let (letter, record) = rig.letters().swap_remove(0);
    let done = Mark { kind: MarkKind::Redriven, letter: record.place(), source: letter.source };
    let produced = [rig.produced(), vec![done.record(&record)]].concat();

    let mut next = Rig::after(parking(Ordering::Key), produced);
    next.assign(0, Some(5)).await;
    next.eventually("the rest is handled", |rig| rig.out().len() == 2).await;
    assert_eq!(next.out(), ["1", "2"]);
    next.eventually("and marked", |rig| rig.marked(MarkKind::Redriven) == [0, 1, 2]).await;
    next.shows_parked(1, 2).await;
}

#[tokio::test]
async fn lanes_without_a_key_are_given_back_one_by_one() {
    let mut rig = Rig::new(parking(Ordering::None), |mut delivery| {
        if delivery.record.timestamp == Some(7) {
            delivery.record.value = Some("bad".into());
        }
        picky(delivery)
    });
    rig.assign(0, None).await;
    let names: Vec<_> = (0..300).map(|_| ("", "x")).collect();
    rig.send(keyed(0, &names)).await;
    rig.committed(300).await;
    assert_eq!(rig.parked().len(), 300);
    let mut released = [17, 299].map(|letter| {
        rig.release(letter);
        rig.letters()[letter].0.source.offset // lanes are parked in no order
    });
    rig.eventually("both fail again", |rig| rig.marked(MarkKind::Held).len() == 2).await;
    let mut held = rig.marked(MarkKind::Held);
    held.sort_unstable();
    released.sort_unstable();
    assert_eq!(held, released);
}

#[tokio::test]
async fn of_a_paused_partition_no_lane_is_given_back_until_it_goes_on() {
    let bad = |partition| Record { value: Some("bad".into()), ..record(partition, 0, Some("a")) };
    let mut rig = Rig::new(parking(Ordering::Key), picky);
    rig.assign(0, None).await;
    rig.assign(1, None).await;
    rig.send(MemberEvent::Records(vec![bad(0)])).await;
    rig.eventually("the first is parked", |rig| rig.letters().len() == 1).await;
    rig.send(MemberEvent::Records(vec![bad(1)])).await;
    rig.eventually("the second is parked", |rig| rig.letters().len() == 2).await;
    rig.pause(&[0]);
    rig.release(0);
    rig.release(1);
    // Its turn would have come before this one's.
    rig.eventually("the second fails again", |rig| !rig.marked(MarkKind::Held).is_empty()).await;
    assert_eq!(rig.calls().len(), 3, "the first was not tried again");
    rig.pause(&[]);
    rig.eventually("the first fails again", |rig| rig.marked(MarkKind::Held).len() == 2).await;
}

/// Rejects the record of offset 1 until it is mended.
fn mendable(mended: &Arc<AtomicBool>) -> impl Fn(Delivery) -> BoxFuture<'static, Outcome> + use<> {
    let mended = mended.clone();
    move |mut delivery| {
        if delivery.record.offset == 1 && !mended.load(Relaxed) {
            delivery.record.value = Some("bad".into());
        }
        picky(delivery)
    }
}

#[tokio::test]
async fn a_partition_that_is_moved_back_handles_again_what_was_parked_and_gives_none_of_it_back() {
    let mended = Arc::new(AtomicBool::new(false));
    let mut rig = Rig::new(parking(Ordering::Key), mendable(&mended));
    let records = [("b", "0"), ("a", "1"), ("a", "2"), ("b", "3")];
    rig.assign(0, None).await;
    rig.send(keyed(0, &records)).await;
    rig.committed(4).await;
    assert_eq!(rig.parked(), [(1, 1), (2, 0)]);
    mended.store(true, Relaxed);
    let moved = rig.seek(0, 1).await;
    assert_eq!(rig.commit(Ok(())).await[0].committed.offset, 1);
    assert_eq!(moved.await.unwrap().unwrap(), [at(0)]);
    assert!(matches!(rig.command().await, Command::Seek { offset: 1, .. }));
    assert!(matches!(rig.command().await, Command::Resume(_)));
    rig.send(MemberEvent::Sought { partition: at(0), offset: 1 }).await;
    rig.send(keyed(1, &records[1..])).await;
    rig.committed(4).await;
    assert_eq!(rig.out().len(), 5, "{:?}", rig.out());
    assert_eq!(rig.parked().len(), 2, "nothing was parked since");
    rig.shows_parked(0, 0).await;

    let next = Rig::after(parking(Ordering::Key), rig.produced());
    next.assign(0, Some(4)).await;
    let mut next = next;
    next.send(keyed(4, &[("a", "4")])).await;
    next.committed(5).await;
    assert_eq!(next.out().last().map(String::as_str), Some("4"), "the lane is free");
}

#[tokio::test]
async fn a_lane_that_was_parked_before_where_a_partition_is_moved_to_stays_parked_in_order() {
    let mended = Arc::new(AtomicBool::new(false));
    let mut rig = Rig::new(parking(Ordering::Key), mendable(&mended));
    let records = [("b", "0"), ("a", "1"), ("a", "2"), ("a", "3")];
    rig.assign(0, None).await;
    rig.send(keyed(0, &records)).await;
    rig.committed(4).await;
    mended.store(true, Relaxed);
    let moved = rig.seek(0, 2).await;
    assert_eq!(rig.commit(Ok(())).await[0].committed.offset, 2);
    assert_eq!(moved.await.unwrap().unwrap(), [at(0)]);
    rig.send(MemberEvent::Sought { partition: at(0), offset: 2 }).await;
    rig.send(keyed(2, &records[2..])).await;
    rig.eventually("what comes again is parked again", |rig| rig.parked().len() == 5).await;
    assert_eq!(rig.parked()[3..], [(2, 0), (3, 0)]);
    rig.shows_parked(1, 3).await;
    rig.release(0);
    rig.eventually("the lane is handled", |rig| rig.out().len() == 4).await;
    assert_eq!(rig.out(), ["0", "1", "2", "3"]);
}
