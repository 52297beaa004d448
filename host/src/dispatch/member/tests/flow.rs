//! How many records a member has handled at once, and how many whose output is not acknowledged.

use super::{super::UNACKNOWLEDGED, *};

/// A member that has so many records handled at once, each of which becomes one of `bytes` bytes where it is of partition
/// 0, on a broker that acknowledges nothing yet.
fn unacknowledged(ordering: Ordering, max_in_flight: usize, bytes: usize) -> Rig {
    let mut group = group(ordering, OnReject::DeadLetter);
    group.max_in_flight = max_in_flight;
    let value = bytes::Bytes::from(vec![0; bytes]);
    let rig = Rig::new(group, move |delivery| {
        let number = if delivery.record.partition == 0 { 1 } else { 0 };
        let emitted = vec![NewRecord::new("out", value.clone()); number];
        Box::pin(async move { Outcome::Handled(emitted) })
    });
    rig.broker.hold();
    rig
}

impl Rig {
    async fn until_in_flight(&mut self, in_flight: usize, waiting: usize) {
        let wanted = (in_flight, waiting);
        self.until(|status| {
            status.partitions.iter().any(|it| (it.in_flight, it.waiting) == wanted)
        })
        .await;
    }
}

#[tokio::test]
async fn a_record_whose_output_is_not_acknowledged_yet_holds_no_place_and_is_not_committed() {
    let mut rig = unacknowledged(Ordering::None, 1, 1);
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..3).await;
    rig.until_in_flight(3, 0).await;
    assert_eq!(rig.calls().len(), 3);
    // One without output is finished at once, and the commit of it has none of those in it.
    rig.assign(1, Some(0)).await;
    rig.records(1, 0..1).await;
    let committed = rig.commit(Ok(())).await;
    let partitions: Vec<_> = committed.into_iter().map(|commit| commit.partition).collect();
    assert_eq!(partitions, [at(1)], "nothing else is finished that could be committed");
    rig.broker.let_go();
    rig.committed(3).await;
}

#[tokio::test]
async fn of_one_lane_nothing_is_handled_before_the_output_of_what_was_is_acknowledged() {
    let mut rig = unacknowledged(Ordering::Partition, 64, 1);
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..1).await;
    rig.until_in_flight(1, 0).await;
    rig.records(0, 1..3).await;
    rig.until_in_flight(1, 2).await;
    assert_eq!(rig.calls(), [(0, 1)]);
    rig.broker.let_go();
    rig.committed(3).await;
    assert_eq!(rig.calls(), [(0, 1), (1, 1), (2, 1)]);
}

#[tokio::test]
async fn records_whose_output_is_not_acknowledged_are_bounded() {
    let mut rig = unacknowledged(Ordering::None, 2, 1);
    rig.assign(0, Some(0)).await;
    let bound = UNACKNOWLEDGED as u64 + 2;
    rig.records(0, 0..bound + 10).await;
    rig.until_in_flight(bound as usize, 10).await;
    assert_eq!(rig.calls().len() as u64, bound);
    rig.broker.let_go();
    rig.committed(bound + 10).await;
}

#[tokio::test]
async fn bytes_of_output_that_is_not_acknowledged_are_bounded() {
    let mut rig = unacknowledged(Ordering::None, 4, 1 << 20);
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..50).await;
    // 31 have room, and four wait for it in their places.
    rig.until_in_flight(35, 15).await;
    assert_eq!((rig.calls().len(), rig.broker.produced.lock().unwrap().len()), (35, 31));
    rig.broker.let_go();
    rig.committed(50).await;
}
