//! What a member makes of the map of finished offsets that comes with a commit, and how it makes one.

use super::*;

/// A handler that finishes every record but these before the semaphore lets it go on.
fn holding(
    held: impl Fn(u64) -> bool + Send + Sync + 'static,
    proceed: &Arc<tokio::sync::Semaphore>,
) -> impl Fn(Delivery) -> BoxFuture<'static, Outcome> + Send + Sync + 'static {
    let proceed = proceed.clone();
    move |delivery| {
        let (is_held, proceed) = (held(delivery.record.offset), proceed.clone());
        Box::pin(async move {
            if is_held {
                proceed.acquire().await.unwrap().forget();
            }
            Outcome::Handled(Vec::new())
        })
    }
}

fn closed() -> Arc<tokio::sync::Semaphore> {
    Arc::new(tokio::sync::Semaphore::new(0))
}

impl Rig {
    async fn assign_after(&self, committed: Committed) {
        let partitions = vec![Assigned { partition: at(0), committed: Some(committed) }];
        self.send(MemberEvent::Assigned { member_id: "m".into(), partitions }).await;
    }

    /// Answers commits until one is as wanted.
    async fn committed_so(&mut self, wanted: impl Fn(&Committed) -> bool) -> Committed {
        loop {
            let committed = self.commit(Ok(())).await.pop().unwrap().committed;
            if wanted(&committed) {
                return committed;
            }
        }
    }
}

/// Each record has a key of its own.
fn keyed(offsets: std::ops::Range<u64>) -> MemberEvent {
    const KEYS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let keyed = |offset| record(0, offset, Some(KEYS[offset as usize % KEYS.len()]));
    MemberEvent::Records(offsets.map(keyed).collect())
}

#[tokio::test]
async fn what_the_map_of_a_commit_covers_is_not_handled_again_after_a_restart() {
    let proceed = closed();
    let held = |offset| offset == 2 || offset == 5;
    let mut rig = Rig::new(group(Ordering::Key, OnReject::DeadLetter), holding(held, &proceed));
    rig.assign(0, None).await;
    rig.send(keyed(0..10)).await;
    rig.called(10).await;
    // The map alone changes after offset 2 is committed; of what is committed last, it covers all.
    let committed = rig.committed_so(|it| it.offset == 2 && it.metadata == "bAAI9g==").await;
    drop(rig); // as a crash would

    let mut rig = Rig::new(group(Ordering::Key, OnReject::DeadLetter), |_| handled());
    rig.assign_after(committed).await;
    rig.send(keyed(2..12)).await;
    rig.committed(12).await;
    let mut calls = rig.calls();
    calls.sort_unstable();
    assert_eq!(calls, [(2, 1), (5, 1), (10, 1), (11, 1)]);
}

#[tokio::test]
async fn the_last_commit_of_a_revoked_partition_carries_the_map() {
    let mut rig = Rig::new(group(Ordering::Key, OnReject::Stop), |delivery| {
        if delivery.record.offset == 0 { rejected() } else { handled() }
    });
    rig.assign(0, Some(0)).await;
    rig.send(keyed(0..10)).await;
    rig.until(|status| status.partitions.iter().any(|partition| partition.stopped.is_some())).await;
    rig.send(MemberEvent::Revoking(vec![at(0)])).await;
    let mut last = None;
    loop {
        match rig.command().await {
            Command::Commit { offsets, done } => {
                last = Some(offsets[0].committed.clone());
                done.send(Ok(())).unwrap();
            }
            Command::Release(_) => break,
            _ => {}
        }
    }
    let all_but_the_first = Committed { offset: 0, metadata: "bAAK/gM=".into() };
    assert_eq!((rig.calls().len(), last), (10, Some(all_but_the_first)));
}

#[tokio::test]
async fn a_partition_that_stopped_handles_nothing_again_that_it_had_finished() {
    let proceed = closed();
    let proceed_too = proceed.clone();
    let mut rig = Rig::new(group(Ordering::Key, OnReject::Stop), move |delivery| {
        let proceed = proceed_too.clone();
        Box::pin(async move {
            if delivery.record.offset == 0 && proceed.available_permits() == 0 {
                // Give up only when the others are through.
                proceed.acquire().await.unwrap().forget();
                return Outcome::Reject { reason: "poison".into() };
            }
            Outcome::Handled(Vec::new())
        })
    });
    rig.assign(0, Some(0)).await;
    rig.send(keyed(0..10)).await;
    rig.committed_so(|it| it.metadata == "bAAK/gM=").await;
    proceed.add_permits(1);
    assert!(matches!(rig.command().await, Command::Pause(_)));
    proceed.add_permits(1);
    rig.orders.send(Order::Restart(Scope::Group)).await.unwrap();
    assert!(matches!(rig.command().await, Command::Seek { offset: 0, .. }));
    rig.send(MemberEvent::Sought { partition: at(0), offset: 0 }).await;
    rig.send(keyed(0..11)).await;
    assert!(matches!(rig.command().await, Command::Resume(_)));
    rig.committed(11).await;
    assert_eq!(rig.calls()[10..], [(0, 1), (10, 1)]);
}

#[tokio::test]
async fn metadata_of_anyone_else_is_left_unread_until_there_is_something_to_commit() {
    let mut rig = Rig::new(group(Ordering::Key, OnReject::DeadLetter), |_| handled());
    let metadata = "owned by billing".to_owned();
    rig.assign_after(Committed { offset: 3, metadata }).await;
    rig.send(keyed(3..4)).await;
    let committed = rig.commit(Ok(())).await.pop().unwrap().committed;
    assert_eq!(committed, Committed { offset: 4, metadata: String::new() });
    assert_eq!(rig.calls(), [(3, 1)]);
}

#[tokio::test]
async fn a_broker_that_takes_no_map_gets_the_offset_alone() {
    let proceed = closed();
    let held = |offset| offset == 1;
    let mut rig = Rig::new(group(Ordering::Key, OnReject::DeadLetter), holding(held, &proceed));
    rig.assign(0, Some(0)).await;
    rig.send(keyed(0..10)).await;
    let committed = loop {
        let Command::Commit { offsets, done } = rig.command().await else { panic!("a commit") };
        let committed = offsets[0].committed.clone();
        if committed.metadata.is_empty() {
            done.send(Ok(())).unwrap();
            break committed;
        }
        done.send(Err(CommitError::MetadataTooLong("over 3".into()))).unwrap();
    };
    assert!(committed.offset <= 1);
}

#[tokio::test]
async fn a_partition_is_paused_before_its_map_is_too_long_for_a_commit() {
    // What is held has no pattern, so its map is as long as there are offsets.
    let mixed = |offset: u64| offset.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
    let held = move |offset| mixed(offset).count_ones().is_multiple_of(2);
    let proceed = closed();
    let mut group = group(Ordering::None, OnReject::DeadLetter);
    group.max_in_flight = 16_384;
    let mut rig = Rig::new(group, holding(held, &proceed));
    rig.assign(0, Some(0)).await;
    let mut next = 0;
    loop {
        rig.records(0, next..next + 500).await;
        next += 500;
        assert!(next < 40_000, "it is not paused");
        match rig.driver.commands.try_recv() {
            Ok(Command::Pause(partitions)) => break assert_eq!(partitions, [at(0)]),
            Ok(Command::Commit { offsets, done }) => {
                assert!(offsets[0].committed.metadata.len() <= 4096);
                done.send(Ok(())).unwrap();
            }
            Ok(other) => panic!("unexpected: {other:?}"),
            Err(_) => {}
        }
    }
    proceed.add_permits(40_000);
    loop {
        match rig.command().await {
            Command::Resume(partitions) => break assert_eq!(partitions, [at(0)]),
            Command::Commit { done, .. } => done.send(Ok(())).unwrap(),
            other => panic!("unexpected: {other:?}"),
        }
    }
    rig.committed(next).await;
}
