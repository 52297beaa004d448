//! Pausing, resuming and moving a group, as an operator does it: with the command line, on a gateway that runs and on
//! one that does not.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Gateway, directory, done, group, kafka, said, send, start, topic, wait_for_lag_of_zero,
    wait_until, without_gateway,
};

const PRINT: &str = "{ plugin = \"print\" }";

/// A group that reads a topic of two partitions.
fn two_partitions() -> TempDir {
    let topic = "[[topics]]\nname = \"a\"\npartitions = 2\n".to_owned();
    directory(&[topic, group("g", "a", PRINT, "")])
}

fn send_to(gateway: &Gateway, partition: u32, value: &str) {
    let record = json!({"topic": "a", "partition": partition, "value": value});
    let (status, answer) = gateway.send(&record);
    assert_eq!(status, 200, "{answer}");
}

fn shown(gateway: &Gateway) -> Value {
    gateway.get("/api/v1/groups/g").1
}

fn wait_for_member(gateway: &Gateway, state: &str) {
    wait_until(&format!("its member is {state}"), || {
        let shown = shown(gateway);
        if shown["members"][0]["state"] == state { Ok(()) } else { Err(shown.to_string()) }
    });
}

#[test]
fn a_paused_group_takes_nothing_in_until_it_is_resumed() {
    let directory = directory(&[topic("a"), group("g", "a", PRINT, "")]);
    let gateway = start(&directory);
    assert_eq!(gateway.post("/api/v1/groups/g/pause").0, 200);
    wait_for_member(&gateway, "paused");
    send(&gateway, "a", json!("waits"));
    assert_eq!(shown(&gateway)["partitions"][0]["lag"], 1);
    assert_eq!(gateway.post("/api/v1/groups/g/resume").0, 200);
    wait_until("the record is handled", || said(&gateway, "waits"));
}

#[test]
fn a_partition_that_was_paused_is_paused_after_a_power_cut_too_and_loses_nothing() {
    let directory = two_partitions();
    let gateway = start(&directory);
    send_to(&gateway, 0, "zero");
    wait_for_lag_of_zero(&gateway, "g");
    let text =
        done(&gateway, &directory, &["groups", "pause", "g", "--partition", "0", "--by", "ada"]);
    assert!(text.contains("g: a/0 is paused, since ") && text.contains(" by ada"), "{text}");
    send_to(&gateway, 0, "waits");
    send_to(&gateway, 1, "one");
    wait_until("the other partition goes on", || said(&gateway, "a/1@0"));
    gateway.kill();

    let gateway = start(&directory);
    wait_until("it says that it begins paused", || said(&gateway, "A group begins paused"));
    send_to(&gateway, 1, "two");
    wait_until("the other partition goes on", || said(&gateway, "a/1@1"));
    let now = shown(&gateway);
    assert_eq!(now["partitions"][0]["paused"]["by"], "ada", "{now}");
    assert_eq!(
        (&now["partitions"][0]["lag"], &now["partitions"][1]["paused"]),
        (&json!(1), &Value::Null)
    );
    let text = done(&gateway, &directory, &["groups", "g"]);
    assert!(text.contains("a/0 is paused since ") && text.contains(" by ada"), "{text}");
    assert!(!gateway.said("a/0@1"), "{}", gateway.tail());
    let text = done(&gateway, &directory, &["groups", "resume", "g", "--topic", "a"]);
    assert_eq!(text, "g: nothing is paused\n");
    wait_until("what waited is handled", || said(&gateway, "a/0@1"));
    assert!(!gateway.said("a/0@0"), "what was committed is not handled again");
}

#[test]
fn a_group_is_moved_while_it_is_paused_and_begins_there_after_a_restart() {
    let directory = directory(&[topic("a"), group("g", "a", PRINT, "")]);
    let gateway = start(&directory);
    (0..10).for_each(|number| send(&gateway, "a", json!(number)));
    wait_for_lag_of_zero(&gateway, "g");
    let seek = ["groups", "seek", "g", "--to", "7"];
    let (code, text) = gateway.command(directory.path(), &seek);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("a/0 by ") && text.contains("keyway groups pause g"), "{text}");
    let text =
        done(&gateway, &directory, &["groups", "seek", "g", "--to", "7", "--dry-run", "--force"]);
    assert!(text.starts_with("g: 1 partition would be moved\n"), "{text}");
    assert_eq!(shown(&gateway)["partitions"][0]["committed_offset"], 10);

    done(&gateway, &directory, &["groups", "pause", "g"]);
    let text = done(&gateway, &directory, &seek);
    assert!(text.contains("a/0          10   7   10          3"), "{text}");
    wait_until("the new offset is shown", || {
        let now = shown(&gateway);
        let row = &now["partitions"][0];
        let moved = row["committed_offset"] == 7 && row["lag"] == 3;
        if moved { Ok(()) } else { Err(now.to_string()) }
    });
    gateway.kill();
    let gateway = start(&directory);
    done(&gateway, &directory, &["groups", "resume", "g"]);
    wait_for_lag_of_zero(&gateway, "g");
    assert!(gateway.said("a/0@7") && gateway.said("a/0@9"), "{}", gateway.tail());
    assert!(!gateway.said("a/0@6"), "{}", gateway.tail());
}

#[test]
fn a_group_that_reads_is_moved_by_force_and_goes_on_there() {
    let directory = two_partitions();
    let gateway = start(&directory);
    for number in 0..10 {
        send_to(&gateway, number % 2, "again");
    }
    wait_for_lag_of_zero(&gateway, "g");
    let handled = |gateway: &Gateway| shown(gateway)["this_process"]["handled"].clone();
    assert_eq!(handled(&gateway), 10);
    done(&gateway, &directory, &["groups", "seek", "g", "--to", "1h ago", "--force"]);
    wait_until("all are handled again", || {
        if handled(&gateway) == 20 { Ok(()) } else { Err(shown(&gateway).to_string()) }
    });
    done(&gateway, &directory, &["groups", "seek", "g", "--to", "3", "-p", "1", "--force"]);
    wait_until("two of one partition are", || {
        if handled(&gateway) == 22 { Ok(()) } else { Err(shown(&gateway).to_string()) }
    });
    wait_for_lag_of_zero(&gateway, "g");
}

#[test]
fn a_log_that_no_gateway_has_open_is_moved_directly_and_one_that_is_open_is_not() {
    let directory = directory(&[topic("a"), group("g", "a", PRINT, "")]);
    let gateway = start(&directory);
    (0..5).for_each(|number| send(&gateway, "a", json!(number)));
    wait_for_lag_of_zero(&gateway, "g");
    let seek = ["groups", "seek", "g", "--to", "beginning"];
    let (code, text) = without_gateway(directory.path(), &seek, &[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&gateway.id().to_string()), "it names who has it: {text}");
    assert_eq!(gateway.terminate().code(), Some(0));
    let (code, text) = without_gateway(directory.path(), &seek, &[]);
    assert_eq!(code, 0, "{text}");
    let gateway = start(&directory);
    wait_for_lag_of_zero(&gateway, "g");
    assert!(gateway.said("a/0@0") && gateway.said("a/0@4"), "{}", gateway.tail());
}

#[test]
fn a_lane_that_waits_is_shown_with_its_age_and_its_key_and_the_metrics_have_no_keys() {
    let flaky = "{ plugin = \"flaky\" }";
    let directory = directory(&[topic("a"), group("g", "a", flaky, "ordering = \"key\"")]);
    let gateway = start(&directory);
    let later = json!({"do": "retry", "reason": "later", "after": 3_600_000});
    for value in [&later, &json!({}), &json!({})] {
        let record = json!({"topic": "a", "key": "ada", "value": value, "timestamp": 1000});
        assert_eq!(gateway.send(&record).0, 200);
    }
    let shown = wait_until("its lane waits", || {
        let shown = shown(&gateway);
        let hot = &shown["this_process"]["hottest"][0];
        if hot["waiting"] == 3 && hot["key"] == "ada" { Ok(shown) } else { Err(shown.to_string()) }
    });
    let row = &shown["partitions"][0];
    assert_eq!((&row["lanes"], &row["deferred"], &row["lag"]), (&json!(1), &json!(1), &json!(3)));
    assert!(row["lag_ms"].as_u64().is_some_and(|age| age > 1_000_000_000), "since 1970: {row}");
    let text = done(&gateway, &directory, &["groups", "g"]);
    assert!(
        text.contains("HOTTEST KEY  PARTITION  WAITING\n  ada          a/0              3"),
        "{text}"
    );
    let (_, metrics) = gateway.get("/metrics");
    let metrics = metrics.as_str().expect("it is text");
    assert!(metrics.contains("keyway_group_lag_seconds{group=\"g\""), "{metrics}");
    assert!(!metrics.contains("ada"), "{metrics}");
}

#[test]
fn on_kafka_two_processes_of_a_directory_pause_together_and_a_group_without_members_is_moved_directly()
 {
    let Some(servers) = kafka::shared(kafka::Kind::Kraft) else { return };
    let name = format!("a-{}", fastrand::u32(..));
    let topic = format!("[[topics]]\nname = \"{name}\"\npartitions = 2\n");
    let directory = directory(&[topic, group(&name, &name, PRINT, "")]);
    let environment = [("KAFKA_BOOTSTRAP_SERVERS", servers)];
    let run = || Gateway::start(directory.path(), &["run"], &environment);
    let (first, second) = (run(), run());
    let group = |gateway: &Gateway| gateway.get(&format!("/api/v1/groups/{name}")).1;
    let states = |gateway: &Gateway, state: &str| {
        let shown = group(gateway);
        let members = shown["members"].as_array().cloned().unwrap_or_default();
        let reads =
            |member: &Value| member["partitions"].as_array().is_some_and(|all| all.len() == 1);
        let settled = members.len() == 2 && members.iter().all(reads);
        // Of the two members each process knows its own.
        if settled && members.iter().any(|member| member["state"] == state) {
            Ok(())
        } else {
            Err(format!("{shown}\n{}", gateway.tail()))
        }
    };
    wait_until("each reads one partition", || states(&first, "active"));

    let seek = ["groups", "seek", &name, "--to", "beginning"];
    let (code, text) = first.command(directory.path(), &[&seek[..], &["--force"]].concat());
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&second.id().to_string()), "it names whose member that is: {text}");
    let (code, text) = without_gateway(directory.path(), &seek, &environment);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("the group is being read: "), "{text}");

    done(&first, &directory, &["groups", "pause", &name]);
    wait_until("the first is paused", || states(&first, "paused"));
    wait_until("so is the second", || states(&second, "paused"));
    for number in 0..10 {
        let record = json!({"topic": name, "partition": number % 2, "value": number});
        assert_eq!(first.send(&record).0, 200);
    }
    assert!(!first.said("got ") && !second.said("got "), "nothing is handled");
    done(&second, &directory, &["groups", "resume", &name]);
    wait_for_lag_of_zero(&first, &name);

    assert_eq!(first.terminate().code(), Some(0));
    assert_eq!(second.terminate().code(), Some(0));
    let seek = ["groups", "seek", &name, "--to", "3", "--topic", &name, "--partition", "1"];
    wait_until("a group without members is moved", || {
        match without_gateway(directory.path(), &seek, &environment) {
            (0, _) => Ok(()),
            (_, text) => Err(text),
        }
    });
    let gateway = run();
    let line = |offset: u64| format!("{name}/1@{offset}");
    wait_until("it goes on there", || said(&gateway, &line(4)));
    assert!(gateway.said(&line(3)) && !gateway.said(&line(2)), "{}", gateway.tail());
    assert!(!gateway.said(&format!("{name}/0@")), "the other partition stayed");
}
