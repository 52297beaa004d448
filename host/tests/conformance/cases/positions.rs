//! Seeking, pausing and resuming.

use keyway::record::TopicPartition;

use crate::{
    fixture::{Fixture, fill, partitions},
    member::{Watched, join, settled},
};

/// Seeks and waits until that has taken effect: so has every command before it. Tells how many records came before.
async fn seek(member: &Watched, partition: &TopicPartition, offset: u64) -> usize {
    let before = member.seen().sought.len();
    member.commands.seek(partition.clone(), offset).await;
    member.until("the seek takes effect", |seen| seen.sought.len() > before).await;
    let (sought, at, records) = member.seen().sought.last().unwrap().clone();
    assert_eq!((&sought, at), (partition, offset));
    records
}

pub(crate) async fn a_seek_goes_on_at_another_offset(fixture: &dyn Fixture) {
    let (broker, topic) = (fixture.broker(), fixture.topic(2).await);
    let [partition, other] = [0, 1].map(|number| TopicPartition::new(topic.clone(), number));
    fill(&broker, &partition, 1_000).await;
    fill(&broker, &other, 10).await;
    let member = join(&broker, &fixture.group(), &topic, 0);
    member.until("all records arrive", |seen| seen.records.len() == 1_010).await;

    let before = seek(&member, &partition, 5).await;
    member.until("they come again", |seen| seen.records.len() == before + 995).await;
    let again: Vec<_> = member.seen().records[before..].iter().map(|it| it.offset).collect();
    assert_eq!(again, (5..1_000).collect::<Vec<_>>());

    // To and fro at once: what comes after the last seek is from its offset, whatever was on its way.
    seek(&member, &partition, 0).await;
    let before = seek(&member, &partition, 990).await;
    member.until("the end comes", |seen| seen.records.len() >= before + 10).await;
    fill(&broker, &partition, 1).await;
    member.until("so does what is new", |seen| seen.records.len() > before + 10).await;
    let after: Vec<_> = member.seen().records[before..].iter().map(|it| it.offset).collect();
    assert_eq!(after, (990..1_001).collect::<Vec<_>>());
    assert_eq!(member.seen().offsets(&other), (0..10).collect::<Vec<_>>());
    member.leave().await;
}

pub(crate) async fn a_paused_partition_is_silent_until_it_is_resumed(fixture: &dyn Fixture) {
    let (broker, topic) = (fixture.broker(), fixture.topic(2).await);
    let [paused, other] = [0, 1].map(|number| TopicPartition::new(topic.clone(), number));
    let member = join(&broker, &fixture.group(), &topic, 0);
    settled(&[&member], 2).await;
    for partition in partitions(&topic, 2) {
        fill(&broker, &partition, 10).await;
    }
    member.until("all records arrive", |seen| seen.records.len() == 20).await;

    member.commands.pause(vec![paused.clone()]).await;
    seek(&member, &other, 10).await;
    fill(&broker, &paused, 10).await;
    for end in [20, 30, 40] {
        fill(&broker, &other, 10).await;
        member
            .until("the other goes on", |seen| seen.offsets(&other).last() == Some(&(end - 1)))
            .await;
    }
    assert_eq!(member.seen().offsets(&paused).last(), Some(&9));

    member.commands.resume(vec![paused.clone()]).await;
    member.until("the rest arrives", |seen| seen.offsets(&paused).last() == Some(&19)).await;
    assert_eq!(member.seen().offsets(&paused), (0..20).collect::<Vec<_>>());
    assert_eq!(member.seen().offsets(&other), (0..40).collect::<Vec<_>>());
    member.leave().await;
}
