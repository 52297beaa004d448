//! Commands that ask a gateway, against a port that answers what the test tells it to.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::Stdio,
    sync::mpsc,
    thread,
};

use serde_json::{Value, json};

use super::{keyway, run, stderr, stdout};

/// Answers every request with `status` and `body`, and hands over what it was asked: the request line and the body.
fn gateway(status: u16, body: &Value) -> (String, mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = body.to_string();
    let (asked, receiver) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            stream.read_line(&mut line).unwrap();
            loop {
                let mut header = String::new();
                stream.read_line(&mut header).unwrap();
                if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if header.trim().is_empty() {
                    break;
                }
            }
            let mut given = vec![0; length];
            stream.read_exact(&mut given).unwrap();
            // Before the answer: whoever has that may look at once.
            asked.send((line.trim().to_owned(), String::from_utf8(given).unwrap())).ok();
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{body}",
                body.len()
            );
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, receiver)
}

fn sent() -> Value {
    json!({
        "topic": "my-topic", "partition": 2, "offset": 17, "timestamp": 1, "key": "ada",
        "selected_by": "caller",
    })
}

#[test]
fn send_posts_a_record_and_says_where_it_went() {
    let (url, asked) = gateway(200, &sent());
    let arguments =
        ["send", "--http", &url, "-t", "my-topic", "-k", "ada", "-p", "2", "-H", "a=b", "hello"];
    let output = run(&env::temp_dir(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "my-topic, partition 2, offset 17 (key ada, chosen by the caller)\n"
    );
    let (line, body) = asked.recv().unwrap();
    assert_eq!(line, "POST /send-message HTTP/1.1");
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap(),
        json!({
            "topic": "my-topic", "key": "ada", "value": "hello", "partition": 2,
            "headers": [{"key": "a", "value": "b"}],
        })
    );
}

#[test]
fn send_takes_every_line_of_its_input_as_a_record() {
    let (url, asked) = gateway(200, &sent());
    let mut child = keyway(&env::temp_dir(), &["send", "--json", "--http", &url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all("one\r\n\nzwölf".as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output).lines().count(), 3);
    let values = asked.try_iter().map(|(_, body)| serde_json::from_str::<Value>(&body).unwrap());
    let values: Vec<_> = values.map(|body| body["value"].clone()).collect();
    assert_eq!(values, ["one", "", "zwölf"]);
}

#[test]
fn send_shows_what_the_gateway_says_is_wrong_and_fails() {
    let (url, _asked) = gateway(404, &json!({"detail": "there is no topic \"x\""}));
    let output = run(&env::temp_dir(), &["send", "--http", &url, "-t", "x", "v"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is no topic \"x\""), "{}", stderr(&output));
}

#[test]
fn json_is_printed_as_the_gateway_gives_it() {
    let answer = json!([{"name": "t", "partitions": [], "key_selector": null, "later": 1}]);
    let (url, asked) = gateway(200, &answer);
    let output = run(&env::temp_dir(), &["topics", "--json", "--admin", &url]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(serde_json::from_str::<Value>(&stdout(&output)).unwrap(), answer);
    assert_eq!(asked.recv().unwrap().0, "GET /api/v1/topics HTTP/1.1");
}

#[test]
fn one_group_is_asked_for_by_its_name_and_shown_to_people() {
    let answer = json!({
        "id": "a b", "state": "stable", "topics": [], "ordering": null, "delivery": null, "handler": null,
        "members": [], "partitions": [], "this_process": null,
    });
    let (url, asked) = gateway(200, &answer);
    let output = run(&env::temp_dir(), &["groups", "a b", "--admin", &url]);
    assert_eq!(stdout(&output), "a b: stable, 0 members, 0 partitions, 0 records behind\n");
    assert_eq!(asked.recv().unwrap().0, "GET /api/v1/groups/a%20b HTTP/1.1");
}

#[test]
fn a_redrive_asks_for_what_is_filtered_and_tells_what_was_done() {
    let end = json!({"event": "end", "records": 2, "refused": 0, "error": null});
    let (url, asked) = gateway(200, &end);
    let filter = ["--reason", "no user & more", "--group", "g", "--dry-run", "--admin", &url];
    let output = run(&env::temp_dir(), &[&["dead-letters", "redrive"], &filter[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "Would be given back: 2 records.\n");
    let line = "POST /api/v1/dead-letters/redrive?group=g&reason=no%20user%20%26%20more&dry_run=true HTTP/1.1";
    assert_eq!(asked.recv().unwrap().0, line);
}

#[test]
fn a_redrive_that_ends_early_or_is_refused_a_letter_fails_and_says_so() {
    for (end, part) in [
        (
            json!({"event": "end", "records": 2, "refused": 0, "error": "the broker is away"}),
            "away",
        ),
        (json!({"event": "end", "records": 2, "refused": 1, "error": null}), "1 letter could not"),
        (
            json!({"event": "redriven", "letter": "t.dead-letters/0@0", "to": "t/0@1"}),
            "ended early",
        ),
    ] {
        let (url, _asked) = gateway(200, &end);
        let output = run(&env::temp_dir(), &["dead-letters", "redrive", "--admin", &url]);
        assert_eq!(output.status.code(), Some(1), "{end}");
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
    let (url, _asked) = gateway(409, &json!({"detail": "a redrive is under way"}));
    let output = run(&env::temp_dir(), &["dead-letters", "redrive", "--admin", &url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("a redrive is under way"), "{}", stderr(&output));
}

#[test]
fn a_group_is_paused_in_part_and_moved_by_what_the_gateway_is_posted() {
    let pauses =
        json!([{"topic": "t", "partition": 2, "since": "2026-01-31T08:00:00.000Z", "by": "ada"}]);
    let here = json!({
        "paused": false, "pauses": pauses, "handled": 0, "retried": 0, "dead_lettered": 0, "dropped": 0,
    });
    let group = json!({
        "id": "g", "state": "stable", "topics": ["t"], "ordering": null, "delivery": null, "handler": null,
        "members": [], "partitions": [], "this_process": here,
    });
    let (url, asked) = gateway(200, &group);
    let arguments =
        ["groups", "pause", "g", "-t", "t", "-p", "2", "-p", "3", "--by", "ada", "--admin", &url];
    let output = run(&env::temp_dir(), &arguments);
    assert_eq!(stdout(&output), "g: t/2 is paused, since 2026-01-31T08:00:00.000Z by ada\n");
    let (line, body) = asked.recv().unwrap();
    assert_eq!(line, "POST /api/v1/groups/g/pause HTTP/1.1");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body, json!({"topic": "t", "partitions": [2, 3], "by": "ada"}));

    let moved = json!([{"topic": "t", "partition": 2, "from": null, "to": 5, "end_offset": 9}]);
    let (url, asked) = gateway(200, &json!({"group": "g", "dry_run": true, "partitions": moved}));
    let arguments = ["groups", "seek", "g", "--to", "5", "--dry-run", "--admin", &url];
    let output = run(&env::temp_dir(), &arguments);
    assert_eq!(
        stdout(&output),
        "g: 1 partition would be moved\n  PARTITION  FROM  TO  END  TO HANDLE\n  \
         t/2           -   5    9          4\n"
    );
    let (line, body) = asked.recv().unwrap();
    assert_eq!(line, "POST /api/v1/groups/g/seek HTTP/1.1");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&body["to"], &body["dry_run"], &body["force"]),
        (&json!(5), &json!(true), &json!(false))
    );
}

#[test]
fn a_problem_is_shown_with_its_detail() {
    let (url, _asked) = gateway(503, &json!({"detail": "the broker is away"}));
    let output = run(&env::temp_dir(), &["groups", "--admin", &url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the broker is away"), "{}", stderr(&output));
}

#[test]
fn nobody_there_is_said_with_the_address() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(&env::temp_dir(), &["plugin", "list", "--admin", &format!("http://{free}")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&free.to_string()), "{}", stderr(&output));
}
