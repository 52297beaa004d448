//! What operators ask of a member: pauses by partition, and seeks.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{Semaphore, oneshot};

use super::*;
use crate::dispatch::{Pause, Pauses};

/// A handler that ends a record for every permit there is.
fn paced() -> (Arc<Semaphore>, impl Fn(Delivery) -> BoxFuture<'static, Outcome> + Send + Sync) {
    let permits = Arc::new(Semaphore::new(0));
    let handler = permits.clone();
    let script = move |_| -> BoxFuture<'static, Outcome> {
        let permits = handler.clone();
        Box::pin(async move {
            permits.acquire().await.unwrap().forget();
            Outcome::Handled(Vec::new())
        })
    };
    (permits, script)
}

impl Rig {
    pub(super) fn pause(&self, partitions: &[u32]) {
        let mut pauses = Pauses::default();
        let scope = Scope::Partitions("t".into(), partitions.iter().copied().collect());
        pauses.pause(&scope, &Pause { since: std::time::UNIX_EPOCH, by: None });
        self.wish.send_modify(|wish| wish.pauses = pauses.into());
    }

    pub(super) async fn seek(
        &self,
        partition: u32,
        offset: u64,
    ) -> oneshot::Receiver<Result<Vec<TopicPartition>, String>> {
        let (done, moved) = oneshot::channel();
        let offsets = BTreeMap::from([(at(partition), offset)]);
        self.orders.send(Order::Seek { offsets, done }).await.unwrap();
        moved
    }
}

#[tokio::test]
async fn of_a_paused_partition_nothing_that_waits_is_handled_and_the_others_go_on() {
    let (permits, script) = paced();
    let mut group = group(Ordering::None, OnReject::DeadLetter);
    group.max_in_flight = 1;
    let mut rig = Rig::new(group, script);
    rig.assign(0, Some(0)).await;
    rig.assign(1, Some(0)).await;
    rig.records(0, 0..3).await;
    rig.called(1).await;
    rig.pause(&[0]);
    assert!(matches!(rig.command().await, Command::Pause(partitions) if partitions == [at(0)]));
    rig.records(1, 0..3).await;
    permits.add_permits(4);
    // Of partition 0 what was in flight, and nothing more.
    let (mut first, mut second) = (0, 0);
    while (first, second) != (1, 3) {
        for commit in rig.commit(Ok(())).await {
            let of = if commit.partition == at(0) { &mut first } else { &mut second };
            *of = commit.committed.offset;
        }
    }
    assert_eq!(rig.calls().len(), 4);
    permits.add_permits(2);
    rig.pause(&[]);
    assert!(matches!(rig.command().await, Command::Resume(partitions) if partitions == [at(0)]));
    rig.committed(3).await;
}

#[tokio::test]
async fn a_partition_that_is_assigned_while_it_is_paused_begins_paused() {
    let mut rig = Rig::new(group(Ordering::Key, OnReject::DeadLetter), |_| handled());
    rig.pause(&[0]);
    rig.assign(0, Some(0)).await;
    assert!(matches!(rig.command().await, Command::Pause(partitions) if partitions == [at(0)]));
    rig.records(0, 0..5).await; // they were on their way
    rig.assign(1, Some(0)).await;
    rig.records(1, 0..1).await;
    let commits = rig.commit(Ok(())).await;
    assert_eq!(commits[0].partition, at(1));
    assert_eq!(rig.calls().len(), 1);
}

#[tokio::test]
async fn a_seek_lets_what_is_in_flight_end_and_commits_only_the_new_offset() {
    let (permits, script) = paced();
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), script);
    rig.assign(0, Some(10)).await;
    rig.records(0, 10..12).await;
    rig.called(1).await;
    let moved = rig.seek(0, 3).await;
    rig.records(0, 12..20).await; // of the old position
    permits.add_permits(2);
    let commits = rig.commit(Ok(())).await;
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0].committed, Committed { offset: 3, metadata: String::new() });
    assert!(matches!(rig.command().await, Command::Seek { offset: 3, .. }));
    assert_eq!(moved.await.unwrap().unwrap(), [at(0)]);
    assert!(matches!(rig.command().await, Command::Resume(_)));
    rig.records(0, 20..25).await; // still of the old position
    rig.send(MemberEvent::Sought { partition: at(0), offset: 3 }).await;
    permits.add_permits(2);
    rig.records(0, 3..5).await;
    rig.committed(5).await;
    let offsets: Vec<_> = rig.calls().iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [10, 11, 3, 4]);
}

#[tokio::test]
async fn a_commit_under_way_is_not_made_once_more_behind_the_one_of_a_seek() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(10)).await;
    rig.records(0, 10..12).await;
    let Command::Commit { done, .. } = rig.command().await else { panic!("a commit") };
    let moved = rig.seek(0, 3).await;
    assert!(rig.seek(0, 4).await.await.unwrap().unwrap_err().contains("moved already"));
    done.send(Err(CommitError::MetadataTooLong("over 3".into()))).unwrap();
    assert_eq!(rig.commit(Ok(())).await[0].committed.offset, 12);
    assert_eq!(rig.commit(Ok(())).await[0].committed.offset, 3);
    assert!(moved.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_seek_that_cannot_be_committed_changes_nothing() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(10)).await;
    rig.until(|status| !status.partitions.is_empty()).await;
    let moved = rig.seek(0, 3).await;
    rig.records(0, 10..12).await;
    rig.commit(Err(CommitError::Unavailable("down".into()))).await;
    assert!(moved.await.unwrap().unwrap_err().contains("down"));
    rig.committed(12).await;
}

#[tokio::test]
async fn a_partition_that_is_revoked_before_it_was_moved_is_committed_where_it_was() {
    let (permits, script) = paced();
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), script);
    rig.assign(0, Some(10)).await;
    rig.records(0, 10..11).await;
    rig.called(1).await;
    let moved = rig.seek(0, 3).await;
    rig.send(MemberEvent::Revoking(vec![at(0)])).await;
    assert!(moved.await.unwrap().unwrap_err().contains("given to another member"));
    permits.add_permits(1);
    assert_eq!(rig.commit(Ok(())).await[0].committed.offset, 11);
    assert!(matches!(rig.command().await, Command::Release(_)));
}

#[tokio::test]
async fn a_partition_that_is_revoked_while_it_is_moved_is_not_committed_where_it_was() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(10)).await;
    rig.records(0, 10..12).await;
    rig.committed(12).await;
    let moved = rig.seek(0, 3).await;
    let Command::Commit { offsets, done } = rig.command().await else { panic!("a commit") };
    assert_eq!(offsets[0].committed.offset, 3);
    rig.send(MemberEvent::Revoking(vec![at(0)])).await;
    assert!(matches!(rig.command().await, Command::Release(_)), "without another commit");
    done.send(Ok(())).unwrap();
    assert!(moved.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_partition_that_stands_still_goes_on_behind_the_record_that_an_operator_skips() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::Stop), |delivery| {
        if delivery.record.offset == 1 { rejected() } else { handled() }
    });
    rig.assign(0, None).await;
    rig.records(0, 0..3).await;
    assert!(matches!(rig.command().await, Command::Pause(_)));
    rig.committed(1).await;
    let moved = rig.seek(0, 2).await;
    assert_eq!(rig.commit(Ok(())).await[0].committed.offset, 2);
    assert!(matches!(rig.command().await, Command::Seek { offset: 2, .. }));
    assert!(matches!(rig.command().await, Command::Resume(_)));
    assert!(moved.await.unwrap().is_ok());
    rig.send(MemberEvent::Sought { partition: at(0), offset: 2 }).await;
    rig.records(0, 2..3).await;
    rig.committed(3).await;
}
