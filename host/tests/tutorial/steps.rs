//! The steps of the tutorial, as whoever watches it sees them: through the two ports, and in what the consumers print.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::gateway::{Gateway, wait_until};

const PARTITIONS: [u32; 3] = [0, 1, 2];

/// The topic, by a name that no earlier run has left anything under.
pub(crate) fn topic() -> String {
    format!("my-topic-{}", std::process::id())
}

/// The group, likewise.
pub(crate) fn group_id() -> String {
    format!("my-topic-group-{}", std::process::id())
}

/// Who takes records in, and who handles them.
pub(crate) struct Stage<'a> {
    pub(crate) producer: &'a Gateway,
    pub(crate) consumers: &'a [&'a Gateway],
}

/// `GET /api/v1/groups/GROUP`, as far as the tutorial looks.
#[derive(Debug, Deserialize)]
struct Group {
    state: String,
    members: Vec<Reported>,
    partitions: Vec<Progress>,
}

#[derive(Debug, Deserialize)]
struct Reported {
    process: String,
    state: String,
    reason: Option<String>,
    partitions: Vec<Read>,
}

#[derive(Debug, Deserialize)]
struct Read {
    partition: u32,
}

#[derive(Debug, Deserialize)]
struct Progress {
    partition: u32,
    committed_offset: Option<u64>,
    lag: Option<u64>,
}

/// A member of the group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) process: String,
    pub(crate) partitions: Vec<u32>,
}

fn group(gateway: &Gateway) -> Result<Group, String> {
    let (status, body) = gateway.get(&format!("/api/v1/groups/{}", group_id()));
    let text = format!("{status} {body}");
    if status != 200 {
        return Err(format!("{text}\n{}", gateway.tail()));
    }
    serde_json::from_value(body).map_err(|error| format!("{error}: {text}"))
}

/// Who reads what now.
pub(crate) fn members(gateway: &Gateway) -> Vec<Member> {
    let group = wait_until("the group is shown", || group(gateway));
    let member = |reported: Reported| Member {
        process: reported.process,
        partitions: reported.partitions.iter().map(|read| read.partition).collect(),
    };
    group.members.into_iter().map(member).collect()
}

/// Four members on three partitions: three read one each, and the fourth says why it reads none.
pub(crate) fn three_are_active_and_one_says_why_not(gateway: &Gateway) {
    let idle = wait_until("three members are active and one is inactive", || {
        let group = group(gateway)?;
        settled(&group, 3, 1)?;
        Ok(group.members.into_iter().find(|member| member.state == "inactive"))
    });
    let reason = idle.and_then(|member| member.reason).expect("an inactive member has a reason");
    assert!(reason.contains("4 members, 3 partitions"), "{reason}");
}

/// After one was killed: the one that had nothing to do has taken over.
pub(crate) fn all_three_that_are_left_are_active(gateway: &Gateway) {
    wait_until("the three members that are left are active", || settled(&group(gateway)?, 3, 0));
}

fn settled(group: &Group, active: usize, inactive: usize) -> Result<(), String> {
    let are = |state: &str| group.members.iter().filter(|member| member.state == state).count();
    let reads: Vec<usize> = group
        .members
        .iter()
        .map(|member| member.partitions.len())
        .filter(|reads| *reads > 0)
        .collect();
    let as_wanted = group.state == "stable"
        && group.members.len() == active + inactive
        && (are("active"), are("inactive")) == (active, inactive)
        && reads == [1; 3];
    if as_wanted { Ok(()) } else { Err(format!("{group:#?}")) }
}

impl Stage<'_> {
    /// The first experiment. The client library may give a run of records without a key to one partition before it
    /// goes to the next, so how many it takes until each has had some is left open.
    pub(crate) fn records_without_key_are_spread_and_handled(&self) {
        let mut seen = BTreeSet::new();
        let mut values = Vec::new();
        wait_until("records without a key are spread over all partitions", || {
            let value = unique("spread");
            let sent = self.send(&json!({ "value": value }));
            assert_eq!(sent.selected_by, "none");
            assert_eq!(sent.key, Value::Null);
            values.push(value);
            seen.insert(sent.partition);
            if seen.iter().eq(&PARTITIONS) { Ok(()) } else { Err(format!("only {seen:?} so far")) }
        });
        self.are_handled(&values);
    }

    /// The second experiment: every record gets the same key, so one partition gets them all. Says which.
    pub(crate) fn with_a_fixed_key_one_member_does_all_the_work(&self) -> u32 {
        self.the_key_becomes("fixed");
        let before = self.committed();
        let values: Vec<String> = (0..30).map(|_| unique("fixed")).collect();
        let partitions: BTreeSet<u32> = values
            .iter()
            .map(|value| {
                let sent = self.send(&json!({ "value": value }));
                assert_eq!(sent.key, "fixed");
                assert!(sent.selected_by.starts_with("keys@"), "{}", sent.selected_by);
                sent.partition
            })
            .collect();
        let [hot] = partitions.iter().copied().collect::<Vec<_>>()[..] else {
            panic!("one key, and it went to the partitions {partitions:?}");
        };
        self.are_handled(&values);
        for (partition, committed) in self.committed() {
            assert_eq!(committed > before[&partition], partition == hot, "partition {partition}");
        }
        hot
    }

    /// The selector was replaced under the name it is configured by: nobody was restarted, and keys come from the value.
    pub(crate) fn with_a_key_from_the_value_the_load_is_spread_again(&self) {
        self.the_key_becomes("ada");
        let mut values = Vec::new();
        let users: Vec<String> = (0..30).map(|number| format!("user-{number}")).collect();
        let mut send_for_all = || -> Vec<u32> {
            let send = |user| {
                let text = unique("json");
                let sent = self.send(&json!({ "value": { "user": user, "text": text } }));
                values.push(text);
                sent.partition
            };
            users.iter().map(send).collect()
        };
        let first = send_for_all();
        assert_eq!(first, send_for_all(), "a user's records stay together");
        assert!(first.iter().copied().collect::<BTreeSet<_>>().iter().eq(&PARTITIONS), "{first:?}");
        self.are_handled(&values);
    }

    /// A configuration or a plugin was changed under the running producer: waits until that shows, and everything sent
    /// meanwhile is handled.
    fn the_key_becomes(&self, key: &str) {
        let mut values = Vec::new();
        wait_until("the new key selector decides", || {
            let text = unique("change");
            let sent = self.send(&json!({ "value": { "user": "ada", "text": text } }));
            values.push(text);
            if sent.key == key { Ok(()) } else { Err(format!("the key is {}", sent.key)) }
        });
        self.are_handled(&values);
    }

    fn send(&self, body: &Value) -> Sent {
        let (status, answer) = self.producer.send(body);
        assert_eq!(status, 200, "{answer}\n{}", self.producer.tail());
        serde_json::from_value(answer).expect("the answer of /send-message")
    }

    /// Each was printed by a consumer, and the group has committed past them.
    fn are_handled(&self, values: &[String]) {
        wait_until("every record that was sent is handled", || {
            let missing =
                |value: &&String| !self.consumers.iter().any(|consumer| consumer.said(value));
            match values.iter().find(missing) {
                Some(value) => Err(format!("{value} was not printed")),
                None => Ok(()),
            }
        });
        wait_until("the group has no lag", || {
            let group = group(self.consumers[0])?;
            let done = group.partitions.len() == PARTITIONS.len()
                && group.partitions.iter().all(|progress| progress.lag == Some(0));
            if done { Ok(()) } else { Err(format!("{:#?}", group.partitions)) }
        });
    }

    /// By partition, the offset that the group has committed.
    fn committed(&self) -> BTreeMap<u32, Option<u64>> {
        let group = wait_until("the group is shown", || group(self.consumers[0]));
        group
            .partitions
            .iter()
            .map(|progress| (progress.partition, progress.committed_offset))
            .collect()
    }
}

/// The answer of `POST /send-message`.
#[derive(Debug, Deserialize)]
struct Sent {
    partition: u32,
    key: Value,
    selected_by: String,
}

/// A value that nothing else sends or prints.
fn unique(what: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{what}-{}-{};", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
