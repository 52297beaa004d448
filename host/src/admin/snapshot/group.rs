//! Groups: who reads what, how far it got, and who has nothing to read.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{Idle, Pause, PausedPart, Payload, PluginGeneration, View, pause};
use crate::{
    broker::{GroupInfo, GroupMember, GroupState, TopicInfo},
    config::{self, Delivery, Ordering},
    dispatch::{self, GroupStatus, MemberStatus, PartitionStatus, Pauses},
    record,
};

/// Keys that are shown as those of which the most records wait.
const HOTTEST: usize = 5;

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    pub id: String,
    /// `stable`, `rebalancing`, `empty` or `dead`.
    pub state: String,
    /// The topics it reads: as configured here, else as seen from its members and committed offsets.
    pub topics: Vec<String>,
    /// `partition`, `key` or `none`; `null` when the group is not configured here.
    pub ordering: Option<String>,
    /// `at-least-once`; `null` when the group is not configured here.
    pub delivery: Option<String>,
    /// What handles its records; `null` when the group is not configured here.
    pub handler: Option<PluginGeneration>,
    /// Its members, of any process and any client.
    pub members: Vec<Member>,
    /// Its partitions, by topic and number.
    pub partitions: Vec<GroupPartition>,
    /// What this process did for it; `null` when it runs no member of it.
    pub this_process: Option<ThisProcess>,
}

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

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
}

/// How far a group got with a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The id of the member that reads it; `null` when none does.
    pub member: Option<String>,
    /// The offset that the next record will get; `null` when the topic is gone.
    pub end_offset: Option<u64>,
    /// The offset of the next record to handle; `null` before the first commit.
    pub committed_offset: Option<u64>,
    /// Records from the committed offset (from the oldest, where none is committed) to the end.
    pub lag: Option<u64>,
    /// Milliseconds since the oldest record was written that a member of this process has read and not finished, by the
    /// record's timestamp; `null` when there is none, or it carries none.
    #[serde(default)] // not in the answers of older gateways, as what is so marked below
    pub lag_ms: Option<u64>,
    /// Records in the handler's hands; `null` when no member of this process reads it.
    pub in_flight: Option<usize>,
    /// Records read that wait for the handler; `null` when no member of this process reads it.
    pub waiting: Option<usize>,
    /// Lanes that these records are in; `null` when no member of this process reads it.
    #[serde(default)]
    pub lanes: Option<usize>,
    /// Of them, those that wait for another attempt; `null` when no member of this process reads it.
    #[serde(default)]
    pub deferred: Option<usize>,
    /// The generation that handled its last record here.
    pub generation: Option<String>,
    /// Why it stands still by the policy `stop`.
    pub stopped: Option<String>,
    /// Set where an operator holds it back; `null` when no member of this process reads it.
    pub paused: Option<Pause>,
    /// What is parked of it; `null` when no member of this process reads it.
    #[serde(default)]
    pub parked: Option<Parked>,
}

/// What is parked of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Lanes.
    pub lanes: usize,
    /// Records in them.
    pub records: usize,
}

/// A key of which records wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotKey {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The key.
    pub key: Payload,
    /// Its records that wait for the handler.
    pub waiting: usize,
}

/// What this process does for a group, and did since it started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThisProcess {
    /// Whether an operator has paused all of it here.
    pub paused: bool,
    /// What operators have paused of it here.
    pub pauses: Vec<PausedPart>,
    /// What is wrong with the handler, where it fails every call and records wait; else `null`.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Records handled.
    pub handled: u64,
    /// Attempts that failed and were put off.
    pub retried: u64,
    /// Records written to the dead-letter topic.
    pub dead_lettered: u64,
    /// Records parked.
    #[serde(default)]
    pub parked: u64,
    /// Records dropped by policy.
    pub dropped: u64,
    /// Records in the handler's hands now.
    #[serde(default)]
    pub in_flight: usize,
    /// Records read that wait for the handler now.
    #[serde(default)]
    pub waiting: usize,
    /// Lanes that these records are in.
    #[serde(default)]
    pub lanes: usize,
    /// Of them, those that wait for another attempt.
    #[serde(default)]
    pub deferred: usize,
    /// What is parked now.
    #[serde(default)]
    pub parked_now: Parked,
    /// The keys of which the most records wait, at most five, most first. Empty where not the key says what is handled
    /// in order.
    #[serde(default)]
    pub hottest: Vec<HotKey>,
}

/// The topics whose offsets [`group`] wants: those configured, and those the group is seen to read or to have read.
pub fn topics_of(info: &GroupInfo, view: &View) -> BTreeSet<String> {
    let configured = view.group_config(&info.id).map_or(&[][..], |group| &group.topics);
    let read = info.members.iter().flat_map(|member| &member.partitions);
    let committed = info.committed.iter().map(|(partition, _)| partition);
    let seen = read.chain(committed).map(|partition| &partition.topic);
    configured.iter().chain(seen).map(|topic| topic.to_string()).collect()
}

/// A group. `topics` may hold more than [`topics_of`] says; one that is missing does not exist. `process` is this
/// process, as [`crate::broker::process_name`] says.
pub fn group(info: &GroupInfo, topics: &[TopicInfo], view: &View, process: &str) -> Group {
    let config = view.group_config(&info.id);
    let status = view.group_status(&info.id);
    let facts = Facts::gather(info, topics, view, config);
    let mut members = members(info, status, process);
    explain(&mut members, &facts);
    Group {
        id: info.id.clone(),
        state: info.state.to_string(),
        topics: facts.topics.iter().map(|(topic, _)| topic.clone()).collect(),
        ordering: facts.ordering.map(|ordering| ordering_name(ordering).to_owned()),
        delivery: config.map(|group| delivery_name(group.delivery).to_owned()),
        handler: config.map(|group| view.plugin_generation(&group.handler.plugin)),
        partitions: partitions(info, topics, &facts, (status, view.taken), &members),
        members,
        this_process: status.map(this_process),
    }
}

fn this_process(status: &GroupStatus) -> ThisProcess {
    let partitions = || status.members.iter().flat_map(|member| &member.partitions);
    let sum = |read: fn(&PartitionStatus) -> usize| partitions().map(read).sum();
    let mut hottest: Vec<_> = status.members.iter().flat_map(|member| &member.hottest).collect();
    hottest.sort_by(|a, b| {
        b.waiting.cmp(&a.waiting).then_with(|| (&a.partition, &a.key).cmp(&(&b.partition, &b.key)))
    });
    ThisProcess {
        paused: status.pauses.whole().is_some(),
        pauses: pause::parts(&status.pauses),
        trouble: status.trouble.clone(),
        handled: status.handled,
        retried: status.retried,
        dead_lettered: status.dead_lettered,
        parked: status.parked,
        dropped: status.dropped,
        in_flight: sum(|partition| partition.in_flight),
        waiting: sum(|partition| partition.waiting),
        lanes: sum(|partition| partition.lanes),
        deferred: sum(|partition| partition.deferred),
        parked_now: Parked {
            lanes: sum(|partition| partition.parked_lanes),
            records: sum(|partition| partition.parked_records),
        },
        hottest: hottest.into_iter().take(HOTTEST).map(hot_key).collect(),
    }
}

fn hot_key(hot: &dispatch::HotKey) -> HotKey {
    HotKey {
        topic: hot.partition.topic.to_string(),
        partition: hot.partition.partition,
        key: Payload::from(&hot.key),
        waiting: hot.waiting,
    }
}

/// What the reasons are made of.
struct Facts {
    /// What its members can read, with the number of partitions; 0: there is no such topic.
    topics: Vec<(String, usize)>,
    ordering: Option<Ordering>,
}

impl Facts {
    fn gather(
        info: &GroupInfo,
        topics: &[TopicInfo],
        view: &View,
        config: Option<&config::Group>,
    ) -> Self {
        let names: Vec<String> = match config {
            Some(group) => group.topics.iter().map(|topic| topic.to_string()).collect(),
            None => topics_of(info, view).into_iter().collect(),
        };
        let sized = |name: String| {
            let found = topics.iter().find(|topic| *topic.name == *name);
            (name, found.map_or(0, |topic| topic.partitions.len()))
        };
        Self {
            topics: names.into_iter().map(sized).collect(),
            ordering: config.map(|group| group.ordering),
        }
    }

    fn covers(&self, partition: &TopicPartition) -> bool {
        self.topics.iter().any(|(topic, _)| *topic == partition.topic)
    }
}

/// The broker's members, those of this process as they see themselves, and after them those of this process that the
/// broker does not know (yet). In the same order each time, since people call them by their number. Members that wait
/// for a partition are still to be told why.
fn members(info: &GroupInfo, status: Option<&GroupStatus>, process: &str) -> Vec<Member> {
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

fn partitions(
    info: &GroupInfo,
    topics: &[TopicInfo],
    facts: &Facts,
    (status, taken): (Option<&GroupStatus>, SystemTime),
    members: &[Member],
) -> Vec<GroupPartition> {
    let mut rows: BTreeMap<record::TopicPartition, GroupPartition> = BTreeMap::new();
    for topic in topics.iter().filter(|topic| topics_matter(topic, info, facts)) {
        for number in 0..topic.partitions.len() as u32 {
            let partition = record::TopicPartition::new(topic.name.clone(), number);
            rows.insert(partition.clone(), empty_row(&partition));
        }
    }
    for (partition, committed) in &info.committed {
        row(&mut rows, partition).committed_offset = Some(committed.offset);
    }
    for member in members {
        for TopicPartition { topic, partition } in &member.partitions {
            let partition = record::TopicPartition::new(topic.as_str(), *partition);
            row(&mut rows, &partition).member = member.id.clone();
        }
    }
    for (group, shown) in status.into_iter().flat_map(|group| {
        let members = group.members.iter();
        members.flat_map(|member| &member.partitions).map(move |shown| (group, shown))
    }) {
        let row = row(&mut rows, &shown.partition);
        add_status(row, shown, taken);
        row.paused = group.pauses.of(&shown.partition).map(Pause::of);
    }
    let offsets: HashMap<&str, &TopicInfo> =
        topics.iter().map(|topic| (&*topic.name, topic)).collect();
    for (partition, row) in &mut rows {
        let topic = offsets.get(&*partition.topic);
        let Some(ends) = topic.and_then(|topic| topic.partitions.get(partition.partition as usize))
        else {
            continue;
        };
        row.end_offset = Some(ends.end);
        let from = row.committed_offset.unwrap_or(ends.beginning);
        row.lag = Some(ends.end.saturating_sub(from));
    }
    rows.into_values().collect()
}

/// Whether all partitions of a topic are shown, those without a reader too.
fn topics_matter(topic: &TopicInfo, info: &GroupInfo, facts: &Facts) -> bool {
    facts.topics.iter().any(|(name, _)| **name == *topic.name)
        || info.committed.iter().any(|(partition, _)| partition.topic == topic.name)
}

fn row<'a>(
    rows: &'a mut BTreeMap<record::TopicPartition, GroupPartition>,
    partition: &record::TopicPartition,
) -> &'a mut GroupPartition {
    rows.entry(partition.clone()).or_insert_with(|| empty_row(partition))
}

fn empty_row(partition: &record::TopicPartition) -> GroupPartition {
    GroupPartition {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        member: None,
        end_offset: None,
        committed_offset: None,
        lag: None,
        lag_ms: None,
        in_flight: None,
        waiting: None,
        lanes: None,
        deferred: None,
        generation: None,
        stopped: None,
        paused: None,
        parked: None,
    }
}

fn add_status(row: &mut GroupPartition, status: &PartitionStatus, taken: SystemTime) {
    row.lag_ms = status.age(taken);
    row.lanes = Some(status.lanes);
    row.deferred = Some(status.deferred);
    row.in_flight = Some(status.in_flight);
    row.waiting = Some(status.waiting);
    row.generation = status.generation.as_ref().map(|generation| generation.short());
    row.stopped = status.stopped.clone();
    row.parked = Some(Parked { lanes: status.parked_lanes, records: status.parked_records });
    // The broker was asked a moment before or after; an offset that this process has committed is not taken back.
    row.committed_offset = row.committed_offset.max(status.committed);
}

fn shown(partition: &record::TopicPartition) -> TopicPartition {
    TopicPartition { topic: partition.topic.to_string(), partition: partition.partition }
}

fn delivery_name(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::AtLeastOnce => "at-least-once",
        Delivery::ExactlyOnce => "exactly-once",
    }
}

fn ordering_name(ordering: Ordering) -> &'static str {
    match ordering {
        Ordering::Partition => "partition",
        Ordering::Key => "key",
        Ordering::None => "none",
    }
}
