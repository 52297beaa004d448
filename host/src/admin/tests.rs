//! The admin port over a real socket, with a broker and a process that are only told about.

mod doubles;
mod generations;
mod preview;

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Running, State, server};
use crate::record::TopicPartition;
use doubles::{ToldBroker, ToldProcess};

struct Port {
    url: String,
    agent: ureq::Agent,
    process: Arc<ToldProcess>,
    _running: Running,
}

fn port(down: bool) -> Port {
    let bound = server::bind(Some(([127, 0, 0, 1], 0).into())).unwrap();
    let url = format!("http://{}", bound.address());
    let process = Arc::new(ToldProcess::default());
    let state = State { broker: Arc::new(ToldBroker { down }), local: process.clone() };
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    Port { url, agent, process, _running: bound.serve(state).unwrap() }
}

impl Port {
    fn get(&self, path: &str) -> (u16, Value) {
        let mut response = self.agent.get(format!("{}{path}", self.url)).call().unwrap();
        (response.status().as_u16(), response.body_mut().read_json().unwrap())
    }

    fn post(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let request = self.agent.post(format!("{}{path}", self.url));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let mut response = request.send_empty().unwrap();
        (response.status().as_u16(), response.body_mut().read_json().unwrap())
    }

    fn post_json(&self, path: &str, body: &Value) -> (u16, Value) {
        let mut response = self.agent.post(format!("{}{path}", self.url)).send_json(body).unwrap();
        (response.status().as_u16(), response.body_mut().read_json().unwrap())
    }

    fn text(&self, path: &str) -> (u16, String) {
        let mut response = self.agent.get(format!("{}{path}", self.url)).call().unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }
}

#[test]
fn topics_groups_and_plugins_are_listed_and_found_by_name() {
    let port = port(false);
    for (list, name) in
        [("topics", "my-topic"), ("groups", "my-topic-group-1"), ("plugins", "json-key")]
    {
        let (status, all) = port.get(&format!("/api/v1/{list}"));
        assert_eq!(status, 200, "{all}");
        let (status, one) = port.get(&format!("/api/v1/{list}/{name}"));
        assert_eq!((status, &one), (200, &all[0]));
    }
}

#[test]
fn a_name_that_does_not_exist_is_a_problem_document() {
    let port = port(false);
    for (path, code) in [
        ("/api/v1/topics/none", "unknown-topic"),
        ("/api/v1/topics/my-topic/records?partition=9", "unknown-partition"),
        ("/api/v1/groups/none", "unknown-group"),
        ("/api/v1/plugins/none", "unknown-plugin"),
        ("/nowhere", "unknown-route"),
    ] {
        let (status, problem) = port.get(path);
        assert_eq!((status, &problem["code"]), (404, &json!(code)), "{path}");
        assert_eq!(problem["type"], format!("urn:keyway:problem:{code}"));
    }
}

#[test]
fn a_wrong_method_and_a_malformed_name_are_problem_documents_too() {
    let port = port(false);
    let (status, problem) = port.post("/api/v1/topics", &[]);
    assert_eq!((status, &problem["code"]), (405, &json!("wrong-method")));
    let answer = port.agent.delete(format!("{}/api/v1/topics", port.url)).call().unwrap();
    assert_eq!(answer.headers()["allow"], "GET,HEAD");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let (status, problem) = port.get("/api/v1/topics/%ff");
    assert_eq!((status, &problem["code"]), (400, &json!("malformed-path")));
}

#[test]
fn records_are_shown_from_an_offset_on() {
    let port = port(false);
    let (status, shown) = port.get("/api/v1/topics/my-topic/records?partition=0&offset=1&limit=2");
    assert_eq!(status, 200, "{shown}");
    assert_eq!(shown["records"][0]["offset"], 1);
    assert_eq!(shown["records"][0]["value"], "text");
    assert_eq!(shown["records"][1]["value"], json!({"base64": "/w=="}));
    assert_eq!(shown["records"].as_array().unwrap().len(), 2);
}

#[test]
fn a_look_that_is_asked_for_wrongly_is_refused_with_what_would_do() {
    let port = port(false);
    for (query, part) in [
        ("limit=0", "limit is from 1 to 1000, not 0"),
        ("limit=1001", "limit is from 1 to 1000, not 1001"),
        ("partition=-1", "partition"),
        ("count=3", "count"),
    ] {
        let (status, problem) = port.get(&format!("/api/v1/topics/my-topic/records?{query}"));
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!(status, 400, "{query}");
        assert!(detail.contains(part), "{query}: {detail}");
    }
}

#[test]
fn a_look_at_dead_letters_that_is_asked_for_wrongly_is_refused_with_what_would_do() {
    let port = port(false);
    for (query, part) in [
        ("limit=0", "limit is from 1 to 1000, not 0"),
        ("since=yesterday", "an age such as 2h"),
        ("from=t/0", "TOPIC/PARTITION@OFFSET"),
        ("grop=g", "grop"),
        ("dry_run=true", "redrive"),
        ("through=h", "redrive"),
    ] {
        let (status, problem) = port.get(&format!("/api/v1/dead-letters?{query}"));
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!((status, &problem["code"]), (400, &json!("invalid-parameter")), "{query}");
        assert!(detail.contains(part), "{query}: {detail}");
    }
    let (status, page) = port.get("/api/v1/dead-letters?group=g&since=2h");
    assert_eq!((status, page), (200, json!({"dead_letters": [], "next": null})));
    let (status, end) = port.post("/api/v1/dead-letters/redrive?reason=none", &[]);
    let nothing = json!({"event": "end", "records": 0, "refused": 0, "error": null});
    assert_eq!((status, end), (200, nothing));
    for (query, part) in [("through=h", "no plugin \"h\""), ("through=h&parked=true", "parked")] {
        let (status, problem) = port.post(&format!("/api/v1/dead-letters/redrive?{query}"), &[]);
        assert_eq!(status, 400, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{query}: {problem}");
    }
}

#[test]
fn a_replay_is_told_line_by_line_and_one_that_is_asked_for_wrongly_is_refused() {
    let port = port(false);
    let send = |body: &Value| {
        let answer = port.agent.post(format!("{}/api/v1/replay", port.url)).send_json(body);
        let mut answer = answer.unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    };
    let (status, lines) = send(&json!({"topic": "my-topic", "handler": "print", "into": "b"}));
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(status, 200, "{lines:?}");
    let range = json!({"topic": "my-topic", "partition": 0, "from": 3, "to": 5});
    assert_eq!(
        lines[0],
        json!({"event": "begin", "handler": "print@0a0a0a0a0a0a", "into": "b", "ranges": [range]})
    );
    assert_eq!((&lines[1]["event"], &lines[1]["handled"]), (&json!("end"), &json!(2)));
    for (body, part) in [
        (json!({"topic": "my-topic"}), "into"),
        (json!({"into": "b", "from": "tomorrow"}), "no place to go to"),
        (json!({"into": "b", "offset": 3}), "offset"),
    ] {
        let (status, problem) = send(&body);
        assert_eq!(status, 400, "{body}");
        assert!(problem.contains(part), "{body}: {problem}");
    }
}

#[test]
fn a_page_of_another_origin_cannot_redrive() {
    let port = port(false);
    let header = ("origin", "https://example.com");
    let (status, problem) = port.post("/api/v1/dead-letters/redrive", &[header]);
    assert_eq!((status, &problem["code"]), (403, &json!("cross-site-request")));
}

#[test]
fn a_group_is_paused_and_resumed() {
    let port = port(false);
    let group = "/api/v1/groups/my-topic-group-1";
    let (status, paused) = port.post(&format!("{group}/pause"), &[]);
    assert_eq!((status, &paused["members"][0]["state"]), (200, &json!("paused")));
    let (status, resumed) = port.post(&format!("{group}/resume"), &[]);
    assert_eq!((status, &resumed["members"][0]["state"]), (200, &json!("active")));
    assert_eq!(port.post("/api/v1/groups/none/pause", &[]).0, 404);
}

#[test]
fn part_of_a_group_is_paused_by_a_query_or_a_body_and_shown_with_who_did_it() {
    let port = port(false);
    let group = "/api/v1/groups/my-topic-group-1";
    let body = json!({"partitions": [0], "by": "ada"});
    let (status, paused) = port.post_json(&format!("{group}/pause"), &body);
    assert_eq!(status, 200, "{paused}");
    let pause = json!({"since": "2023-11-14T22:13:20.000Z", "by": "ada"});
    assert_eq!(paused["partitions"][0]["paused"], pause);
    assert_eq!(paused["partitions"][1]["paused"], Value::Null);
    let states: Vec<_> = (0..2).map(|index| paused["members"][index]["state"].clone()).collect();
    assert_eq!(states, ["paused", "active"]);
    assert_eq!(paused["this_process"]["paused"], false, "not all of it is");
    let (_, paused) = port.post(&format!("{group}/pause?topic=my-topic&partitions=1,2"), &[]);
    let parts = paused["this_process"]["pauses"].as_array().unwrap();
    assert_eq!(parts.iter().map(|part| &part["partition"]).collect::<Vec<_>>(), [0, 1, 2]);
    let (_, resumed) = port.post(&format!("{group}/resume?partitions=0"), &[]);
    assert_eq!(resumed["partitions"][0]["paused"], Value::Null);
    assert_eq!(port.post(&format!("{group}/pause"), &[]).0, 200);
    let (status, problem) = port.post(&format!("{group}/resume?partitions=1"), &[]);
    assert_eq!((status, &problem["code"]), (409, &json!("group-conflict")));
}

#[test]
fn a_part_that_a_group_does_not_have_is_refused_with_what_it_has() {
    let port = port(false);
    for (query, part) in [
        ("topic=other", "reads my-topic, not \"other\""),
        ("partitions=3", "has 3 partitions, from 0, and no 3"),
        ("partitions=one", "numbers with commas, not \"one\""),
        ("partition=1", "unknown field"),
    ] {
        let (status, problem) =
            port.post(&format!("/api/v1/groups/my-topic-group-1/pause?{query}"), &[]);
        assert_eq!(status, 400, "{query}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{query}: {problem}");
    }
}

#[test]
fn a_group_that_is_read_is_moved_when_it_is_paused_or_by_force() {
    let port = port(false);
    let seek = "/api/v1/groups/my-topic-group-1/seek";
    let (status, problem) = port.post_json(seek, &json!({"to": "beginning", "partitions": [0]}));
    assert_eq!((status, &problem["code"]), (409, &json!("group-active")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("my-topic/0 by m-0 of here:1; pause it (`keyway groups pause"),
        "{detail}"
    );

    let dry =
        json!({"to": "1970-01-01T00:00:07Z", "partitions": [0], "dry_run": true, "force": true});
    let (status, sought) = port.post_json(seek, &dry);
    let moved =
        json!([{"topic": "my-topic", "partition": 0, "from": 40, "to": 7, "end_offset": 42}]);
    assert_eq!((status, &sought["partitions"]), (200, &moved));
    assert!(port.process.sought.lock().unwrap().is_empty());

    assert_eq!(port.post_json(seek, &json!({"to": 41, "partitions": [0], "force": true})).0, 200);
    port.post("/api/v1/groups/my-topic-group-1/pause?partitions=1", &[]);
    assert_eq!(port.post_json(seek, &json!({"to": "end", "partitions": [1]})).0, 200);
    let sought: Vec<_> = port.process.sought.lock().unwrap().clone().into_iter().collect();
    let at = |number, offset| (TopicPartition::new("my-topic", number), offset);
    assert_eq!(sought, [at(0, 41), at(1, 7)]);
}

#[test]
fn members_of_another_process_are_not_moved_even_by_force() {
    let port = port(false);
    let (status, problem) = port
        .post_json("/api/v1/groups/my-topic-group-1/seek", &json!({"to": "end", "force": true}));
    assert_eq!((status, &problem["code"]), (409, &json!("group-active")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("my-topic/2 by m-3 of there:2; end those processes"), "{detail}");
}

#[test]
fn a_seek_to_where_nothing_is_says_what_there_is() {
    let port = port(false);
    for (body, part) in [
        (
            json!({"to": 43, "partitions": [0]}),
            "goes from offset 0 to its end at 42, and has no 43",
        ),
        (json!({"to": "soon"}), "2h ago"),
        (json!({"to": "end", "topic": "other"}), "reads my-topic, not \"other\""),
        (json!({"to": "end", "partitions": [9]}), "no 9"),
        (json!({}), "`to` is an offset, or a place or time as text"),
    ] {
        let (status, problem) = port.post_json("/api/v1/groups/my-topic-group-1/seek", &body);
        assert_eq!(status, 400, "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{body}: {problem}");
    }
}

#[test]
fn a_page_of_another_origin_cannot_pause_a_group() {
    let port = port(false);
    for header in [("origin", "https://example.com"), ("sec-fetch-site", "cross-site")] {
        let (status, problem) = port.post("/api/v1/groups/my-topic-group-1/pause", &[header]);
        assert_eq!((status, &problem["code"]), (403, &json!("cross-site-request")), "{header:?}");
    }
    let (_, group) = port.get("/api/v1/groups/my-topic-group-1");
    assert_eq!(group["this_process"]["paused"], false);
}

#[test]
fn a_broker_that_is_down_makes_the_process_not_ready_but_alive() {
    let port = port(true);
    assert_eq!(port.text("/live").0, 200);
    let (status, ready) = port.get("/ready");
    assert_eq!((status, &ready["ready"]), (503, &json!(false)));
    assert_eq!(ready["reasons"], json!(["the broker is not reachable: connection refused"]));
    let (status, problem) = port.get("/api/v1/groups");
    assert_eq!((status, &problem["code"]), (503, &json!("broker-unavailable")));
    let (status, metrics) = port.text("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("keyway_broker_up 0\n"), "{metrics}");
    assert!(!metrics.contains("keyway_group_lag{"), "{metrics}");
}

#[test]
fn a_process_that_can_work_is_ready() {
    assert_eq!(port(false).get("/ready"), (200, json!({"ready": true, "reasons": []})));
}

#[test]
fn metrics_say_what_the_snapshots_say() {
    let (_, metrics) = port(false).text("/metrics");
    for line in [
        "keyway_ready 1",
        "keyway_http_requests_total{status=\"503\"} 1",
        "keyway_records_handled_total{group=\"my-topic-group-1\"} 40",
        "keyway_records_dead_lettered_total{group=\"my-topic-group-1\"} 2",
        "keyway_records_parked_total{group=\"my-topic-group-1\"} 4",
        "keyway_parked_records{group=\"my-topic-group-1\",topic=\"my-topic\",partition=\"0\"} 3",
        "keyway_lanes_parked{group=\"my-topic-group-1\",topic=\"my-topic\",partition=\"0\"} 1",
        "keyway_group_lag{group=\"my-topic-group-1\",topic=\"my-topic\",partition=\"0\"} 2",
        "keyway_records_in_flight{group=\"my-topic-group-1\",topic=\"my-topic\",partition=\"0\"} 1",
        "keyway_group_members{group=\"my-topic-group-1\",state=\"active\"} 2",
        "keyway_plugin_info{plugin=\"print\",generation=\"0a0a0a0a0a0a\"} 1",
        "keyway_plugin_refused{plugin=\"print\"} 1",
        "keyway_topic_fullest_partition_ratio{topic=\"my-topic\"} 0.9",
        "keyway_topic_skewed{topic=\"my-topic\"} 1",
        "keyway_plugin_metrics_dropped_total{plugin=\"print\",owner=\"group my-topic-group-1\"} 5",
        "# TYPE plugin_lines counter",
        "plugin_lines_total{plugin=\"print\",owner=\"group my-topic-group-1\"} 7",
        "plugin_line_bytes_sum{plugin=\"print\",owner=\"group my-topic-group-1\"} 12.5",
        "plugin_line_bytes_count{plugin=\"print\",owner=\"group my-topic-group-1\"} 3",
        "plugin_line_bytes_bucket{le=\"10.0\",plugin=\"print\",owner=\"group my-topic-group-1\"} 2",
        "plugin_line_bytes_bucket{le=\"+Inf\",plugin=\"print\",owner=\"group my-topic-group-1\"} 3",
        "keyway_group_lag_seconds{group=\"my-topic-group-1\",topic=\"my-topic\",partition=\"0\"} 1.5",
        "keyway_lanes{group=\"my-topic-group-1\",topic=\"my-topic\",partition=\"0\"} 2",
        "keyway_lanes_deferred{group=\"my-topic-group-1\",topic=\"my-topic\",partition=\"0\"} 1",
    ] {
        assert!(metrics.lines().any(|given| given == line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("ada"), "no key is a label: {metrics}");
    assert!(metrics.ends_with("# EOF\n"));
}

#[test]
fn the_status_page_may_run_only_what_is_in_it() {
    let port = port(false);
    let response = port.agent.get(&port.url).call().unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    let page = include_str!("page.html");
    for elsewhere in ["innerHTML", "src=\"", "@import", "url("] {
        assert!(!page.contains(elsewhere), "the page uses {elsewhere}");
    }
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let taken = server::bind(Some(([127, 0, 0, 1], 0).into())).unwrap();
    let error = server::bind(Some(taken.address())).unwrap_err().to_string();
    assert!(error.contains(&taken.address().to_string()), "{error}");
}

#[test]
fn without_an_address_the_next_free_port_is_taken() {
    let (first, second) = (server::bind(None).unwrap(), server::bind(None).unwrap());
    assert!(second.address().port() > first.address().port());
}
