//! Members that come, go and share.

use std::{collections::BTreeSet, sync::Arc};

use keyway::{broker::CommitError, record::TopicPartition};

use crate::{
    fixture::{Fixture, fill, partitions},
    member::{OnRevoke, Watched, join, join_with, settled, spec},
};

/// Has a member read `count` records of each of its partitions, and commits them.
async fn read_and_commit(member: &Watched, count: u64) {
    let owned: Vec<_> = member.seen().owned.keys().cloned().collect();
    for partition in owned {
        member
            .until("its records arrive", |seen| {
                seen.offsets(&partition).last() == Some(&(count - 1))
            })
            .await;
        member.commit(&partition, count, "").await.unwrap();
    }
}

pub(crate) async fn four_members_of_three_partitions_leave_one_inactive(fixture: &dyn Fixture) {
    let (topic, group) = (fixture.topic(3).await, fixture.group());
    let brokers = [fixture.broker(), fixture.other()];
    let members: Vec<_> =
        (0..4).map(|index| join(&brokers[index as usize % 2], &group, &topic, index)).collect();
    settled(&members.iter().collect::<Vec<_>>(), 3).await;
    let ids: BTreeSet<_> = members.iter().map(|member| member.seen().id.clone()).collect();
    assert_eq!(ids.len(), 4, "every member has an id of its own");
    let inactive = members.iter().position(|member| member.seen().owned.is_empty()).unwrap();

    for partition in partitions(&topic, 3) {
        fill(&fixture.broker(), &partition, 5).await;
    }
    for member in members.iter().filter(|member| !member.seen().owned.is_empty()) {
        read_and_commit(member, 5).await;
    }
    assert!(members[inactive].seen().records.is_empty());

    // Whatever leaves, the inactive member has something to do, and nobody gets a record twice.
    let mut members = members;
    let waiting = members.swap_remove(inactive);
    let killed = members.pop().unwrap();
    let taken_over = killed.seen().owned.keys().next().unwrap().clone();
    killed.kill().await;
    settled(&[&waiting, &members[0], &members[1]], 3).await;
    fill(&fixture.broker(), &taken_over, 5).await;
    let heir = [&waiting, &members[0], &members[1]]
        .into_iter()
        .find(|member| member.seen().owned.contains_key(&taken_over))
        .unwrap();
    heir.until("the new records arrive", |seen| seen.offsets(&taken_over).ends_with(&[8, 9])).await;
    assert_eq!(heir.seen().offsets(&taken_over), [5, 6, 7, 8, 9]);
    for member in members.into_iter().chain([waiting]) {
        member.leave().await;
    }
}

/// Two members read and commit; one goes by `end`; the other has all of it and goes on.
async fn is_replaced(fixture: &dyn Fixture, end: impl AsyncFnOnce(Watched)) {
    let (topic, group) = (fixture.topic(2).await, fixture.group());
    for partition in partitions(&topic, 2) {
        fill(&fixture.broker(), &partition, 10).await;
    }
    let goes = join(&fixture.broker(), &group, &topic, 0);
    settled(&[&goes], 2).await;
    read_and_commit(&goes, 10).await;
    let stays = join(&fixture.other(), &group, &topic, 1);
    settled(&[&goes, &stays], 2).await;
    end(goes).await;
    settled(&[&stays], 2).await;
    for partition in partitions(&topic, 2) {
        assert_eq!(fill(&fixture.broker(), &partition, 5).await, 15);
        stays
            .until("the new records arrive", |seen| seen.offsets(&partition).last() == Some(&14))
            .await;
        assert_eq!(stays.seen().offsets(&partition), [10, 11, 12, 13, 14]);
    }
    stays.leave().await;
}

pub(crate) async fn a_member_that_leaves_is_replaced(fixture: &dyn Fixture) {
    is_replaced(fixture, async |member: Watched| member.leave().await).await;
}

pub(crate) async fn a_member_that_is_killed_is_replaced(fixture: &dyn Fixture) {
    is_replaced(fixture, async |member: Watched| member.kill().await).await;
}

pub(crate) async fn what_a_member_keeps_goes_on_during_a_hand_over(fixture: &dyn Fixture) {
    let (broker, topic, group) = (fixture.broker(), fixture.topic(3).await, fixture.group());
    let first = join_with(&broker, spec(&group, &topic, 0), OnRevoke::Hold);
    settled(&[&first], 3).await;
    for partition in partitions(&topic, 3) {
        fill(&broker, &partition, 10).await;
    }
    read_and_commit(&first, 10).await;

    let second = join(&fixture.other(), &group, &topic, 1);
    first.until("one partition is revoked", |seen| seen.revoking.len() == 1).await;
    let revoked = first.seen().revoking.first().unwrap().clone();
    // The hand-over stands still here, and what is kept goes on.
    for partition in partitions(&topic, 3) {
        fill(&broker, &partition, 10).await;
    }
    for kept in partitions(&topic, 3).into_iter().filter(|partition| *partition != revoked) {
        first.until("what is kept goes on", |seen| seen.offsets(&kept).last() == Some(&19)).await;
        first.commit(&kept, 20, "").await.unwrap();
    }
    assert_eq!(first.seen().offsets(&revoked).last(), Some(&9), "no more of what is revoked");
    assert!(second.seen().owned.is_empty(), "it is the first member's until it is released");
    first.release().await;
    second.until("the second has it", |seen| seen.owned.contains_key(&revoked)).await;
    second.until("the rest arrives", |seen| seen.offsets(&revoked).last() == Some(&19)).await;

    assert_eq!(second.seen().offsets(&revoked), (10..20).collect::<Vec<_>>());
    assert_eq!(
        first.seen().revoked,
        std::slice::from_ref(&revoked),
        "the others were never revoked"
    );
    let kept: Vec<_> = first.seen().owned.keys().cloned().collect();
    for kept in &kept {
        assert_eq!(first.seen().offsets(kept), (0..20).collect::<Vec<_>>());
    }
    first.leave().await;
    second.leave().await;
}

pub(crate) async fn many_members_come_and_go_and_every_record_is_handed_over(
    fixture: &dyn Fixture,
) {
    let (broker, topic, group) = (fixture.broker(), fixture.topic(4).await, fixture.group());
    let writing = tokio::spawn(write_slowly(fixture.broker(), topic.clone()));
    let first = join(&broker, &group, &topic, 0);
    settled(&[&first], 4).await;
    let second = join(&fixture.other(), &group, &topic, 1);
    settled(&[&first, &second], 4).await;
    let third = join(&broker, &group, &topic, 2);
    settled(&[&first, &second, &third], 4).await;
    second.leave().await;
    settled(&[&first, &third], 4).await;
    let fourth = join(&fixture.other(), &group, &topic, 3);
    settled(&[&first, &third, &fourth], 4).await;
    first.kill().await;
    settled(&[&third, &fourth], 4).await;
    writing.await.unwrap();
    // Nobody committed, so whoever gets a partition begins at its beginning: the last owner has seen it all, in order.
    for member in [third, fourth] {
        let owned: Vec<_> = member.seen().owned.keys().cloned().collect();
        for partition in owned {
            member
                .until("all of it arrives", |seen| seen.offsets(&partition).last() == Some(&199))
                .await;
            let offsets = member.seen().offsets(&partition);
            assert_eq!(offsets[offsets.len() - 200..], (0..200).collect::<Vec<_>>());
        }
        member.leave().await;
    }
}

async fn write_slowly(broker: Arc<dyn keyway::broker::Broker>, topic: Arc<str>) {
    for _ in 0..20 {
        for partition in partitions(&topic, 4) {
            fill(&broker, &partition, 10).await;
        }
    }
}

pub(crate) async fn two_groups_are_independent(fixture: &dyn Fixture) {
    let (broker, topic) = (fixture.broker(), fixture.topic(1).await);
    let partition = TopicPartition::new(topic.clone(), 0);
    fill(&broker, &partition, 10).await;
    let groups = [fixture.group(), fixture.group()];
    for group in &groups {
        let member = join(&broker, group, &topic, 0);
        member.until("all records arrive", |seen| seen.records.len() == 10).await;
        assert_eq!(member.seen().owned[&partition], None, "the other group's commit is not ours");
        member.commit(&partition, 10, "").await.unwrap();
        member.leave().await;
    }
    let again = join(&broker, &groups[0], &topic, 0);
    let other = join(&broker, &groups[1], &topic, 0);
    settled(&[&again], 1).await;
    settled(&[&other], 1).await;
    again.commit(&partition, 4, "back").await.unwrap();
    let info = broker.group(&groups[1]).await.unwrap();
    assert_eq!(info.committed[0].1.offset, 10);
    again.leave().await;
    other.leave().await;
}

pub(crate) async fn a_commit_after_the_revocation_is_refused(fixture: &dyn Fixture) {
    let (broker, topic, group) = (fixture.broker(), fixture.topic(2).await, fixture.group());
    for partition in partitions(&topic, 2) {
        fill(&broker, &partition, 5).await;
    }
    let first = join_with(&broker, spec(&group, &topic, 0), OnRevoke::Hold);
    settled(&[&first], 2).await;
    let second = join(&fixture.other(), &group, &topic, 1);
    first.until("one partition is revoked", |seen| seen.revoking.len() == 1).await;
    let revoked = first.seen().revoking.first().unwrap().clone();
    first.commit(&revoked, 3, "while it is being revoked").await.unwrap();
    first.release().await;
    settled(&[&first, &second], 2).await;
    let refused = first.commit(&revoked, 5, "too late").await;
    assert!(matches!(refused, Err(CommitError::NotOwned(_))), "{refused:?}");
    let foreign = first.seen().owned.keys().next().unwrap().clone();
    let refused = second.commit(&foreign, 5, "never had it").await;
    assert!(matches!(refused, Err(CommitError::NotOwned(_))), "{refused:?}");
    second.until("its records arrive", |seen| seen.records.len() == 2).await;
    assert_eq!(second.seen().owned[&revoked].as_ref().unwrap().offset, 3);
    assert_eq!(second.seen().offsets(&revoked), [3, 4]);
    first.leave().await;
    second.leave().await;
}
