//! The members of a group, in the order in which people count them, and why some have nothing to read.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    super::{Idle, Pause},
    Facts, TopicPartition, shown,
};
use crate::{
    broker::{GroupInfo, GroupMember, GroupState},
    dispatch::{self, GroupStatus, MemberStatus, PartitionStatus, Pauses},
};

/// One member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The id that the broker gave it; `null` before it has joined.
    pub id: Option<String>,
    /// `HOST:PID` of its process where it is a Keyway, else its client id and host.
    pub process: String,
    /// How it does.
    pub state: MemberState,
    /// Why it has nothing to read, or stands still; `null` when it is active.
    pub reason: Option<String>,
    /// What is wrong, where something is that it works around or gets over by itself.
    pub trouble: Option<String>,
    /// What it reads.
    pub partitions: Vec<TopicPartition>,
}

impl Member {
    /// What it does, as the end of a sentence that begins with it: `reads my-topic/0`.
    pub fn standing(&self) -> String {
        let reads: Vec<_> =
            self.partitions.iter().map(|at| format!("{}/{}", at.topic, at.partition)).collect();
        match (reads.is_empty(), &self.reason) {
            (false, None) => format!("reads {}", reads.join(", ")),
            (false, Some(reason)) => format!("has {}: {reason}", reads.join(", ")),
            (true, Some(reason)) => format!("has nothing to read: {reason}"),
            (true, None) => "has nothing to read".into(),
        }
    }
}

/// How a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It reads.
    Active,
    /// There is nothing for it to read, or it cannot.
    Inactive,
    /// It joins, or partitions change hands.
    Rebalancing,
    /// An operator has paused it.
    Paused,
}

/// The broker's members, those of this process as they see themselves, and after them those of this process that the
/// broker does not know (yet). In the same order each time, since people call them by their number.
pub(super) fn members(
    info: &GroupInfo,
    status: Option<&GroupStatus>,
    process: &str,
    facts: &Facts,
) -> Vec<Member> {
    let mut members = unexplained(info, status, process);
    explain(&mut members, facts);
    members
}

/// The same, with those that wait for a partition still to be told why.
fn unexplained(info: &GroupInfo, status: Option<&GroupStatus>, process: &str) -> Vec<Member> {
    let local = status.map_or(&[][..], |status| &status.members);
    let pauses = status.map(|status| &*status.pauses);
    let find = |id: &str| local.iter().find(|member| member.id.as_deref() == Some(id));
    let known = info.members.iter().map(|member| match find(&member.id) {
        Some(status) => local_member(status, &member.process, pauses),
        None => remote_member(member, info.state),
    });
    let known_ids: BTreeSet<&str> = info.members.iter().map(|member| member.id.as_str()).collect();
    let unknown = local
        .iter()
        .filter(|member| member.id.as_deref().is_none_or(|id| !known_ids.contains(id)))
        .map(|member| local_member(member, process, pauses));
    let index = |id: &Option<String>| {
        local.iter().position(|member| member.id.is_some() && member.id.as_deref() == id.as_deref())
    };
    let mut known: Vec<_> = known.collect();
    known.sort_by_cached_key(|member| {
        let (host, pid) = host_and_pid(&member.process);
        (host.to_owned(), pid, index(&member.id), member.id.clone())
    });
    known.extend(unknown);
    known
}

/// `HOST:PID` in its parts, so that 9 comes before 10; the process of another client is all host.
fn host_and_pid(process: &str) -> (&str, u64) {
    let parts = process.rsplit_once(':').and_then(|(host, pid)| Some((host, pid.parse().ok()?)));
    parts.unwrap_or((process, 0))
}

fn local_member(status: &MemberStatus, process: &str, pauses: Option<&Pauses>) -> Member {
    let mut trouble = status.trouble.clone();
    let held_back = pauses.and_then(|pauses| {
        let pause_of = |status: &PartitionStatus| pauses.of(&status.partition);
        let all: Option<Vec<_>> = status.partitions.iter().map(pause_of).collect();
        all?.into_iter().min_by_key(|pause| pause.since)
    });
    let (state, reason) = match status.state {
        dispatch::MemberState::Active => match held_back.map(Pause::of) {
            Some(pause) => {
                let reason =
                    format!("An operator has paused all that it reads, {}.", pause.words());
                (MemberState::Paused, Some(reason))
            }
            None => (MemberState::Active, None),
        },
        dispatch::MemberState::Inactive => (MemberState::Inactive, None),
        dispatch::MemberState::Failed => {
            let cause = trouble.take().unwrap_or_else(|| "the log has the cause".into());
            let reason = format!("It could not go on, and will be started again: {cause}");
            (MemberState::Inactive, Some(reason))
        }
        dispatch::MemberState::Joining => {
            (MemberState::Rebalancing, Some("It is joining the group.".to_owned()))
        }
        dispatch::MemberState::Rebalancing => {
            (MemberState::Rebalancing, Some("Partitions are changing hands.".to_owned()))
        }
    };
    Member {
        id: status.id.as_ref().map(|id| id.to_string()),
        process: process.to_owned(),
        state,
        reason,
        trouble,
        partitions: status.partitions.iter().map(|status| shown(&status.partition)).collect(),
    }
}

fn remote_member(member: &GroupMember, group: GroupState) -> Member {
    let (state, reason) = match (member.partitions.is_empty(), group) {
        (false, _) => (MemberState::Active, None),
        (true, GroupState::Rebalancing) => {
            (MemberState::Rebalancing, Some("Partitions are changing hands.".to_owned()))
        }
        (true, _) => (MemberState::Inactive, None),
    };
    Member {
        id: Some(member.id.clone()),
        process: member.process.clone(),
        state,
        reason,
        trouble: None,
        partitions: member.partitions.iter().map(shown).collect(),
    }
}

/// Tells the members that wait for a partition why they do.
fn explain(members: &mut [Member], facts: &Facts) {
    let reason = idle(members, facts).to_string();
    for member in members.iter_mut().filter(|member| waits(member)) {
        member.reason = Some(reason.clone());
    }
}

/// Whether a member is fine and has nothing to read: one that failed has its reason already.
fn waits(member: &Member) -> bool {
    member.state == MemberState::Inactive && member.reason.is_none()
}

fn idle(members: &[Member], facts: &Facts) -> Idle {
    let failed = |member: &Member| member.state == MemberState::Inactive && !waits(member);
    let joined: Vec<_> =
        members.iter().filter(|member| member.id.is_some() && !failed(member)).collect();
    let covered =
        |member: &Member| member.partitions.iter().filter(|taken| facts.covers(taken)).count();
    Idle {
        topics: facts.topics.clone(),
        taken: joined.iter().map(|member| covered(member)).sum(),
        members: joined.len(),
        elsewhere: joined
            .iter()
            .filter(|member| !member.partitions.is_empty() && covered(member) == 0)
            .count(),
        waiting: joined.iter().filter(|member| waits(member)).count(),
        ordering: facts.ordering,
    }
}
