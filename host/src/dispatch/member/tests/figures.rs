//! What a member shows of its lanes.

use super::*;

#[tokio::test]
async fn a_member_shows_its_oldest_record_its_lanes_and_the_keys_that_wait_the_most() {
    let mut group = group(Ordering::Key, OnReject::DeadLetter);
    group.max_in_flight = 1;
    let mut rig = Rig::new(group, |delivery| match delivery.record.offset {
        0 => Box::pin(async { Outcome::Retry { reason: "later".into(), after: Some(SOON) } }),
        _ => Box::pin(std::future::pending()),
    });
    rig.assign(0, Some(0)).await;
    let keys = ["a", "b", "b", "c", "c", "c"];
    let records = keys.iter().zip(0..).map(|(key, offset)| Record {
        timestamp: Some(1_000 * (offset + 1)),
        ..record(0, offset, Some(key))
    });
    rig.send(MemberEvent::Records(records.collect())).await;
    // The first is put off, those of the second key are in the handler's hands.
    rig.until(|status| {
        let [partition] = &status.partitions[..] else { return false };
        let hot: Vec<_> = status.hottest.iter().map(|hot| (&*hot.key, hot.waiting)).collect();
        (partition.in_flight, partition.waiting) == (2, 4)
            && (partition.lanes, partition.deferred) == (3, 1)
            && partition.oldest == Some(1_000)
            && hot == [(b"c" as &[u8], 3), (b"a", 1)]
    })
    .await;
}

#[tokio::test]
async fn the_oldest_record_is_the_oldest_that_is_not_finished() {
    let mut rig = Rig::new(group(Ordering::None, OnReject::DeadLetter), |delivery| {
        if delivery.record.offset == 1 { Box::pin(std::future::pending()) } else { handled() }
    });
    rig.assign(0, Some(0)).await;
    let aged = |offset| Record { timestamp: Some(offset * 500), ..record(0, offset, None) };
    rig.send(MemberEvent::Records((0..4).map(aged).collect())).await;
    rig.until(|status| {
        status.partitions.iter().any(|it| it.oldest == Some(500) && it.in_flight == 1)
    })
    .await;
}

#[tokio::test]
async fn a_partition_without_anything_to_do_has_no_oldest_record() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..3).await;
    rig.committed(3).await;
    rig.until(|status| {
        status.partitions.iter().any(|it| it.committed == Some(3) && it.oldest.is_none())
    })
    .await;
}
