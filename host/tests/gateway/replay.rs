//! Records that are in a topic go through a handler once more, into another topic, on a gateway that runs and without one.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Gateway, directory, done, group, kafka, records_of, send, start, topic, wait_for_lag_of_zero,
    wait_until, without_gateway,
};

const PRINT: &str = "{ plugin = \"print\" }";

/// A gateway whose group has handled six records of `a`: "record 0" to "record 5".
fn six_records(handler: &str, more: &str) -> (TempDir, Gateway) {
    let directory = directory(&[topic("a"), group("g", "a", handler, more)]);
    let gateway = start(&directory);
    (0..6).for_each(|number| send(&gateway, "a", json!(format!("record {number}"))));
    wait_for_lag_of_zero(&gateway, "g");
    (directory, gateway)
}

fn values(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["value"].as_str().expect("it is text")).collect()
}

#[test]
fn a_range_goes_through_another_handler_in_order_and_the_groups_offsets_stay() {
    let (directory, gateway) = six_records(PRINT, "");
    let replay = ["groups", "replay", "g", "--handler", "uppercase", "--into", "b"];
    let range = ["--from", "1", "--to", "4"];
    let text = done(&gateway, &directory, &[&replay[..], &range].concat());
    assert!(text.starts_with("a/0 from 1 to 4, through uppercase@"), "{text}");
    assert!(text.ends_with("Handled: 3 records. Written to b: 3 records.\n"), "{text}");
    let written = records_of(&gateway, "b", 3);
    assert_eq!(values(&written), ["RECORD 1", "RECORD 2", "RECORD 3"]);
    let text = done(&gateway, &directory, &[&replay[..], &["--limit", "2"]].concat());
    assert!(text.contains("Handled: 2 records."), "{text}");
    assert_eq!(values(&records_of(&gateway, "b", 5))[3..], ["RECORD 0", "RECORD 1"]);
    let (_, shown) = gateway.get("/api/v1/groups/g");
    assert_eq!(shown["partitions"][0]["committed_offset"], 6, "{shown}");
    assert_eq!(shown["this_process"]["handled"], 6, "{shown}");
}

#[test]
fn a_dry_run_tells_what_would_be_written_and_writes_nothing() {
    let (directory, gateway) = six_records(PRINT, "");
    let replay = ["groups", "replay", "--topic", "a", "--handler", "uppercase", "--into", "b"];
    let replay = [&replay[..], &["--dry-run", "--from", "4"]].concat();
    let text = done(&gateway, &directory, &replay);
    assert!(
        text.contains("a/0@4 would give -: RECORD 4\na/0@5 would give -: RECORD 5\n"),
        "{text}"
    );
    assert!(text.ends_with("Handled: 2 records. Would be written to b: 2 records.\n"), "{text}");
    assert_eq!(gateway.get("/api/v1/topics/b").0, 404, "not even the topic is made");
}

#[test]
fn it_stops_at_the_first_record_that_is_not_handled_or_goes_on_behind_it_when_told() {
    let directory = directory(&[topic("a"), topic("elsewhere")]);
    let gateway = start(&directory);
    let emit = json!({"do": "emit", "count": 1, "size": 3});
    for value in [&emit, &json!({"do": "reject", "reason": "no such user"}), &emit] {
        send(&gateway, "a", value.clone());
    }
    let replay = ["groups", "replay", "--topic", "a", "--handler", "flaky", "--into", "b"];
    let (code, text) = gateway.command(directory.path(), &replay);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("a/0@1 was not handled: no such user\n"), "{text}");
    assert!(text.contains("Handled: 1 record. Written to b: 1 record.\n"), "{text}");
    assert!(text.contains("it stopped at a/0@1; ") && text.contains("--from 1 "), "{text}");
    records_of(&gateway, "b", 1);
    let (code, text) =
        gateway.command(directory.path(), &[&replay[..], &["--keep-going"]].concat());
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("Handled: 2 records."), "{text}");
    assert!(text.contains("1 record could not be handled"), "{text}");
    records_of(&gateway, "b", 3);
}

#[test]
fn what_the_handler_would_write_elsewhere_goes_into_the_given_topic_with_the_groups_retries() {
    let more = "output-topic = \"out\"\nretry = { attempts = 3, backoff = \"1ms\" }";
    let directory = directory(&[topic("a"), group("g", "a", "{ plugin = \"flaky\" }", more)]);
    let gateway = start(&directory);
    send(&gateway, "a", json!({"do": "emit", "count": 1, "size": 3, "topic": "out"}));
    send(&gateway, "a", json!({"do": "trap", "times": 2}));
    wait_for_lag_of_zero(&gateway, "g");
    records_of(&gateway, "out", 1);
    let text = done(&gateway, &directory, &["groups", "replay", "g", "--into", "b"]);
    assert!(text.contains("Handled: 2 records. Written to b: 1 record."), "{text}");
    records_of(&gateway, "b", 1);
    records_of(&gateway, "out", 1);
}

#[test]
fn what_cannot_be_replayed_is_refused_before_anything_is_written() {
    let (directory, gateway) = six_records(PRINT, "");
    for (more, reason) in [
        (&["g", "--into", "a"][..], "cannot go into itself"),
        (&["none", "--into", "b"], "no group \"none\" is configured"),
        (&["g", "--handler", "nothing", "--into", "b"], "there is no plugin `nothing`"),
        (&["g", "--partition", "7", "--into", "b"], "a has 1 partitions, from 0, and no 7"),
        (&["g", "--topic", "none", "--into", "b"], "none"),
    ] {
        let replay = [&["groups", "replay"], more].concat();
        let (code, text) = gateway.command(directory.path(), &replay);
        assert_eq!(code, 1, "{more:?}: {text}");
        assert!(text.contains(reason), "{more:?}: {text}");
    }
    assert_eq!(gateway.get("/api/v1/topics/b").0, 404);
}

#[test]
fn without_a_gateway_the_embedded_log_is_opened_directly() {
    let (directory, gateway) = six_records(PRINT, "");
    let replay = ["groups", "replay", "g", "--handler", "uppercase", "--into", "b"];
    let (code, text) = without_gateway(directory.path(), &replay, &[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&gateway.id().to_string()), "it names who has it: {text}");
    assert_eq!(gateway.terminate().code(), Some(0));
    let (code, text) = without_gateway(directory.path(), &replay, &[]);
    assert_eq!(code, 0, "{text}");
    let gateway = start(&directory);
    assert_eq!(values(&records_of(&gateway, "b", 6))[5], "RECORD 5");
}

#[test]
fn on_kafka_the_command_does_it_itself_partition_by_partition() {
    let Some(servers) = kafka::shared(kafka::Kind::Kraft) else { return };
    let name = format!("replay-{}", fastrand::u32(..));
    let into = format!("{name}-again");
    let topic = format!("[[topics]]\nname = \"{name}\"\npartitions = 2\n");
    let directory = directory(&[topic, group(&name, &name, PRINT, "")]);
    let environment = [("KAFKA_BOOTSTRAP_SERVERS", servers)];
    let gateway = Gateway::start(directory.path(), &["run"], &environment);
    for number in 0..10 {
        let record =
            json!({"topic": name, "partition": number % 2, "value": format!("record {number}")});
        wait_until("it is written", || match gateway.send(&record) {
            (200, _) => Ok(()),
            (_, answer) => Err(answer.to_string()),
        });
    }
    wait_for_lag_of_zero(&gateway, &name);
    let replay = ["groups", "replay", &name, "--handler", "uppercase", "--into", &into];
    let replay = [&replay[..], &["--from", "1", "--json"]].concat();
    let (code, text) = without_gateway(directory.path(), &replay, &environment);
    assert_eq!(code, 0, "{text}");
    let lines: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let end = lines.last().expect("it tells its end");
    assert_eq!(
        (&end["event"], &end["handled"], &end["written"]),
        (&json!("end"), &json!(8), &json!(8))
    );
    let written: usize = (0..2)
        .map(|partition| {
            let path = format!("/api/v1/topics/{into}/records?partition={partition}&limit=1000");
            let (_, page) = gateway.get(&path);
            let records = page["records"].as_array().cloned().unwrap_or_default();
            assert!(values(&records).iter().all(|value| value.starts_with("RECORD ")), "{page}");
            records.len()
        })
        .sum();
    assert_eq!(written, 8);
    let (_, shown) = gateway.get(&format!("/api/v1/groups/{name}"));
    assert_eq!(shown["partitions"][0]["committed_offset"], 5, "{shown}");
}
