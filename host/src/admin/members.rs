//! Says in the log what this process's members read, and why one of them has nothing to read.
//!
//! A member knows only that it has no partition; why that is takes the whole group, so the broker is asked, once each
//! time that this process's members have settled anew.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{State, inventory};
use crate::{
    dispatch::{GroupStatus, MemberState, MemberStatus},
    record::TopicPartition,
};

/// How often this process's members are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Tells until it is dropped.
pub async fn tell(state: State) {
    let mut told: HashMap<Arc<str>, Standings> = HashMap::new();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let view = state.local.view();
        for status in &view.groups {
            let Some(now) = standings(status) else { continue };
            let before = told.get(&status.id);
            if before == Some(&now) {
                continue;
            }
            // One that the broker does not answer, or whose members have not settled there: at the next look.
            let Ok(group) = inventory::group(&*state.broker, &view, &status.id).await else {
                continue;
            };
            if group.state == "rebalancing" {
                continue;
            }
            let changed = changed(before, &now);
            for member in &group.members {
                if member.id.as_deref().is_some_and(|id| changed.contains(id)) {
                    tracing::info!(
                        group = %status.id, member = member.id, "This member {}", member.standing()
                    );
                }
            }
            told.insert(status.id.clone(), now);
        }
    }
}

/// What each member reads, by its id.
type Standings = BTreeMap<Arc<str>, BTreeSet<TopicPartition>>;

/// `None` while a member joins or partitions change hands.
fn standings(status: &GroupStatus) -> Option<Standings> {
    let standing = |member: &MemberStatus| match (member.state, &member.id) {
        (MemberState::Active | MemberState::Inactive, Some(id)) => {
            let reads = member.partitions.iter().map(|status| status.partition.clone());
            Some((id.clone(), reads.collect()))
        }
        _ => None,
    };
    status.members.iter().map(standing).collect()
}

fn changed<'a>(before: Option<&Standings>, now: &'a Standings) -> BTreeSet<&'a str> {
    let as_before = |id: &Arc<str>, reads| before.and_then(|before| before.get(id)) == Some(reads);
    now.iter().filter(|(id, reads)| !as_before(id, *reads)).map(|(id, _)| &**id).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::snapshot::example, *};

    #[test]
    fn nothing_is_told_before_every_member_has_settled() {
        let mut status = example::view().groups.remove(0);
        assert!(standings(&status).is_some());
        status.members[0].state = MemberState::Rebalancing;
        assert_eq!(standings(&status), None);
    }

    #[test]
    fn only_members_that_read_something_else_than_before_are_told_about() {
        let mut status = example::view().groups.remove(0);
        let before = standings(&status).unwrap();
        assert_eq!(changed(None, &before).len(), 3);
        assert!(changed(Some(&before), &before).is_empty());
        status.members[0].partitions.clear();
        let now = standings(&status).unwrap();
        assert_eq!(changed(Some(&before), &now), BTreeSet::from(["m-0"]));
    }
}
