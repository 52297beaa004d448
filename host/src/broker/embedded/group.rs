//! One group: its members, who has which partition, and how partitions change hands. Pure; what follows from a
//! change are [`Notice`]s for the members.
//!
//! Invariant: a partition has at most one owner. It goes to another only after its owner released it, left, or
//! was fenced; whoever keeps a partition hears nothing of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::assignment::{MemberNumber, assign};
use crate::record::TopicPartition;

/// What a member is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// These are the member's now, besides what it has.
    Assigned(Vec<TopicPartition>),
    /// These are to be released.
    Revoking(Vec<TopicPartition>),
}

/// What follows from a change, by member.
pub(super) type Notices = Vec<(MemberNumber, Notice)>;

/// The group.
#[derive(Debug, Default)]
pub(super) struct Group {
    next: MemberNumber,
    members: BTreeMap<MemberNumber, Membership>,
    owners: BTreeMap<TopicPartition, Ownership>,
}

#[derive(Debug)]
struct Membership {
    topics: BTreeSet<Arc<str>>,
    /// Whether it knows what it has: false from its joining, and from its last release, until the next assignment.
    is_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ownership {
    owner: MemberNumber,
    is_revoking: bool,
}

impl Group {
    /// Adds a member. It is given its partitions by the next [`Group::rebalance`].
    pub(super) fn join(&mut self, topics: impl IntoIterator<Item = Arc<str>>) -> MemberNumber {
        let number = self.next;
        self.next += 1;
        let membership = Membership { topics: topics.into_iter().collect(), is_told: false };
        self.members.insert(number, membership);
        number
    }

    /// Removes a member; what it had is free.
    pub(super) fn leave(&mut self, member: MemberNumber) {
        self.members.remove(&member);
        self.owners.retain(|_, ownership| ownership.owner != member);
    }

    /// Frees partitions that were revoked. Others stay with their owner. Tells which were freed.
    pub(super) fn release(
        &mut self,
        member: MemberNumber,
        partitions: &[TopicPartition],
    ) -> Vec<TopicPartition> {
        let revoked = Ownership { owner: member, is_revoking: true };
        let mut freed = partitions.to_vec();
        freed.retain(|partition| self.owners.get(partition) == Some(&revoked));
        for partition in &freed {
            self.owners.remove(partition);
        }
        if let Some(membership) = self.members.get_mut(&member)
            && !freed.is_empty()
        {
            membership.is_told = false;
        }
        freed
    }

    /// Whether a member has a partition and may commit for it.
    pub(super) fn owns(&self, member: MemberNumber, partition: &TopicPartition) -> bool {
        self.owners.get(partition).is_some_and(|ownership| ownership.owner == member)
    }

    /// What a member has.
    pub(super) fn partitions_of(&self, member: MemberNumber) -> Vec<TopicPartition> {
        let owned = self.owners.iter().filter(|(_, ownership)| ownership.owner == member);
        owned.map(|(partition, _)| partition.clone()).collect()
    }

    /// Every topic that someone subscribes to.
    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        self.members.values().flat_map(|member| member.topics.iter().cloned()).collect()
    }

    /// Whether everyone has what is theirs and knows it.
    pub(super) fn is_settled(&self) -> bool {
        self.members.values().all(|member| member.is_told)
            && !self.owners.values().any(|ownership| ownership.is_revoking)
    }

    /// Whether it has no members.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Shares out `partitions`, all those of the group's topics, after whatever has changed.
    pub(super) fn rebalance(&mut self, partitions: &BTreeSet<TopicPartition>) -> Notices {
        // What is being revoked is as good as free: who gives it up shall not have to give up another one instead.
        let current = |partition: &TopicPartition| {
            let ownership = self.owners.get(partition)?;
            (!ownership.is_revoking).then_some(ownership.owner)
        };
        let subscribes = |member, partition: &TopicPartition| {
            self.members[&member].topics.contains(&partition.topic)
        };
        let target = assign(partitions, self.members.keys().copied(), subscribes, current);
        let mut notices = Notices::new();
        for (member, theirs) in target {
            notices.extend(self.revoke(&theirs, member));
            let free = theirs.into_iter().filter(|partition| !self.owners.contains_key(partition));
            let free: Vec<_> = free.collect();
            if free.is_empty() {
                continue;
            }
            let ownership = Ownership { owner: member, is_revoking: false };
            self.owners.extend(free.iter().map(|partition| (partition.clone(), ownership)));
            self.tell(member);
            notices.push((member, Notice::Assigned(free)));
        }
        notices.extend(self.tell_the_rest());
        notices
    }

    /// Revokes what a member has beyond `theirs`.
    fn revoke(
        &mut self,
        theirs: &BTreeSet<TopicPartition>,
        member: MemberNumber,
    ) -> Option<(MemberNumber, Notice)> {
        let mut revoking = Vec::new();
        for (partition, ownership) in &mut self.owners {
            let goes = ownership.owner == member && !theirs.contains(partition);
            if goes && !ownership.is_revoking {
                ownership.is_revoking = true;
                revoking.push(partition.clone());
            }
        }
        (!revoking.is_empty()).then_some((member, Notice::Revoking(revoking)))
    }

    /// Once nothing is in between hands, those who wait to hear learn that there is nothing (more) for them.
    fn tell_the_rest(&mut self) -> Notices {
        if self.owners.values().any(|ownership| ownership.is_revoking) {
            return Vec::new();
        }
        let waiting: Vec<_> =
            self.members.iter().filter(|(_, member)| !member.is_told).map(|(id, _)| *id).collect();
        for member in &waiting {
            self.tell(*member);
        }
        waiting.into_iter().map(|member| (member, Notice::Assigned(Vec::new()))).collect()
    }

    fn tell(&mut self, member: MemberNumber) {
        if let Some(member) = self.members.get_mut(&member) {
            member.is_told = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn partitions(count: u32) -> BTreeSet<TopicPartition> {
        (0..count).map(|number| TopicPartition::new("topic", number)).collect()
    }

    fn list(numbers: impl IntoIterator<Item = u32>) -> Vec<TopicPartition> {
        numbers.into_iter().map(|number| TopicPartition::new("topic", number)).collect()
    }

    fn join(group: &mut Group) -> MemberNumber {
        group.join(["topic".into()])
    }

    #[test]
    fn a_member_alone_gets_everything() {
        let mut group = Group::default();
        let member = join(&mut group);
        let notices = group.rebalance(&partitions(3));
        assert_eq!(notices, [(member, Notice::Assigned(list(0..3)))]);
        assert!(group.is_settled());
    }

    #[test]
    fn a_partition_changes_hands_only_after_its_release_and_the_others_are_not_touched() {
        let mut group = Group::default();
        let first = join(&mut group);
        group.rebalance(&partitions(3));
        let second = join(&mut group);
        assert_eq!(
            group.rebalance(&partitions(3)),
            [(first, Notice::Revoking(list([2])))],
            "nothing for the second yet"
        );
        assert!(group.owns(first, &list([2])[0]) && !group.is_settled());
        assert_eq!(group.release(first, &list([2])), list([2]));
        assert!(!group.owns(first, &list([2])[0]));
        assert_eq!(
            group.rebalance(&partitions(3)),
            [(second, Notice::Assigned(list([2]))), (first, Notice::Assigned(Vec::new()))]
        );
        assert!(group.is_settled());
    }

    #[test]
    fn what_was_not_revoked_cannot_be_released() {
        let mut group = Group::default();
        let member = join(&mut group);
        group.rebalance(&partitions(1));
        assert_eq!(group.release(member, &list([0])), []);
        assert!(group.owns(member, &list([0])[0]));
    }

    #[test]
    fn one_member_too_many_is_told_that_there_is_nothing_for_it() {
        let mut group = Group::default();
        let first = join(&mut group);
        group.rebalance(&partitions(1));
        let second = join(&mut group);
        assert_eq!(group.rebalance(&partitions(1)), [(second, Notice::Assigned(Vec::new()))]);
        group.leave(first);
        assert_eq!(group.rebalance(&partitions(1)), [(second, Notice::Assigned(list([0])))]);
    }

    #[test]
    fn a_revoked_partition_comes_back_when_the_other_member_leaves_before_its_release() {
        let mut group = Group::default();
        let first = join(&mut group);
        group.rebalance(&partitions(2));
        let second = join(&mut group);
        group.rebalance(&partitions(2));
        group.leave(second);
        assert_eq!(group.rebalance(&partitions(2)), [], "it was told to release it");
        group.release(first, &list([1]));
        assert_eq!(group.rebalance(&partitions(2)), [(first, Notice::Assigned(list([1])))]);
    }

    #[derive(Clone, Debug)]
    enum Change {
        Join,
        Leave(prop::sample::Index),
        /// Of what it is to release, and nothing else, or of all there is.
        Release(prop::sample::Index, bool),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            Just(Change::Join),
            any::<prop::sample::Index>().prop_map(Change::Leave),
            any::<(prop::sample::Index, bool)>()
                .prop_map(|(which, all)| Change::Release(which, all)),
        ]
    }

    /// What the members believe, from their notices alone.
    #[derive(Default)]
    struct Believed {
        has: BTreeMap<MemberNumber, BTreeSet<TopicPartition>>,
        asked: BTreeMap<MemberNumber, Vec<TopicPartition>>,
    }

    impl Believed {
        fn hear(&mut self, notices: Notices) {
            for (member, notice) in notices {
                match notice {
                    Notice::Assigned(new) => {
                        for partition in new {
                            let taken = self.has.values().any(|has| has.contains(&partition));
                            assert!(!taken, "{partition} has two owners");
                            self.has.entry(member).or_default().insert(partition);
                        }
                    }
                    Notice::Revoking(gone) => self.asked.entry(member).or_default().extend(gone),
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8_000))]
        #[test]
        fn no_partition_ever_has_two_owners_and_the_group_settles_evenly(
            changes in proptest::collection::vec(change(), 0..200), count in 0u32..9,
        ) {
            let (mut group, all) = (Group::default(), partitions(count));
            let mut believed = Believed::default();
            for change in changes {
                let members: Vec<_> = group.members.keys().copied().collect();
                match change {
                    Change::Join => drop(join(&mut group)),
                    Change::Leave(_) | Change::Release(..) if members.is_empty() => {}
                    Change::Leave(which) => {
                        let member = *which.get(&members);
                        group.leave(member);
                        believed.has.remove(&member);
                        believed.asked.remove(&member);
                    }
                    Change::Release(which, everything) => {
                        let member = *which.get(&members);
                        let asked = believed.asked.remove(&member).unwrap_or_default();
                        let given = if everything { all.iter().cloned().collect() } else { asked.clone() };
                        let freed: BTreeSet<_> = group.release(member, &given).into_iter().collect();
                        prop_assert_eq!(freed, asked.iter().cloned().collect());
                        believed.has.entry(member).or_default().retain(|it| !asked.contains(it));
                    }
                }
                believed.hear(group.rebalance(&all));
                for member in group.members.keys() {
                    let has = believed.has.get(member).into_iter().flatten();
                    prop_assert!(has.eq(&group.partitions_of(*member)), "{} knows what it has", member);
                }
            }
            while let Some((member, asked)) = believed.asked.pop_first() {
                group.release(member, &asked);
                believed.has.entry(member).or_default().retain(|it| !asked.contains(it));
                believed.hear(group.rebalance(&all));
            }
            prop_assert!(group.is_settled());
            let loads: Vec<_> =
                group.members.keys().map(|member| group.partitions_of(*member).len()).collect();
            if let (Some(least), Some(most)) = (loads.iter().min(), loads.iter().max()) {
                prop_assert!(most - least <= 1, "{:?}", loads);
                prop_assert_eq!(loads.iter().sum::<usize>(), count as usize);
            }
        }
    }
}
