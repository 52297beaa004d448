//! Who of a group reads what: cooperative and sticky. Pure.
//!
//! Every partition that someone subscribes to is given to one member; among members with the same topics nobody has
//! two more than another; and no partition moves that need not.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::TopicPartition;

/// A member's number within its group: the order in which members joined.
pub(super) type MemberNumber = u64;

/// Each member's partitions, given who has what now. A partition that nobody may read is in no set.
pub(super) fn assign<'a>(
    partitions: &BTreeSet<TopicPartition>,
    members: impl IntoIterator<Item = MemberNumber>,
    subscribes: impl Fn(MemberNumber, &TopicPartition) -> bool,
    current: impl Fn(&TopicPartition) -> Option<MemberNumber> + 'a,
) -> BTreeMap<MemberNumber, BTreeSet<TopicPartition>> {
    let mut assigned: BTreeMap<_, BTreeSet<_>> =
        members.into_iter().map(|member| (member, BTreeSet::new())).collect();
    let mut free = Vec::new();
    for partition in partitions {
        let keeper = current(partition).filter(|member| subscribes(*member, partition));
        match keeper.and_then(|member| assigned.get_mut(&member)) {
            Some(kept) => drop(kept.insert(partition.clone())),
            None => free.push(partition),
        }
    }
    for partition in free {
        let member = least_loaded(&assigned, |member| subscribes(member, partition));
        if let Some(partitions) = member.and_then(|member| assigned.get_mut(&member)) {
            partitions.insert(partition.clone());
        }
    }
    while let Some((partition, from, to)) = next_move(&assigned, &subscribes) {
        assigned.entry(from).or_default().remove(&partition);
        assigned.entry(to).or_default().insert(partition);
    }
    assigned
}

fn least_loaded(
    assigned: &BTreeMap<MemberNumber, BTreeSet<TopicPartition>>,
    may: impl Fn(MemberNumber) -> bool,
) -> Option<MemberNumber> {
    let may = assigned.iter().filter(|(member, _)| may(**member));
    may.min_by_key(|(_, partitions)| partitions.len()).map(|(member, _)| *member)
}

/// A move that brings two members closer together: from the most loaded that has anything to give. Each one makes the
/// loads more even, so there is a last one.
fn next_move(
    assigned: &BTreeMap<MemberNumber, BTreeSet<TopicPartition>>,
    subscribes: &impl Fn(MemberNumber, &TopicPartition) -> bool,
) -> Option<(TopicPartition, MemberNumber, MemberNumber)> {
    let mut givers: Vec<_> = assigned.iter().collect();
    givers.sort_by_key(|(_, partitions)| std::cmp::Reverse(partitions.len()));
    for (giver, partitions) in givers {
        for partition in partitions.iter().rev() {
            let taker = least_loaded(assigned, |member| subscribes(member, partition))?;
            if assigned[&taker].len() + 1 < partitions.len() {
                return Some((partition.clone(), *giver, taker));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn partitions(count: u32) -> BTreeSet<TopicPartition> {
        (0..count).map(|number| TopicPartition::new("topic", number)).collect()
    }

    fn loads(assigned: &BTreeMap<MemberNumber, BTreeSet<TopicPartition>>) -> Vec<usize> {
        assigned.values().map(BTreeSet::len).collect()
    }

    #[test]
    fn the_fourth_member_of_three_partitions_gets_none() {
        let assigned = assign(&partitions(3), 0..4, |_, _| true, |_| None);
        assert_eq!(loads(&assigned), [1, 1, 1, 0]);
    }

    #[test]
    fn members_read_only_topics_that_they_subscribe_to() {
        let mut all = partitions(2);
        all.insert(TopicPartition::new("other", 0));
        let subscribes =
            |member, partition: &TopicPartition| member == 0 || &*partition.topic == "other";
        let assigned = assign(&all, 0..2, subscribes, |_| None);
        assert_eq!(assigned[&0], partitions(2));
        assert_eq!(loads(&assigned), [2, 1]);
    }

    #[test]
    fn a_partition_that_nobody_subscribes_to_is_nobodys() {
        let assigned = assign(&partitions(2), 0..2, |_, _| false, |_| None);
        assert_eq!(loads(&assigned), [0, 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn everything_is_read_once_evenly_and_no_more_moves_than_must(
            owners in proptest::collection::vec(proptest::option::of(0u64..6), 0..24),
            members in proptest::collection::btree_set(0u64..8, 1..7),
        ) {
            let all = partitions(owners.len() as u32);
            let current = |partition: &TopicPartition| owners[partition.partition as usize];
            let assigned = assign(&all, members.iter().copied(), |_, _| true, current);

            let read: Vec<_> = assigned.values().flatten().collect();
            prop_assert_eq!(read.len(), all.len());
            prop_assert_eq!(read.into_iter().collect::<BTreeSet<_>>(), all.iter().collect());

            let loads = loads(&assigned);
            let most = loads.iter().max().expect("there is a member");
            prop_assert!(loads.iter().all(|load| load + 1 >= *most), "{:?}", loads);

            // Each member that had more than the upper share must give the rest away, and whoever is still below the
            // lower share when nothing is free must be given something: the larger of the two is the least there is.
            let had = |member| owners.iter().filter(|owner| **owner == Some(member)).count();
            let (floor, ceiling) = (all.len() / members.len(), all.len().div_ceil(members.len()));
            let kept: usize = members.iter().map(|member| had(*member)).sum();
            let above: usize = members.iter().map(|member| had(*member).saturating_sub(ceiling)).sum();
            let below: usize = members.iter().map(|member| floor.saturating_sub(had(*member))).sum();
            let free = all.len() - kept;
            let moved = all
                .iter()
                .filter(|partition| {
                    current(partition).is_some_and(|owner| {
                        members.contains(&owner) && !assigned[&owner].contains(partition)
                    })
                })
                .count();
            prop_assert_eq!(moved, above.max(below.saturating_sub(free)));
        }
    }
}
