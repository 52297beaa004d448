//! Transactions: all of it or nothing, fenced, and back to what is committed after one that failed.

use std::sync::Arc;

use keyway::{
    broker::{Assigned, Broker, Committed, MemberSpec, ProduceError, TransactError},
    record::{NewRecord, Record, TopicPartition, partition_for_key},
};

use crate::{
    fixture::{Fixture, fill},
    member::{OnRevoke, Watched, begin_at_the_end, join, join_with, settled, spec},
};

fn at(topic: &Arc<str>, partition: u32) -> TopicPartition {
    TopicPartition::new(topic.clone(), partition)
}

fn record(to: &TopicPartition, value: impl Into<String>) -> NewRecord {
    let partition = Some(to.partition);
    NewRecord { partition, ..NewRecord::new(to.topic.clone(), value.into()) }
}

fn values<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<String> {
    let value = |record: &Record| record.value.clone().unwrap_or_default();
    records.into_iter().map(|it| String::from_utf8(value(it).to_vec()).unwrap()).collect()
}

/// What a reader of committed records sees of a partition that has seen the end of `last`.
async fn seen(fixture: &dyn Fixture, partition: &TopicPartition, last: &str) -> Vec<String> {
    let reader = join(&fixture.other(), &fixture.group(), &partition.topic, 0);
    let is_there = |records: &[Record]| values(records).iter().any(|value| value == last);
    reader.until("the last comes", |seen| is_there(&seen.records)).await;
    let all = values(reader.seen().of(partition));
    reader.leave().await;
    all
}

async fn committed(broker: &Arc<dyn Broker>, group: &str) -> Vec<(TopicPartition, Committed)> {
    broker.group(group).await.unwrap().committed
}

/// A member of a fresh group that has all of one partition with `count` records.
async fn reading(fixture: &dyn Fixture, count: u64) -> (Watched, TopicPartition, Arc<str>) {
    let (topic, group) = (fixture.topic(1).await, fixture.group());
    let source = at(&topic, 0);
    fill(&fixture.broker(), &source, count).await;
    let member = join(&fixture.broker(), &group, &topic, 0);
    settled(&[&member], 1).await;
    member.until("all records arrive", |seen| seen.records.len() as u64 == count).await;
    (member, source, group)
}

pub(crate) async fn records_and_offsets_of_a_transaction_come_together(fixture: &dyn Fixture) {
    let (member, source, group) = reading(fixture, 10).await;
    let out = fixture.topic(2).await;
    let metadata: String = (0..4096).map(|at| char::from(b'!' + (at % 90) as u8)).collect();
    let records = vec![record(&at(&out, 0), "a"), record(&at(&out, 1), "b")];
    let produced = member.transact(records, &source, 7, &metadata).await.unwrap();
    let places: Vec<_> = produced.iter().map(|record| (record.partition, record.offset)).collect();
    assert_eq!(places, [(0, 0), (1, 0)], "it is told where each went");

    let expected = Committed { offset: 7, metadata };
    assert_eq!(committed(&fixture.other(), &group).await, [(source.clone(), expected)]);
    assert_eq!(seen(fixture, &at(&out, 0), "a").await, ["a"]);
    assert_eq!(seen(fixture, &at(&out, 1), "b").await, ["b"]);

    member.transact(vec![], &source, 8, "only an offset").await.unwrap();
    let expected = Committed { offset: 8, metadata: "only an offset".into() };
    assert_eq!(committed(&fixture.other(), &group).await, [(source.clone(), expected)]);
    member.commands.transact(vec![record(&at(&out, 0), "only a record")], vec![]).await.unwrap();
    assert_eq!(seen(fixture, &at(&out, 0), "only a record").await, ["a", "only a record"]);
    member.leave().await;
}

pub(crate) async fn ten_thousand_records_of_a_transaction_keep_their_order(fixture: &dyn Fixture) {
    let (member, source, _) = reading(fixture, 1).await;
    let out = fixture.topic(2).await;
    let records = (0..10_000).map(|number| record(&at(&out, number % 2), number.to_string()));
    member.transact(records.collect(), &source, 1, "").await.unwrap();
    for partition in 0..2 {
        let last = (9_998 + partition).to_string();
        let expected: Vec<_> =
            (0..5_000).map(|number| (2 * number + partition).to_string()).collect();
        assert_eq!(seen(fixture, &at(&out, partition), &last).await, expected);
    }
    member.leave().await;
}

pub(crate) async fn records_of_a_transaction_get_the_partitions_that_others_get(
    fixture: &dyn Fixture,
) {
    let out = fixture.topic(7).await;
    let mut transactions = fixture.broker().transactions(&fixture.group()).await.unwrap();
    let keyed = |number: u32| NewRecord {
        key: Some(format!("key {number}").into()),
        ..NewRecord::new(out.clone(), "")
    };
    let produced = transactions.write((0..50).map(keyed).collect()).await.unwrap();
    let partitions: Vec<_> = produced.iter().map(|produced| produced.partition).collect();
    let expected: Vec<_> =
        (0..50).map(|number| partition_for_key(format!("key {number}").as_bytes(), 7)).collect();
    assert_eq!(partitions, expected);
    let keyless = (0..50).map(|_| NewRecord::new(out.clone(), "no key")).collect();
    let produced = transactions.write(keyless).await.unwrap();
    assert_eq!(produced.len(), 50);
    assert!(produced.iter().all(|produced| produced.partition < 7));
}

pub(crate) async fn one_record_that_has_no_place_fails_the_transaction_and_is_named(
    fixture: &dyn Fixture,
) {
    let (member, source, group) = reading(fixture, 3).await;
    let out = at(&fixture.topic(1).await, 0);
    let missing = at(&"there-is-no-such-topic".into(), 0);
    let records = vec![
        record(&out, "well"),
        record(&at(&out.topic, 9), "no such partition"),
        record(&out, "well too"),
        record(&missing, "no such topic"),
    ];
    let refused = member.transact(records, &source, 2, "").await;
    let Err(TransactError::Refused(refusals)) = refused else { panic!("{refused:?}") };
    let found: Vec<_> = refusals.iter().map(|refusal| refusal.record).collect();
    assert_eq!(found, [1, 3]);
    assert!(matches!(refusals[0].error, ProduceError::UnknownPartition { partition: 9, .. }));
    assert!(matches!(refusals[1].error, ProduceError::UnknownTopic { .. }));
    member.transact(vec![record(&out, "after")], &source, 1, "").await.unwrap();
    assert_eq!(seen(fixture, &out, "after").await, ["after"]);
    assert_eq!(committed(&fixture.other(), &group).await[0].1.offset, 1);
    member.leave().await;
}

pub(crate) async fn an_aborted_transaction_is_never_seen(fixture: &dyn Fixture) {
    let (member, source, group) = reading(fixture, 3).await;
    let out = at(&fixture.topic(1).await, 0);
    member.transact(vec![record(&out, "before")], &source, 1, "one").await.unwrap();
    let mut records: Vec<_> = (0..100).map(|number| record(&out, format!("no {number}"))).collect();
    records.insert(50, record(&out, "x".repeat(fixture.largest_value() + (1 << 20))));
    let refused = member.transact(records, &source, 3, "three").await;
    let Err(TransactError::Refused(refusals)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!(refusals[0].record, 50);
    assert!(matches!(refusals[0].error, ProduceError::TooLarge { .. }), "{refusals:?}");

    assert_eq!(committed(&fixture.other(), &group).await[0].1.offset, 1);
    member.transact(vec![record(&out, "after")], &source, 2, "two").await.unwrap();
    assert_eq!(seen(fixture, &out, "after").await, ["before", "after"]);
    let expected = Committed { offset: 2, metadata: "two".into() };
    assert_eq!(committed(&fixture.other(), &group).await, [(source.clone(), expected)]);
    member.leave().await;
}

/// Rewinds and waits until that has taken effect. Tells how many records came before.
async fn rewind(member: &Watched, partition: &TopicPartition) -> (Option<Committed>, usize) {
    let before = member.seen().rewound.len();
    member.commands.rewind(vec![partition.clone()]).await;
    member.until("the rewinding takes effect", |seen| seen.rewound.len() > before).await;
    let (Assigned { partition: rewound, committed }, records) =
        member.seen().rewound.last().unwrap().clone();
    assert_eq!(rewound, *partition);
    (committed, records)
}

pub(crate) async fn a_member_goes_back_to_what_is_committed(fixture: &dyn Fixture) {
    let (member, source, _) = reading(fixture, 100).await;
    let (nothing, before) = rewind(&member, &source).await;
    assert_eq!((nothing, before), (None, 100));
    member.until("all comes again", |seen| seen.records.len() == 200).await;

    member.transact(vec![], &source, 60, "sixty").await.unwrap();
    let (committed, before) = rewind(&member, &source).await;
    assert_eq!(committed, Some(Committed { offset: 60, metadata: "sixty".into() }));
    member.until("the rest comes again", |seen| seen.records.len() == before + 40).await;
    let again: Vec<_> = member.seen().records[before..].iter().map(|it| it.offset).collect();
    assert_eq!(again, (60..100).collect::<Vec<_>>());

    // A partition that is not the member's is passed over, and does not hold the others up.
    let foreign = at(&fixture.topic(1).await, 0);
    member.commands.rewind(vec![foreign, source.clone()]).await;
    member.until("its own is rewound", |seen| seen.rewound.len() == 3).await;
    assert_eq!(member.seen().rewound[2].0.partition, source);
    member.leave().await;
}

pub(crate) async fn a_member_that_began_at_the_end_goes_back_to_where_that_was(
    fixture: &dyn Fixture,
) {
    let (member, source, _) = begin_at_the_end(fixture).await;
    let first = member.seen().offsets(&source);
    let (committed, before) = rewind(&member, &source).await;
    assert_eq!((committed, before), (None, first.len()));
    member.until("they come again", |seen| seen.records.len() >= 2 * before).await;
    assert_eq!(member.seen().offsets(&source)[before..], first);
    member.leave().await;
}

pub(crate) async fn a_transaction_after_the_revocation_is_fenced(fixture: &dyn Fixture) {
    let (broker, topic, group) = (fixture.broker(), fixture.topic(2).await, fixture.group());
    let out = at(&fixture.topic(1).await, 0);
    for partition in 0..2 {
        fill(&broker, &at(&topic, partition), 5).await;
    }
    let first = join_with(&broker, spec(&group, &topic, 0), OnRevoke::Hold);
    settled(&[&first], 2).await;
    let second = join(&fixture.other(), &group, &topic, 1);
    first.until("one partition is revoked", |seen| seen.revoking.len() == 1).await;
    let revoked = first.seen().revoking.first().unwrap().clone();
    let written = record(&out, "while it is being revoked");
    first.transact(vec![written], &revoked, 3, "").await.unwrap();
    first.release().await;
    settled(&[&first, &second], 2).await;
    let refused = first.transact(vec![record(&out, "too late")], &revoked, 5, "").await;
    assert!(matches!(refused, Err(TransactError::Fenced(_))), "{refused:?}");
    second.until("its records arrive", |seen| seen.records.len() == 2).await;
    assert_eq!(second.seen().owned[&revoked].as_ref().unwrap().offset, 3);
    let written = record(&out, "by the next owner");
    second.transact(vec![written], &revoked, 5, "").await.unwrap();
    let expected = ["while it is being revoked", "by the next owner"];
    assert_eq!(seen(fixture, &out, "by the next owner").await, expected);
    first.leave().await;
    second.leave().await;
}

pub(crate) async fn a_member_of_the_same_instance_fences_the_first(fixture: &dyn Fixture) {
    let (broker, topic, group) = (fixture.broker(), fixture.topic(1).await, fixture.group());
    let (source, out) = (at(&topic, 0), at(&fixture.topic(1).await, 0));
    fill(&broker, &source, 5).await;
    let spec = MemberSpec { instance_id: Some("one".into()), ..spec(&group, &topic, 0) };
    let first = join_with(&broker, spec.clone(), OnRevoke::Release);
    settled(&[&first], 1).await;
    first.transact(vec![record(&out, "first")], &source, 1, "").await.unwrap();

    let second = join_with(&fixture.other(), spec, OnRevoke::Release);
    settled(&[&second], 1).await;
    let begun = second.seen().owned[&source].as_ref().unwrap().offset;
    assert_eq!(begun, 1);
    second.transact(vec![record(&out, "second")], &source, 2, "").await.unwrap();
    let refused = first.transact(vec![record(&out, "zombie")], &source, 5, "").await;
    assert!(refused.is_err(), "{refused:?}");
    first.until("the first member ends", |seen| seen.closed).await;
    second.transact(vec![record(&out, "second again")], &source, 3, "").await.unwrap();
    assert_eq!(seen(fixture, &out, "second again").await, ["first", "second", "second again"]);
    second.leave().await;
}

pub(crate) async fn whoever_takes_a_transactional_id_fences_the_one_before(fixture: &dyn Fixture) {
    let (id, out) = (fixture.group(), at(&fixture.topic(1).await, 0));
    let mut first = fixture.broker().transactions(&id).await.unwrap();
    let produced = first.write(vec![record(&out, "a"), record(&out, "b")]).await.unwrap();
    assert_eq!(produced.iter().map(|it| it.offset).collect::<Vec<_>>(), [0, 1]);
    let mut second = fixture.other().transactions(&id).await.unwrap();
    let refused = first.write(vec![record(&out, "zombie")]).await;
    assert!(matches!(refused, Err(TransactError::Fenced(_))), "{refused:?}");
    second.write(vec![record(&out, "c")]).await.unwrap();
    assert_eq!(seen(fixture, &out, "c").await, ["a", "b", "c"]);
}
