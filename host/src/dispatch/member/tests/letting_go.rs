//! Partitions that are revoked or lost, and leaving.

use super::*;

#[tokio::test]
async fn a_revoked_partition_is_finished_committed_and_only_then_released() {
    let (began, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (began_too, proceed_too) = (began.clone(), proceed.clone());
    let mut rig = Rig::new(group(Ordering::None, OnReject::DeadLetter), move |_| {
        let (began, proceed) = (began_too.clone(), proceed_too.clone());
        Box::pin(async move {
            began.notify_one();
            proceed.notified().await;
            Outcome::Handled(Vec::new())
        })
    });
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..1).await;
    began.notified().await;
    rig.send(MemberEvent::Revoking(vec![at(0)])).await;
    rig.records(0, 1..5).await;
    rig.until(|status| status.state == MemberState::Rebalancing).await;
    assert!(
        rig.driver.commands.try_recv().is_err(),
        "nothing is released while a record is in flight"
    );
    proceed.notify_one();
    assert_eq!(rig.commit(Ok(())).await[0].committed.offset, 1);
    assert!(matches!(rig.command().await, Command::Release(partitions) if partitions == [at(0)]));
    assert_eq!(rig.calls(), [(0, 1)]);
}

#[tokio::test]
async fn a_partition_that_is_being_released_is_not_committed_and_released_again_when_the_member_leaves()
 {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(0)).await;
    rig.assign(1, Some(0)).await;
    rig.records(0, 0..1).await;
    rig.records(1, 0..1).await;
    rig.called(2).await;
    rig.send(MemberEvent::Revoking(vec![at(0)])).await;
    let mut unanswered = Vec::new();
    let only =
        |offsets: &[OffsetCommit], number| offsets.iter().all(|it| it.partition == at(number));
    loop {
        let (offsets, done) = rig.unanswered_commit().await;
        unanswered.push(done);
        if only(&offsets, 0) {
            break; // its last one; others are of both
        }
    }
    rig.leave().await;
    let (rest, done) = rig.unanswered_commit().await;
    assert!(only(&rest, 1), "{rest:?}");
    unanswered.push(done);
    unanswered.into_iter().for_each(|done| done.send(Ok(())).unwrap());
    let mut released = Vec::new();
    loop {
        match rig.command().await {
            Command::Release(names) => released.extend(names),
            Command::Leave => break,
            other => panic!("{other:?}"),
        }
    }
    released.sort_unstable();
    assert_eq!(released, [at(0), at(1)]);
}

#[tokio::test]
async fn a_lost_partition_is_not_committed() {
    let (began, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (began_too, proceed_too) = (began.clone(), proceed.clone());
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), move |delivery| {
        let (began, proceed) = (began_too.clone(), proceed_too.clone());
        Box::pin(async move {
            if delivery.record.partition == 0 {
                began.notify_one();
                proceed.notified().await;
            }
            Outcome::Handled(Vec::new())
        })
    });
    rig.assign(0, Some(0)).await;
    rig.assign(1, Some(0)).await;
    rig.records(0, 0..1).await;
    began.notified().await;
    rig.send(MemberEvent::Lost(vec![at(0)])).await;
    proceed.notify_one();
    rig.records(1, 0..1).await;
    let commits = rig.commit(Ok(())).await;
    assert_eq!(commits.iter().map(|commit| commit.partition.partition).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn leaving_finishes_what_is_in_flight_and_commits_it() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..10).await;
    rig.until(|status| status.state == MemberState::Active).await;
    rig.leave().await;
    let mut committed = 0;
    loop {
        match rig.command().await {
            Command::Commit { offsets, done } => {
                committed = offsets[0].committed.offset;
                done.send(Ok(())).unwrap();
            }
            Command::Release(_) => {}
            Command::Leave => break,
            other => panic!("not while leaving: {other:?}"),
        }
    }
    assert_eq!(committed as usize, rig.calls().len());
    let Rig { driver, task, .. } = rig;
    drop(driver);
    assert_eq!(task.await.unwrap(), End::Left);
}

#[tokio::test]
async fn a_member_that_leaves_cuts_off_a_handler_that_does_not_end() {
    let began = Arc::new(Notify::new());
    let began_too = began.clone();
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), move |_| {
        began_too.notify_one();
        Box::pin(std::future::pending())
    });
    rig.assign(0, None).await;
    rig.records(0, 0..1).await;
    began.notified().await;
    rig.wish.send_modify(|wish| wish.leave = Some(Instant::now()));
    assert!(matches!(rig.command().await, Command::Release(_)), "with nothing to commit");
    assert!(matches!(rig.command().await, Command::Leave));
}
