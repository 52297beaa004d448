//! `keyway plugin test`, which needs no gateway.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{examples, keyway, run, stderr, stdout};

const CONFIGURATION: &str = r#"
[[topics]]
name = "in"
partitions = 5
key-selector = { plugin = "json-key", config = { pointer = "/user" } }

[[topics]]
name = "allowed"

[[groups]]
id = "strict"
topics = ["in"]
handler = { plugin = "flaky" }
output-topic = "out"
limits = { memory = "8MiB", time = "1s", emit = 2 }
allow = { topics = ["allowed"] }
"#;

/// A working directory with the examples in it, and these records.
fn directory(records: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for example in ["flaky", "uppercase", "json-key", "print"] {
        examples::install(example, directory.path(), example);
    }
    fs::write(directory.path().join("records.jsonl"), records).unwrap();
    directory
}

fn test(directory: &Path, arguments: &[&str]) -> Output {
    run(directory, &[&["plugin", "test"], arguments].concat())
}

/// What `--json` says, by lines.
fn lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const RECORDS: [&str; 2] = ["--records", "records.jsonl"];
const EXPECT: [&str; 2] = ["--expect", "expected.jsonl"];

#[test]
fn an_expectation_is_written_met_missed_and_made_anew() {
    let directory =
        directory("{\"key\": \"k\", \"value\": \"hello\"}\n{\"value\": {\"base64\": \"/w==\"}}\n");
    let path = directory.path();
    let expected = || fs::read_to_string(path.join("expected.jsonl")).unwrap();
    let arguments = [&["uppercase.wasm"], &RECORDS[..], &EXPECT[..]].concat();
    let output = test(path, &[&arguments[..], &["--update"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("uppercase@"), "{text}");
    assert!(text.contains("test/0@0  key k  hello\n    handled, 1 record out  "), "{text}");
    assert!(text.contains("\n    to output  key k  HELLO\n"), "{text}");
    assert!(text.contains("\n    rejected: the value is not UTF-8"), "{text}");
    assert!(text.ends_with("expected.jsonl is written\n"), "{text}");
    let written = expected();
    assert!(
        written.starts_with(r#"{"outcome":"handled","emitted":[{"topic":"output","#),
        "{written}"
    );
    assert_eq!(test(path, &arguments).status.code(), Some(0));

    let other = written.replace("HELLO", "HALLO");
    fs::write(path.join("expected.jsonl"), &other).unwrap();
    let output = test(path, &arguments);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    let shown = "    value of emitted record 1 is not as expected.jsonl:1 says\n      - \"HALLO\"\n      + \"HELLO\"\n";
    assert!(text.contains(shown), "{text}");
    assert!(stderr(&output).contains("1 of 2 records not as expected.jsonl says; --update makes"));

    let loose = "{\"outcome\": \"rejected\"}";
    fs::write(path.join("expected.jsonl"), format!("{}\n{loose}\n", other.lines().next().unwrap()))
        .unwrap();
    let output = test(path, &[&arguments[..], &["--update"]].concat());
    assert_eq!(output.status.code(), Some(0));
    let first = written.lines().next().unwrap();
    assert_eq!(expected(), format!("{first}\n{loose}\n"), "a line that is met stays");
    let output = test(path, &[&arguments[..], &["--update"]].concat());
    assert!(stdout(&output).ends_with("expected.jsonl stays as it was\n"), "{}", stdout(&output));
}

#[test]
fn fewer_or_more_lines_than_records_are_no_success() {
    let directory = directory("{\"value\": 1}\n{\"value\": 2}\n");
    let arguments = [&["print.wasm"], &RECORDS[..], &EXPECT[..]].concat();
    let line = "{\"outcome\":\"handled\"}\n";
    for (lines, says) in [
        (1, "1 of 2 records not as expected.jsonl says"),
        (2, ""),
        (4, "expected.jsonl:3: there is no record for 2 lines from here on"),
    ] {
        fs::write(directory.path().join("expected.jsonl"), line.repeat(lines)).unwrap();
        let output = test(directory.path(), &arguments);
        assert_eq!(output.status.code(), Some(i32::from(lines != 2)), "{}", stderr(&output));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
        assert_eq!(stdout(&output).contains("expected.jsonl has no line for it"), lines == 1);
    }
}

#[test]
fn limits_and_allow_lists_are_those_of_the_configuration_and_failures_have_their_names() {
    let orders = [
        (json!({"do": "trap", "reason": "boom"}), "trap", "boom"),
        (json!({"do": "loop"}), "timeout", "1s"),
        (json!({"do": "memory"}), "memory", "8.0 MiB"),
        (json!({"do": "emit", "count": 3}), "emit", "emitted 3 records, the limit is 2"),
        (json!({"do": "emit", "topic": "elsewhere"}), "forbidden", "`elsewhere`"),
    ];
    let mut records: Vec<_> = orders.iter().map(|(order, ..)| json!({"value": order})).collect();
    records.push(json!({"value": {"do": "emit", "topic": "allowed"}}));
    records.push(json!({"value": {"do": "retry", "times": 1}, "attempt": 2}));
    let records: Vec<_> = records.iter().map(Value::to_string).collect();
    let directory = directory(&records.join("\n"));
    fs::write(directory.path().join("keyway.toml"), CONFIGURATION).unwrap();
    let output = test(directory.path(), &[&["flaky.wasm", "--json"], &RECORDS[..]].concat());
    assert_eq!(output.status.code(), Some(1), "a failure is one without an expectation, too");
    assert!(stderr(&output).contains("5 of 7 records failed"), "{}", stderr(&output));
    let lines = lines(&output);
    for (line, (_, failure, reason)) in lines.iter().zip(&orders) {
        assert_eq!((&line["outcome"], &line["failure"]), (&json!("failed"), &json!(failure)));
        assert!(line["reason"].as_str().unwrap().contains(reason), "{line}");
        assert!(line["start_us"].is_u64(), "an instance that failed is not called again: {line}");
    }
    assert!(lines[1]["took_us"].as_u64() >= Some(1_000_000), "{}", lines[1]);
    assert!(lines[2]["memory_bytes"].as_u64() > Some(4 << 20), "{}", lines[2]);
    assert_eq!(lines[5]["emitted"][0]["topic"], "allowed", "{}", lines[5]);
    assert_eq!((&lines[6]["outcome"], &lines[6]["start_us"]), (&json!("handled"), &Value::Null));
    assert_eq!(lines[7]["outcomes"], json!({"failed": 5, "handled": 2}));
}

#[test]
fn a_key_selector_shows_the_key_and_the_partition_that_it_chooses() {
    let directory = directory("{\"value\": {\"user\": \"ada\"}}\n{\"value\": {}}\n");
    fs::write(directory.path().join("keyway.toml"), CONFIGURATION).unwrap();
    let output = test(directory.path(), &[&["json-key.wasm"], &RECORDS[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("key selector of topic in, 5 partitions, by keyway.toml"), "{text}");
    assert!(text.contains("    key ada, partition "), "{text}");
    assert!(text.contains("    refused: "), "{text}");
    let one = ["json-key.wasm", "--partitions", "1", "--set", "pointer=/name", "--json"];
    let output = test(directory.path(), &[&one, &RECORDS[..]].concat());
    assert_eq!(lines(&output)[0]["outcome"], "refused", "--set is laid over what is configured");
    let one = ["json-key.wasm", "--partitions", "1", "--json"];
    let output = test(directory.path(), &[&one, &RECORDS[..]].concat());
    assert_eq!(
        (&lines(&output)[0]["key"], &lines(&output)[0]["partition"]),
        (&json!("ada"), &json!(0))
    );
}

#[test]
fn another_component_is_tested_in_the_place_of_a_groups_handler() {
    let directory = directory("{\"value\": \"a\"}");
    fs::write(directory.path().join("keyway.toml"), CONFIGURATION).unwrap();
    let output =
        test(directory.path(), &[&["uppercase.wasm", "--as", "strict"], &RECORDS[..]].concat());
    let text = stdout(&output);
    assert!(text.contains("handler of group strict, by keyway.toml"), "{text}");
    assert!(
        text.contains("in/0@0  no key  a\n") && text.contains("\n    to out  no key  A\n"),
        "{text}"
    );
}

#[test]
fn the_tests_of_a_plugin_are_found_beside_it() {
    let directory = directory("");
    let tests = directory.path().join("uppercase/tests");
    fs::create_dir_all(&tests).unwrap();
    fs::write(tests.join("records.jsonl"), "{\"value\": \"a\"}").unwrap();
    let output = test(directory.path(), &["uppercase.wasm"]);
    assert!(
        stdout(&output).contains("1 record of uppercase/tests/records.jsonl"),
        "{}",
        stderr(&output)
    );
    fs::write(tests.join("keyway.toml"), CONFIGURATION.replace("flaky", "uppercase")).unwrap();
    fs::write(tests.join("expected.jsonl"), "{\"outcome\":\"rejected\"}").unwrap();
    let output = test(directory.path(), &["uppercase.wasm"]);
    assert!(
        stdout(&output).contains("of group strict, by uppercase/tests/keyway.toml"),
        "{}",
        stdout(&output)
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("outcome is not as uppercase/tests/expected.jsonl:1 says"));
}

#[test]
fn every_example_in_rust_passes_the_tests_that_it_has_of_itself() {
    for example in ["print", "uppercase", "json-key", "fixed-key", "flaky"] {
        let component = format!("{example}.wasm");
        let tests = examples::tests_of(example);
        let mut arguments = vec![&*component];
        arguments.extend(tests.iter().map(String::as_str));
        let output = test(examples::built(), &arguments);
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    }
}

#[test]
fn wrong_use_exits_with_64_and_says_what_would_do() {
    let directory = directory("{\"value\": 1}\n{\"value\": 2}\n{\"value\": }\n");
    let file = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    file("good.jsonl", "{\"value\": 1}\n");
    file("none.jsonl", "\n");
    file("wrong.jsonl", "{\"outcome\":\"gone\"}");
    file("binary.jsonl", "");
    fs::write(directory.path().join("binary.jsonl"), [0xff]).unwrap();
    fs::create_dir(directory.path().join("empty")).unwrap();
    for (arguments, says) in [
        (
            &["absent"][..],
            "there is no plugin absent: no folder absent, no plugins/absent and no plugins/absent.wasm",
        ),
        (&["absent.wasm"], "there is no absent.wasm"),
        (&["empty"], "empty is no plugin's source folder"),
        (&["good.jsonl"], "good.jsonl is no component: its name does not end in .wasm"),
        (&["print.wasm"], "there is no print/tests/records.jsonl; write it"),
        (&["print.wasm", "-r", "absent.jsonl"], "there is no absent.jsonl"),
        (&["print.wasm", "-r", "records.jsonl"], "records.jsonl:3:11: expected value"),
        (&["print.wasm", "-r", "none.jsonl"], "there is no record in none.jsonl: write one"),
        (&["print.wasm", "-r", "binary.jsonl"], "binary.jsonl is not UTF-8"),
        (&["print.wasm", "-r", "good.jsonl", "-u"], "give --expect FILE"),
        (
            &["print.wasm", "-r", "good.jsonl", "-e", "absent"],
            "there is no absent; --update writes it",
        ),
        (
            &["print.wasm", "-r", "good.jsonl", "-e", "wrong.jsonl"],
            "wrong.jsonl:1:17: unknown variant",
        ),
        (&["print.wasm", "-r", "good.jsonl", "-s", "prefix"], "is KEY=VALUE"),
        (
            &["print.wasm", "-r", "good.jsonl", "-k", "selector"],
            "print is no key selector, but a handler",
        ),
        (
            &["print.wasm", "-r", "good.jsonl", "--as", "x"],
            "nothing called \"x\" in the configuration",
        ),
        (&["print.wasm", "-r", "good.jsonl", "--topic", "t"], "cannot be used with"),
        (&["print.wasm", "-r", "good.jsonl", "--last", "2"], "cannot be used with"),
        (&["print.wasm", "--last", "2"], "--topic <TOPIC>"),
        (&["print.wasm", "-r", "-", "--watch"], "standard input cannot be watched"),
    ] {
        let output = test(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn a_plugin_that_does_not_load_has_failed_its_test() {
    let directory = directory("{\"value\": 1}");
    fs::write(directory.path().join("text.wasm"), "hello").unwrap();
    for (arguments, says) in [
        (&["text.wasm"][..], "text.wasm: it is not a WebAssembly component: it is text"),
        (
            &["json-key.wasm"],
            "json-key.wasm is refused: for a test: no instance: init: config `pointer`",
        ),
        (&["json-key.wasm"], "--set KEY=VALUE gives it one"),
    ] {
        let output = test(directory.path(), &[arguments, &RECORDS[..]].concat());
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
}

#[test]
fn a_watched_test_runs_again_when_the_records_or_the_plugin_change() {
    let directory = directory("{\"value\": \"one\"}");
    let mut child = keyway(
        directory.path(),
        &["plugin", "test", "uppercase.wasm", "--watch", "-r", "records.jsonl"],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let (said, hears) = mpsc::channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        output.lines().map_while(Result::ok).try_for_each(|line| said.send(line))
    });
    let wait_for = |text: &str| loop {
        let line = hears.recv_timeout(Duration::from_secs(60));
        let line = line.unwrap_or_else(|error| panic!("{text:?} was not said: {error}"));
        if line.contains(text) {
            return;
        }
    };
    wait_for("to output  no key  ONE");
    wait_for("1 record: 1 handled");
    fs::write(directory.path().join("records.jsonl"), "{\"value\": ").unwrap();
    fs::write(directory.path().join("records.jsonl"), "{\"value\": \"two\"}").unwrap();
    wait_for("to output  no key  TWO");
    wait_for("1 record: 1 handled");
    examples::install("print", directory.path(), "uppercase");
    wait_for("no key  two");
    wait_for("    handled  ");
    child.kill().unwrap();
    child.wait().unwrap();
}
