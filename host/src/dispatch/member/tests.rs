//! The member's loop against a scripted driver, a scripted handler and a broker that remembers.

mod failing;
mod figures;
mod flow;
mod letting_go;
mod memory;
mod offset_map;
mod parking;
mod rig;
mod steering;
mod together;
mod transacting;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use self::rig::*;
use super::{End, Order};
use crate::{
    broker::{Assigned, Command, CommitError, Committed, MemberEvent, OffsetCommit, ProduceError},
    config::{self, Group, OnReject, Ordering},
    dispatch::{Scope, status::MemberState},
    handler::{Delivery, Outcome},
    record::{NewRecord, Record, TopicPartition},
};

#[tokio::test]
async fn records_are_handled_in_order_and_then_committed() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(5)).await;
    rig.records(0, 5..500).await;
    rig.committed(500).await;
    assert_eq!(rig.calls(), (5..500).map(|offset| (offset, 1)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_record_that_was_received_before_is_not_handled_again() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(5)).await;
    rig.records(0, 5..8).await;
    rig.records(0, 3..9).await;
    rig.committed(9).await;
    assert_eq!(rig.calls().len(), 4);
}

#[tokio::test]
async fn a_log_that_ends_below_the_committed_offset_is_handled_from_where_it_begins() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(100)).await; // the topic was made anew since
    rig.records(0, 0..3).await;
    rig.committed(3).await;
    assert_eq!(rig.calls(), [(0, 1), (1, 1), (2, 1)]);
}

#[tokio::test]
async fn a_commit_that_fails_is_tried_again() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, None).await;
    rig.records(0, 0..1).await;
    rig.commit(Err(CommitError::Unavailable("down".into()))).await;
    assert_eq!(rig.commit(Ok(())).await[0].committed.offset, 1);
}

#[tokio::test]
async fn a_handler_that_is_slow_makes_its_partition_pause_and_go_on_later() {
    let proceed = Arc::new(tokio::sync::Semaphore::new(0));
    let proceed_too = proceed.clone();
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), move |_| {
        let proceed = proceed_too.clone();
        Box::pin(async move {
            proceed.acquire().await.unwrap().forget();
            Outcome::Handled(Vec::new())
        })
    });
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..3000).await;
    assert!(matches!(rig.command().await, Command::Pause(partitions) if partitions == [at(0)]));
    proceed.add_permits(3000);
    loop {
        match rig.command().await {
            Command::Resume(partitions) => break assert_eq!(partitions, [at(0)]),
            Command::Commit { done, .. } => done.send(Ok(())).unwrap(),
            other => panic!("unexpected: {other:?}"),
        }
    }
    rig.committed(3000).await;
}
