//! What a member under exactly-once puts into its transactions, and what it makes of those that fail.

mod counting;
mod parking;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::*;
use crate::broker::{Produced, Refusal, TransactError};

type Answer = oneshot::Sender<Result<Vec<Produced>, TransactError>>;

fn exactly_once(on_reject: OnReject) -> Group {
    Group { delivery: config::Delivery::ExactlyOnce, ..group(Ordering::Partition, on_reject) }
}

/// Emits the number of each record.
fn numbered(delivery: Delivery) -> BoxFuture<'static, Outcome> {
    let number = delivery.record.offset.to_string();
    Box::pin(async { Outcome::Handled(vec![NewRecord::new("out", number)]) })
}

fn values(records: &[NewRecord]) -> Vec<String> {
    let value = |record: &NewRecord| record.value.clone().unwrap_or_default();
    records.iter().map(|record| String::from_utf8(value(record).to_vec()).unwrap()).collect()
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn aborted() -> Result<Vec<Produced>, TransactError> {
    Err(TransactError::Aborted("down".into()))
}

impl Rig {
    /// The next command, which must be a transaction.
    async fn transaction(&mut self) -> (Vec<NewRecord>, Vec<OffsetCommit>, Answer) {
        match self.command().await {
            Command::Transact { records, offsets, done } => (records, offsets, done),
            other => panic!("a transaction was expected, not {other:?}"),
        }
    }

    /// Lets transactions pass until partition 0 is committed at `offset`; gives what they wrote.
    async fn written_until(&mut self, offset: u64) -> Vec<NewRecord> {
        let mut written = Vec::new();
        loop {
            let (records, offsets, done) = self.transaction().await;
            done.send(Ok(Vec::new())).unwrap();
            written.extend(records);
            let last = offsets.iter().find(|commit| commit.partition == at(0));
            if last.is_some_and(|commit| commit.committed.offset == offset) {
                return written;
            }
        }
    }

    /// Takes the rewinding that must come, and has partition 0 begin at `committed` again.
    async fn rewind(&mut self, committed: u64) {
        match self.command().await {
            Command::Rewind(partitions) => assert_eq!(partitions, [at(0)]),
            other => panic!("a rewinding was expected, not {other:?}"),
        }
        let committed = Some(Committed { offset: committed, metadata: String::new() });
        self.send(MemberEvent::Rewound(Assigned { partition: at(0), committed })).await;
    }

    /// Lets transactions pass until one is refused because of the first record that `is_at_fault`.
    async fn refuse(&mut self, is_at_fault: impl Fn(&NewRecord) -> bool) {
        loop {
            let (records, _, done) = self.transaction().await;
            let Some(record) = records.iter().position(&is_at_fault) else {
                done.send(Ok(Vec::new())).unwrap();
                continue;
            };
            let error = ProduceError::Refused { reason: "too odd".into() };
            let refused = TransactError::Refused(vec![Refusal { record, error }]);
            return done.send(Err(refused)).unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_emitted_is_written_with_the_offsets_in_one_transaction() {
    let mut rig = Rig::new(exactly_once(OnReject::DeadLetter), numbered);
    rig.assign(0, Some(5)).await;
    rig.records(0, 5..300).await;
    let mut next = 5;
    while next < 300 {
        let (records, offsets, done) = rig.transaction().await;
        done.send(Ok(Vec::new())).unwrap();
        let committed = offsets[0].committed.offset;
        assert_eq!(values(&records), numbers(next..committed), "its output goes with its offset");
        next = committed;
    }
    assert!(rig.broker.produced.lock().unwrap().is_empty(), "nothing is written beside it");
}

#[tokio::test]
async fn what_was_in_a_transaction_that_was_aborted_is_handled_again_and_written_once() {
    let mut rig = Rig::new(exactly_once(OnReject::DeadLetter), numbered);
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..20).await;
    let (_, _, done) = rig.transaction().await;
    done.send(aborted()).unwrap();
    rig.records(0, 20..25).await; // they come from before the rewinding
    rig.rewind(0).await;
    rig.records(0, 0..25).await;
    assert_eq!(values(&rig.written_until(25).await), numbers(0..25));
    assert!(rig.calls().iter().filter(|(offset, _)| *offset == 0).count() == 2);
    assert!(rig.calls().iter().all(|(_, attempt)| *attempt == 1));
}

#[tokio::test]
async fn no_transaction_is_begun_before_the_rewinding_has_taken_effect() {
    let mut rig = Rig::new(exactly_once(OnReject::DeadLetter), numbered);
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..1).await;
    let (_, _, done) = rig.transaction().await;
    done.send(Err(TransactError::Indefinite("cut".into()))).unwrap();
    assert!(matches!(rig.command().await, Command::Rewind(_)));
    rig.assign(1, Some(0)).await;
    rig.records(1, 0..1).await;
    rig.until(|status| {
        status.partitions.len() == 2
            && status.partitions.iter().all(|it| it.waiting == 0 && it.in_flight == 0)
    })
    .await;
    rig.called(2).await;
    // Now somebody waits for one.
    rig.send(MemberEvent::Revoking(vec![at(1)])).await;
    rig.until(|status| status.state == MemberState::Rebalancing).await;
    assert!(rig.driver.commands.try_recv().is_err());
    // It was committed after all.
    let committed = Some(Committed { offset: 1, metadata: String::new() });
    rig.send(MemberEvent::Rewound(Assigned { partition: at(0), committed })).await;
    let (records, offsets, _done) = rig.transaction().await;
    assert_eq!(values(&records), ["0"]);
    assert_eq!(offsets.iter().map(|it| it.partition.clone()).collect::<Vec<_>>(), [at(1)]);
}

#[tokio::test]
async fn a_record_whose_output_is_refused_is_given_up_on_and_the_others_are_written() {
    let mut rig = Rig::new(exactly_once(OnReject::DeadLetter), numbered);
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..4).await;
    rig.refuse(|record| record.value == Some("2".into())).await;
    rig.rewind(0).await;
    rig.records(0, 0..4).await;
    let written = rig.written_until(4).await;
    let (letters, output): (Vec<_>, Vec<_>) =
        written.into_iter().partition(|record| &*record.topic == "t.dead-letters");
    assert_eq!(values(&output), ["0", "1", "3"]);
    let header = |name: &str| {
        let header = letters[0].headers.iter().find(|header| header.key == name).unwrap();
        String::from_utf8(header.value.clone().unwrap().to_vec()).unwrap()
    };
    assert_eq!(letters.len(), 1);
    assert_eq!(header("keyway.source"), "t/0@2");
    assert!(header("keyway.reason").contains("too odd"), "{}", header("keyway.reason"));
    assert_eq!(rig.calls().iter().filter(|(offset, _)| *offset == 2).count(), 1);
    let shared = rig.shared.clone();
    rig.until(|_| shared.counters.dead_lettered.get() == 1).await;
}

#[tokio::test]
async fn a_partition_whose_dead_letter_is_refused_stands_still_until_it_is_resumed() {
    let mut rig = Rig::new(exactly_once(OnReject::DeadLetter), |delivery| match delivery {
        Delivery { record: Record { offset: 1, .. }, .. } => rejected(),
        delivery => numbered(delivery),
    });
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..3).await;
    rig.refuse(|record| &*record.topic == "t.dead-letters").await;
    rig.rewind(0).await;
    rig.records(0, 0..3).await;
    assert!(matches!(rig.command().await, Command::Pause(_)));
    rig.until(|status| {
        let stopped = status.partitions.first().and_then(|it| it.stopped.as_deref());
        stopped.is_some_and(|why| why.contains("offset 1") && why.contains("too odd"))
    })
    .await;
    assert_eq!(values(&rig.written_until(1).await), ["0"]);
    rig.orders.send(Order::Restart(Scope::Group)).await.unwrap();
    assert!(matches!(rig.command().await, Command::Seek { offset: 1, .. }));
    assert!(matches!(rig.command().await, Command::Resume(_)));
    rig.send(MemberEvent::Sought { partition: at(0), offset: 1 }).await;
    rig.records(0, 1..3).await;
    let written = rig.written_until(3).await;
    assert_eq!(&*written[0].topic, "t.dead-letters");
    assert_eq!(values(&written[1..]), ["2"]);
}

#[tokio::test]
async fn a_seek_that_takes_effect_while_its_partition_goes_back_to_what_is_committed_changes_nothing()
 {
    let mut rig = Rig::new(exactly_once(OnReject::Stop), |delivery| match delivery {
        Delivery { record: Record { offset: 1, .. }, .. } => rejected(),
        delivery => numbered(delivery),
    });
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..2).await;
    assert!(matches!(rig.command().await, Command::Pause(_)));
    let (_, _, done) = rig.transaction().await;
    rig.orders.send(Order::Restart(Scope::Group)).await.unwrap();
    assert!(matches!(rig.command().await, Command::Seek { offset: 1, .. }));
    assert!(matches!(rig.command().await, Command::Resume(_)));
    done.send(aborted()).unwrap();
    assert!(matches!(rig.command().await, Command::Rewind(_)));
    rig.send(MemberEvent::Sought { partition: at(0), offset: 1 }).await;
    rig.records(0, 2..3).await;
    let committed = Some(Committed { offset: 0, metadata: String::new() });
    rig.send(MemberEvent::Rewound(Assigned { partition: at(0), committed })).await;
    rig.records(0, 0..1).await;
    assert_eq!(values(&rig.written_until(1).await), ["0"]);
    assert_eq!(rig.calls(), [(0, 1), (1, 1), (0, 1)]);
}

#[tokio::test]
async fn a_revoked_partition_waits_for_the_transaction_under_way_and_for_its_own_last_one() {
    let mut rig = Rig::new(exactly_once(OnReject::DeadLetter), numbered);
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..2).await;
    let (first, _, done) = rig.transaction().await;
    let begun = first.len();
    rig.records(0, 2..4).await;
    rig.called(4).await;
    rig.send(MemberEvent::Revoking(vec![at(0)])).await;
    rig.until(|status| status.state == MemberState::Rebalancing).await;
    assert!(rig.driver.commands.try_recv().is_err(), "one is under way");
    done.send(Ok(Vec::new())).unwrap();
    let (last, offsets, done) = rig.transaction().await;
    assert_eq!(values(&last), numbers(begun as u64..4));
    assert_eq!(offsets[0].committed.offset, 4);
    done.send(Ok(Vec::new())).unwrap();
    assert!(matches!(rig.command().await, Command::Release(partitions) if partitions == [at(0)]));
}

#[tokio::test]
async fn a_revoked_partition_whose_transaction_fails_is_released_without_another() {
    let mut rig = Rig::new(exactly_once(OnReject::DeadLetter), numbered);
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..2).await;
    let (_, _, done) = rig.transaction().await;
    rig.send(MemberEvent::Revoking(vec![at(0)])).await;
    rig.until(|status| status.state == MemberState::Rebalancing).await;
    done.send(aborted()).unwrap();
    assert!(matches!(rig.command().await, Command::Release(partitions) if partitions == [at(0)]));
}

#[tokio::test]
async fn what_came_of_a_lost_partition_is_not_written() {
    let mut rig = Rig::new(exactly_once(OnReject::DeadLetter), numbered);
    rig.assign(0, Some(0)).await;
    rig.assign(1, Some(0)).await;
    rig.records(0, 0..1).await;
    let (_, _, done) = rig.transaction().await;
    rig.records(0, 1..2).await;
    rig.records(1, 7..8).await;
    rig.called(3).await;
    rig.send(MemberEvent::Lost(vec![at(0)])).await;
    rig.until(|status| status.partitions.len() == 1).await;
    done.send(Ok(Vec::new())).unwrap();
    let (records, offsets, _done) = rig.transaction().await;
    assert_eq!(values(&records), ["7"]);
    assert_eq!(offsets.iter().map(|it| it.partition.clone()).collect::<Vec<_>>(), [at(1)]);
}

#[tokio::test]
async fn nothing_more_is_handled_while_a_batch_is_full_and_a_transaction_under_way() {
    let mut rig = Rig::new(exactly_once(OnReject::DeadLetter), |_| {
        let large = Bytes::from(vec![b'x'; 8 << 20]);
        Box::pin(async { Outcome::Handled(vec![NewRecord::new("out", large)]) })
    });
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..1).await;
    let (_, _, done) = rig.transaction().await;
    rig.records(0, 1..2).await;
    rig.called(2).await;
    rig.records(0, 2..3).await;
    rig.until(|status| status.partitions.iter().all(|it| it.waiting == 1 && it.in_flight == 0))
        .await;
    assert_eq!(rig.calls().len(), 2);
    done.send(Ok(Vec::new())).unwrap();
    assert_eq!(rig.written_until(3).await.len(), 2);
}

#[tokio::test]
async fn a_map_that_is_too_long_for_the_broker_is_left_out_of_the_same_transaction() {
    let proceed = Arc::new(Notify::new());
    let proceed_too = proceed.clone();
    let keyed = Group { ordering: Ordering::None, ..exactly_once(OnReject::DeadLetter) };
    let mut rig = Rig::new(keyed, move |delivery| {
        let proceed = proceed_too.clone();
        Box::pin(async move {
            if delivery.record.offset == 0 {
                proceed.notified().await;
            }
            numbered(delivery).await
        })
    });
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..3).await;
    let (records, offsets, done) = rig.transaction().await;
    assert!(!offsets[0].committed.metadata.is_empty());
    done.send(Err(TransactError::MetadataTooLong("4096".into()))).unwrap();
    let (again, bare, done) = rig.transaction().await;
    assert_eq!(values(&again), values(&records));
    assert!(bare[0].committed.metadata.is_empty());
    done.send(Ok(Vec::new())).unwrap();
    proceed.notify_one();
    assert!(values(&rig.written_until(3).await).contains(&"0".to_owned()));
}

#[tokio::test]
async fn an_operator_moves_a_partition_after_what_was_handled_of_it_is_committed() {
    let mut rig = Rig::new(exactly_once(OnReject::DeadLetter), numbered);
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..2).await;
    rig.called(2).await;
    let (done, moved) = oneshot::channel();
    let offsets = [(at(0), 0)].into();
    rig.orders.send(Order::Seek { offsets, done }).await.unwrap();
    assert_eq!(values(&rig.written_until(2).await), numbers(0..2));
    let commits = rig.commit(Ok(())).await;
    assert_eq!(commits[0].committed.offset, 0);
    assert_eq!(moved.await.unwrap().unwrap(), [at(0)]);
    assert!(matches!(rig.command().await, Command::Seek { offset: 0, .. }));
}

#[tokio::test]
async fn leaving_commits_what_was_handled_in_a_last_transaction() {
    let mut rig = Rig::new(exactly_once(OnReject::DeadLetter), numbered);
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..3).await;
    rig.called(3).await;
    rig.leave().await;
    assert_eq!(values(&rig.written_until(3).await), numbers(0..3));
    assert!(matches!(rig.command().await, Command::Release(_)));
    assert!(matches!(rig.command().await, Command::Leave));
}

#[tokio::test]
async fn a_transaction_that_took_too_long_is_made_smaller_until_it_passes() {
    const FITS: usize = 10;
    let mut rig = Rig::new(exactly_once(OnReject::DeadLetter), numbered);
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..200).await;
    let (mut written, mut late) = (Vec::new(), 0);
    while written.len() < 200 {
        let (records, _, done) = rig.transaction().await;
        if records.len() > FITS {
            late += 1;
            done.send(Err(TransactError::TimedOut("too much".into()))).unwrap();
            let next = written.len() as u64;
            rig.rewind(next).await;
            rig.records(0, next..200).await;
            continue;
        }
        done.send(Ok(Vec::new())).unwrap();
        written.extend(values(&records));
    }
    assert_eq!(written, numbers(0..200));
    assert!((1..20).contains(&late), "{late} were too large");
}
