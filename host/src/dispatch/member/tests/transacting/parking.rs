//! Parked lanes under exactly-once: letters, marks and offsets in one transaction.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;
use crate::letter;

/// Rejects record 1 and what is `bad`, emits the value of every other.
fn picky(delivery: Delivery) -> BoxFuture<'static, Outcome> {
    let Record { offset, value, .. } = delivery.record;
    match offset {
        1 => rejected(),
        _ => Box::pin(async {
            Outcome::Handled(vec![NewRecord::new("out", value.unwrap_or_default())])
        }),
    }
}

fn parking() -> Group {
    Group { ordering: Ordering::Key, ..exactly_once(OnReject::Park) }
}

impl Rig {
    /// Commits transactions, with all that is in them, until `wanted` holds.
    async fn commit_until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let end = Instant::now() + SOON;
        while !wanted(self) {
            assert!(Instant::now() < end, "never: {what}; {:?}", self.broker.kept("g.parked"));
            let command = timeout(Duration::from_millis(10), self.driver.commands.recv()).await;
            match command {
                Ok(Some(Command::Transact { records, offsets, done })) => {
                    assert!(!offsets.is_empty(), "a member that lost its partitions would pass");
                    self.broker.produced.lock().unwrap().extend(records);
                    done.send(Ok(Vec::new())).unwrap();
                }
                Ok(other) => panic!("a transaction was expected, not {other:?}"),
                Err(_elapsed) => {}
            }
        }
    }

    fn kept(&self, topic: &str) -> usize {
        self.broker.kept(topic).len()
    }

    async fn keyed(&self, records: &[(u64, &'static str)]) {
        let keyed = records.iter().map(|(offset, key)| Record {
            value: Some(offset.to_string().into()),
            ..record(0, *offset, Some(key))
        });
        self.send(MemberEvent::Records(keyed.collect())).await;
    }

    /// Gives the lane of the first letter back, as an operator does.
    fn release_first(&self) {
        let letter = self.broker.kept("g.parked").swap_remove(0);
        let Some(letter::Entry::Letter(about)) = letter::read(&letter) else {
            panic!("{letter:?}")
        };
        let kind = letter::MarkKind::Released;
        let mark = letter::Mark { kind, letter: letter.place(), source: about.source };
        self.broker.produced.lock().unwrap().push(mark.record(&letter));
    }
}

#[tokio::test]
async fn what_is_parked_is_in_the_transaction_of_its_offset_and_parked_again_after_one_that_failed()
{
    let mut rig = Rig::new(parking(), picky);
    rig.assign(0, Some(0)).await;
    let records = [(0, "b"), (1, "a"), (2, "a"), (3, "b")];
    rig.keyed(&records).await;
    loop {
        let (records, _, done) = rig.transaction().await;
        if records.iter().any(|record| &*record.topic == "g.parked") {
            done.send(aborted()).unwrap();
            break;
        }
        rig.broker.produced.lock().unwrap().extend(records);
        done.send(Ok(Vec::new())).unwrap();
    }
    let committed = rig.kept("out") as u64; // the first, or none
    rig.rewind(committed.min(1)).await;
    rig.keyed(&records[committed.min(1) as usize..]).await;
    rig.commit_until("all is parked or handled", |rig| {
        rig.kept("out") == 2 && rig.kept("g.parked") == 2
    })
    .await;
    assert_eq!(rig.broker.kept("g.parked")[1].value, Some("2".into()));
    rig.shows_parked(1, 2).await;
    let shared = rig.shared.clone();
    rig.until(|_| shared.counters.parked.get() == 2).await;
}

/// A member with a partition, whose handler is picky until it is mended.
async fn mendable() -> (Rig, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = mended.clone();
    let rig = Rig::new(parking(), move |mut delivery| {
        delivery.record.offset += 100 * u64::from(is_mended.load(Relaxed));
        picky(delivery)
    });
    rig.assign(0, Some(0)).await;
    (rig, mended)
}

#[tokio::test]
async fn what_comes_of_a_lane_that_is_given_back_is_written_with_its_marks_and_offset() {
    let (mut rig, mended) = mendable().await;
    rig.keyed(&[(0, "b"), (1, "a"), (2, "a")]).await;
    rig.commit_until("two are parked", |rig| rig.kept("g.parked") == 2).await;
    mended.store(true, Relaxed);
    rig.release_first();
    let (records, offsets, done) = rig.transaction().await;
    let topics: Vec<_> = records.iter().map(|record| &*record.topic).collect();
    assert_eq!(topics, ["out", "g.parked", "out", "g.parked"]);
    assert_eq!(offsets[0].committed.offset, 3, "it is committed anew");
    // As if it had failed: all of it happens once more.
    done.send(aborted()).unwrap();
    rig.rewind(3).await;
    rig.commit_until("both are handled", |rig| rig.kept("out") == 3).await;
    let out: Vec<_> = rig.broker.kept("out").into_iter().map(|it| it.value.unwrap()).collect();
    assert_eq!(out, ["0", "1", "2"]);
    rig.shows_parked(0, 0).await;
    rig.keyed(&[(3, "a")]).await;
    rig.commit_until("the lane is free", |rig| rig.kept("out") == 4).await;
}

#[tokio::test]
async fn a_parked_record_whose_output_is_refused_keeps_its_lane_parked() {
    let (mut rig, mended) = mendable().await;
    rig.keyed(&[(1, "a"), (2, "a")]).await;
    rig.commit_until("two are parked", |rig| rig.kept("g.parked") == 2).await;
    mended.store(true, Relaxed);
    rig.release_first();
    rig.refuse(|record| record.value == Some("2".into())).await;
    rig.rewind(3).await;
    rig.commit_until("the first is handled", |rig| rig.kept("out") == 1).await;
    let held = |rig: &Rig| {
        let marks = rig.broker.kept("g.parked").into_iter().filter_map(|it| letter::read(&it));
        let is_held = |mark: &letter::Mark| mark.kind == letter::MarkKind::Held;
        marks.into_iter().any(|it| matches!(it, letter::Entry::Mark(mark) if is_held(&mark)))
    };
    rig.commit_until("the second is held", held).await;
    rig.shows_parked(1, 1).await;
}

#[tokio::test]
async fn a_partition_whose_parked_letter_is_refused_stands_still_in_front_of_it() {
    let mut rig = Rig::new(parking(), picky);
    rig.assign(0, Some(0)).await;
    rig.keyed(&[(0, "b"), (1, "a"), (2, "a")]).await;
    rig.commit_until("two are parked", |rig| rig.kept("g.parked") == 2).await;
    rig.keyed(&[(3, "a")]).await;
    rig.refuse(|record| record.value == Some("3".into())).await;
    rig.rewind(3).await;
    rig.keyed(&[(3, "a"), (4, "a")]).await;
    assert!(matches!(rig.command().await, Command::Pause(_)));
    rig.until(|status| {
        let stopped = status.partitions.first().and_then(|it| it.stopped.as_deref());
        stopped.is_some_and(|why| why.contains("offset 3") && why.contains("too odd"))
    })
    .await;
}
