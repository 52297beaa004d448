//! How a group is shown: from the broker's word alone, and with what only this process knows.

use super::{super::example, *};
use crate::{
    broker::Committed,
    dispatch::{self, Pauses},
};

fn shown_group() -> Group {
    group(&example::group_info(), &[example::my_topic()], &example::view(), "here:1")
}

#[test]
fn a_group_has_the_shape_that_the_interface_promises() {
    let group = serde_json::to_value(shown_group()).unwrap();
    assert_eq!(group["id"], "my-topic-group-1");
    assert_eq!(group["state"], "stable");
    assert_eq!(group["topics"], serde_json::json!(["my-topic"]));
    assert_eq!(group["ordering"], "partition");
    assert_eq!(group["delivery"], "at-least-once");
    assert_eq!(
        group["handler"],
        serde_json::json!({"plugin": "print", "generation": "0a0a0a0a0a0a"})
    );
    assert_eq!(
        group["members"][0],
        serde_json::json!({
            "id": "m-0", "process": "here:1", "state": "active", "reason": null, "trouble": null,
            "partitions": [{"topic": "my-topic", "partition": 0}],
        })
    );
    assert_eq!(
        group["partitions"][0],
        serde_json::json!({
            "topic": "my-topic", "partition": 0, "member": "m-0", "end_offset": 42,
            "committed_offset": 40, "lag": 2, "lag_ms": 1500, "in_flight": 1, "waiting": 1,
            "lanes": 2, "deferred": 1,
            "generation": "0a0a0a0a0a0a", "stopped": null, "paused": null,
            "parked": {"lanes": 1, "records": 3},
        })
    );
}

#[test]
fn a_process_says_how_its_lanes_do_and_which_keys_wait_the_most() {
    let mut view = example::view();
    let hot = |key: &str, waiting| dispatch::HotKey {
        partition: record::TopicPartition::new("my-topic", 1),
        key: key.to_owned().into(),
        waiting,
    };
    view.groups[0].members[1].hottest = ["a", "b", "c", "d", "e"].map(|key| hot(key, 7)).into();
    let group = group(&example::group_info(), &[example::my_topic()], &view, "here:1");
    let here = group.this_process.unwrap();
    assert_eq!((here.in_flight, here.waiting, here.lanes, here.deferred), (1, 1, 2, 1));
    assert_eq!(here.parked_now, Parked { lanes: 1, records: 3 });
    assert_eq!(here.hottest.len(), 5);
    assert_eq!(
        serde_json::to_value(&here.hottest[0]).unwrap(),
        serde_json::json!({"topic": "my-topic", "partition": 1, "key": "a", "waiting": 7})
    );
}

#[test]
fn a_record_from_a_clock_that_is_ahead_is_not_older_than_now() {
    let mut view = example::view();
    view.groups[0].members[0].partitions[0].oldest = Some(60_000);
    let group = group(&example::group_info(), &[example::my_topic()], &view, "here:1");
    assert_eq!(group.partitions[0].lag_ms, Some(0));
}

#[test]
fn the_lag_of_a_partition_without_a_committed_offset_counts_from_its_oldest_record() {
    let partition = &shown_group().partitions[1];
    assert_eq!((partition.committed_offset, partition.lag), (None, Some(2)));
}

#[test]
fn a_member_of_another_process_is_shown_with_what_the_broker_knows() {
    let member = &shown_group().members[3];
    assert_eq!((member.process.as_str(), member.state), ("there:2", MemberState::Active));
    assert_eq!(shown_group().partitions[2].in_flight, None);
}

#[test]
fn a_member_without_a_partition_is_inactive_and_says_why() {
    let member = &shown_group().members[2];
    assert_eq!(member.state, MemberState::Inactive);
    let reason = member.reason.as_deref().unwrap();
    assert!(reason.starts_with("4 members, 3 partitions: "), "{reason}");
}

#[test]
fn members_are_numbered_by_process_as_they_were_started_and_then_in_their_processs_order() {
    let mut info = example::group_info();
    for (member, (id, process)) in info.members.iter_mut().zip([
        ("m-1", "here:10"),
        ("m-0", "here:10"),
        ("a", "here:9"),
        ("b", "another client"),
    ]) {
        (member.id, member.process) = (id.into(), process.into());
    }
    let mut view = example::view();
    view.groups[0].members.swap(0, 1);
    let group = group(&info, &[example::my_topic()], &view, "here:10");
    let ids: Vec<_> = group.members.iter().filter_map(|member| member.id.as_deref()).collect();
    assert_eq!(ids, ["b", "a", "m-1", "m-0", "m-2"]);
}

#[test]
fn a_member_that_reads_and_one_that_waits_each_say_so() {
    let group = shown_group();
    assert_eq!(group.members[0].standing(), "reads my-topic/0");
    let waits = group.members[2].standing();
    assert!(waits.starts_with("has nothing to read: 4 members, 3 partitions: "), "{waits}");
}

#[test]
fn a_paused_group_pauses_its_readers_of_this_process_only() {
    let mut view = example::view();
    let pause = dispatch::Pause { since: std::time::UNIX_EPOCH, by: Some("ada".into()) };
    let mut pauses = Pauses::default();
    pauses.pause(&dispatch::Scope::Group, &pause);
    view.groups[0].pauses = pauses.into();
    let group = group(&example::group_info(), &[example::my_topic()], &view, "here:1");
    let states: Vec<_> = group.members.iter().map(|member| member.state).collect();
    use MemberState::{Active, Inactive, Paused};
    assert_eq!(states, [Paused, Paused, Inactive, Active]);
    let reason = group.members[0].reason.as_deref().unwrap();
    assert!(reason.ends_with("since 1970-01-01T00:00:00.000Z by ada."), "{reason}");
}

#[test]
fn a_member_that_failed_says_so_and_does_not_count_as_one_that_waits() {
    let mut view = example::view();
    let failed = &mut view.groups[0].members[1];
    failed.state = dispatch::MemberState::Failed;
    failed.trouble = Some("the broker refused it".into());
    failed.partitions.clear();
    let group = group(&example::group_info(), &[example::my_topic()], &view, "here:1");
    let reason = |index: usize| group.members[index].reason.as_deref().unwrap();
    assert!(reason(1).ends_with("the broker refused it"), "{}", reason(1));
    assert!(reason(2).starts_with("3 members, 3 partitions: 1 has no reader"), "{}", reason(2));
}

#[test]
fn without_a_process_the_broker_alone_is_enough() {
    let view = View::idle(example::view().config);
    let group = group(&example::group_info(), &[example::my_topic()], &view, "here:1");
    assert_eq!(group.this_process, None);
    assert_eq!(group.members.len(), 4);
    assert_eq!(group.members[2].state, MemberState::Inactive);
    assert_eq!(group.handler.unwrap().generation, None);
}

#[test]
fn a_group_of_another_client_is_shown_by_what_it_is_seen_to_read() {
    let mut info = example::group_info();
    info.id = "somebody-elses".into();
    let gone = record::TopicPartition::new("gone", 0);
    info.committed.push((gone, Committed { offset: 3, metadata: String::new() }));
    let group = group(&info, &[example::my_topic()], &example::view(), "here:1");
    assert_eq!(group.topics, ["gone", "my-topic"]);
    assert_eq!((group.ordering, group.handler), (None, None));
    assert_eq!(group.partitions[0].topic, "gone");
    assert_eq!((group.partitions[0].committed_offset, group.partitions[0].lag), (Some(3), None));
}
