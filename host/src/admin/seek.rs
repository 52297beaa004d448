//! Moving a group to other offsets: which, whether it may be done, and by whom. Used by the route, and by the command
//! line where no gateway runs.
//!
//! A group without members is moved by committing in its name. Where it has members, those of this process can be
//! moved: when they are paused, or when the operator insists. Members elsewhere are left alone: only their own process
//! can tell what they have in flight.
//!
//! Invariant: all that was asked for is looked at before anything is moved.

mod target;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use target::Target;

use super::{
    Local, SteerError,
    snapshot::{self, View},
};
use crate::{
    broker::{
        Broker, BrokerError, Committed, GroupInfo, GroupState, OffsetCommit, TopicInfo,
        process_name,
    },
    dispatch::note_seek,
    record::TopicPartition,
};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Where to.
    pub to: Target,
    /// Not given: every topic of the group.
    pub topic: Option<String>,
    /// Not given: every partition.
    pub partitions: Option<Vec<u32>>,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Move members that are reading, too.
    #[serde(default)]
    pub force: bool,
}

/// What was moved, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sought {
    /// The group.
    pub group: String,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// By topic and number.
    pub partitions: Vec<Move>,
}

/// One partition's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// What was committed; `null`: nothing.
    pub from: Option<u64>,
    /// What is committed now.
    pub to: u64,
    /// The offset that the next record will get.
    pub end_offset: u64,
}

/// Why a group was not moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What is asked for does not exist.
    #[error("{0}")]
    Wrong(String),
    /// Members read it.
    #[error("the group is being read: {}; {remedy}", .readers.join(", "))]
    Active {
        /// Partition and member, in words.
        readers: Vec<String>,
        /// What would do.
        remedy: String,
    },
    /// The broker did not answer, or refused.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// This process's members were not moved.
    #[error(transparent)]
    Steer(#[from] SteerError),
}

/// Moves a group, or tells what that would do. `local` is the process whose members can be moved, where there is one.
///
/// # Errors
/// See [`Refusal`]. Nothing was moved but where a [`SteerError::Failed`] says so.
pub async fn seek(
    broker: &dyn Broker,
    view: &View,
    local: Option<&dyn Local>,
    id: &str,
    request: &Request,
) -> Result<Sought, Refusal> {
    let info = group_info(broker, view, id).await?;
    let mut moves = Vec::new();
    for topic in topics(&info, view, request)? {
        moves.extend(moves_of(broker, &info, &broker.topic(&topic).await?, request).await?);
    }
    // Kafka does not describe every kind of group; of this process's members it need not.
    let reads_here = view.groups.iter().any(|status| {
        *status.id == *id && status.members.iter().any(|member| !member.partitions.is_empty())
    });
    let by_members = reads_here || !info.members.is_empty();
    if by_members {
        may_move(&info, &moves, view, local.is_some(), request.force)?;
    }
    if !request.dry_run {
        match local {
            Some(local) if by_members => {
                let offsets = moves.iter().map(|it| (it.partition(), it.to));
                local.seek(id, offsets.collect::<BTreeMap<_, _>>()).await?;
            }
            _ => {
                broker.set_committed(id, moves.iter().map(Move::commit).collect()).await?;
                let moved = moves.iter().map(|it| (it.partition(), it.to));
                note_seek(broker, id, &moved.collect::<Vec<_>>()).await?;
            }
        }
        tracing::info!(group = id, to = %request.to, partitions = moves.len(), "A group was moved.");
    }
    Ok(Sought { group: id.to_owned(), dry_run: request.dry_run, partitions: moves })
}

/// The broker's word on the group. One that is configured and has not run yet is empty.
async fn group_info(broker: &dyn Broker, view: &View, id: &str) -> Result<GroupInfo, BrokerError> {
    let configured = view.config.groups.iter().any(|group| &*group.id == id);
    match broker.group(id).await {
        Err(BrokerError::UnknownGroup(_)) if configured => Ok(GroupInfo {
            id: id.to_owned(),
            state: GroupState::Empty,
            members: Vec::new(),
            committed: Vec::new(),
        }),
        answer => answer,
    }
}

fn topics(info: &GroupInfo, view: &View, request: &Request) -> Result<Vec<String>, Refusal> {
    let of_group = snapshot::topics_of(info, view);
    match &request.topic {
        Some(topic) if of_group.is_empty() || of_group.contains(topic) => Ok(vec![topic.clone()]),
        Some(topic) => {
            let reads: Vec<_> = of_group.into_iter().collect();
            Err(Refusal::Wrong(format!(
                "group {:?} reads {}, not {topic:?}",
                info.id,
                reads.join(", ")
            )))
        }
        None if request.partitions.is_some() && of_group.len() > 1 => {
            let reads: Vec<_> = of_group.into_iter().collect();
            let reads = reads.join(", ");
            Err(Refusal::Wrong(format!("of which topic? group {:?} reads {reads}", info.id)))
        }
        None => Ok(of_group.into_iter().collect()),
    }
}

async fn moves_of(
    broker: &dyn Broker,
    info: &GroupInfo,
    topic: &TopicInfo,
    request: &Request,
) -> Result<Vec<Move>, Refusal> {
    let count = topic.partitions.len() as u32;
    let numbers = request.partitions.clone().unwrap_or_else(|| (0..count).collect());
    if let Some(number) = numbers.iter().find(|number| **number >= count) {
        let detail = format!("{} has {count} partitions, from 0, and no {number}", topic.name);
        return Err(Refusal::Wrong(detail));
    }
    let since = match request.to {
        Target::Time(timestamp) => broker.offsets_at(&topic.name, timestamp).await?,
        _ => Vec::new(),
    };
    let moved = |number: u32| {
        let ends = topic.partitions[number as usize];
        let at = TopicPartition::new(topic.name.clone(), number);
        let to = match request.to {
            Target::Beginning => ends.beginning,
            Target::End => ends.end,
            Target::Offset(offset) if (ends.beginning..=ends.end).contains(&offset) => offset,
            Target::Offset(offset) => {
                let detail = format!(
                    "{at} goes from offset {} to its end at {}, and has no {offset}",
                    ends.beginning, ends.end
                );
                return Err(Refusal::Wrong(detail));
            }
            Target::Time(_) => since.get(number as usize).copied().unwrap_or(ends.end),
        };
        let committed = info.committed.iter().find(|(partition, _)| *partition == at);
        Ok(Move {
            topic: topic.name.to_string(),
            partition: number,
            from: committed.map(|(_, committed)| committed.offset),
            to,
            end_offset: ends.end,
        })
    };
    numbers.into_iter().map(moved).collect()
}

/// Whether the members of a group that has some let it be moved.
fn may_move(
    info: &GroupInfo,
    moves: &[Move],
    view: &View,
    has_process: bool,
    force: bool,
) -> Result<(), Refusal> {
    let here = view.groups.iter().find(|status| *status.id == *info.id).filter(|_| has_process);
    let (mut active, mut elsewhere, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for at in moves.iter().map(Move::partition) {
        let reads_here = here.is_some_and(|status| {
            status.members.iter().flat_map(|member| &member.partitions).any(|it| it.partition == at)
        });
        let paused = here.is_some_and(|status| status.pauses.of(&at).is_some());
        let member = info.members.iter().find(|member| member.partitions.contains(&at));
        match member {
            _ if reads_here && (paused || force) => {}
            Some(member) => {
                let words = format!("{at} by {} of {}", member.id, member.process);
                if reads_here { &mut active } else { &mut elsewhere }.push(words);
            }
            None if reads_here => active.push(format!("{at} by a member of {}", process_name())),
            None => unread.push(at.to_string()),
        }
    }
    let id = &info.id;
    let pause = format!(
        "pause it (`keyway groups pause {id}`) and try again, or give --force to move it as it runs"
    );
    let remedy = match (active.is_empty(), elsewhere.is_empty()) {
        (true, true) if unread.is_empty() => return Ok(()),
        (true, true) => {
            return Err(Refusal::Steer(SteerError::Conflict(format!(
                "the group has members, and no one reads {} now; try again when they have settled, or end them",
                unread.join(", ")
            ))));
        }
        (false, true) => pause,
        (_, false) => {
            "end those processes, or ask theirs with --admin: a gateway moves its own members, one \
                       partition after the other with --partition"
                .to_owned()
        }
    };
    active.extend(elsewhere);
    Err(Refusal::Active { readers: active, remedy })
}

impl Move {
    fn partition(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }

    fn commit(&self) -> OffsetCommit {
        let committed = Committed { offset: self.to, metadata: String::new() };
        OffsetCommit { partition: self.partition(), committed }
    }
}
