//! What a JSON body is read as, and what is said of one that cannot be.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{members::MEMBERS, *};

fn parse_text(text: &str) -> Result<NewRecord, Problem> {
    parse(&Bytes::copy_from_slice(text.as_bytes()), Some(&"default".into()))
}

fn value_of(text: &str) -> Option<Bytes> {
    parse_text(&format!(r#"{{"value": {text}}}"#)).unwrap().value
}

#[test]
fn every_field_arrives() {
    let record = parse_text(
        r#" { "topic":"t", "key":"k", "value":"v", "partition":2, "timestamp":1700000000000,
              "headers":{"a":"1","b":null,"a":"2"} } "#,
    );
    let header = |key: &str, value: Option<&'static str>| Header {
        key: key.into(),
        value: value.map(Bytes::from),
    };
    assert_eq!(
        record,
        Ok(NewRecord {
            topic: "t".into(),
            partition: Some(2),
            timestamp: Some(1_700_000_000_000),
            key: Some("k".into()),
            value: Some("v".into()),
            headers: vec![header("a", Some("1")), header("b", None), header("a", Some("2"))],
        })
    );
    let listed = r#"{"value":1,"headers":[{"key":"a","value":"1"},{"value":null,"key":"b"}]}"#;
    assert_eq!(parse_text(listed).unwrap().headers, [header("a", Some("1")), header("b", None)]);
}

#[test]
fn null_means_not_given_but_for_the_value_where_it_is_a_tombstone() {
    let text = r#"{"topic":null,"key":null,"value":null,"partition":null,"headers":null,"timestamp":null}"#;
    let record = parse_text(text).unwrap();
    let expected = NewRecord { value: None, ..NewRecord::new("default", "") };
    assert_eq!(record, expected);
}

#[test]
fn a_string_is_its_bytes_and_anything_else_its_compact_text() {
    for (json, expected) in [
        (r#""text""#, "text"),
        (r#""""#, ""),
        (r#""\u00e9\n\ud83d\ude00\/""#, "\u{e9}\n\u{1f600}/"),
        ("\"\u{e9}\"", "\u{e9}"),
        ("1.10", "1.10"),
        ("1e400", "1e400"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("true", "true"),
        ("{ \"b\" : [ 1 , \" \" ] ,\n \"a\" : { } }", r#"{"b":[1," "],"a":{}}"#),
        (r#"{"null":null}"#, r#"{"null":null}"#),
        (r#"["\ud800"]"#, r#"["\ud800"]"#),
    ] {
        assert_eq!(value_of(json).as_deref(), Some(expected.as_bytes()), "{json}");
    }
}

#[test]
fn a_text_without_escapes_is_not_copied() {
    let body = Bytes::from_static(br#"{"value":"some text","key":"k"}"#);
    let record = parse(&body, Some(&"t".into())).unwrap();
    assert_eq!(record.value.unwrap().as_ptr(), body[10..].as_ptr());
}

#[test]
fn names_may_be_escaped_and_a_byte_order_mark_is_ignored() {
    let record = parse_text("\u{feff}{\"\\u006bey\":\"k\",\"value\":0}").unwrap();
    assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
}

#[test]
fn whatever_is_wrong_is_told_with_its_place() {
    use Code::*;
    for (text, code, field, line, column) in [
        ("", MalformedJson, None, 1, 1),
        (" \n ", MalformedJson, None, 1, 1),
        ("nope", MalformedJson, None, 1, 2),
        ("{\"value\":1\n", MalformedJson, None, 2, 1),
        ("{\n  \"value\": 1,\n}", MalformedJson, None, 3, 1),
        ("{\"value\":1}{", MalformedJson, None, 1, 12),
        ("{\"value\": 01}", MalformedJson, None, 1, 12),
        ("{\"value\": \"\u{1}\"}", MalformedJson, None, 1, 11),
        ("{\"value\": NaN}", MalformedJson, None, 1, 11),
        ("[1]", InvalidField, Some(""), 1, 1),
        ("\"x\"", InvalidField, Some(""), 1, 3),
        ("{}", MissingField, Some("/value"), 1, 1),
        ("{\"value\":1,\n\"vaule\":2}", UnknownField, Some("/vaule"), 2, 1),
        ("{\"a/b\":1}", UnknownField, Some("/a~1b"), 1, 2),
        ("{\"value\":1,\"value\":2}", DuplicateField, Some("/value"), 1, 12),
        ("{\"value\":1,\"key\":7}", InvalidField, Some("/key"), 1, 18),
        ("{\"value\":1,\"key\":{}}", InvalidField, Some("/key"), 1, 18),
        ("{\"value\":1,\"topic\":\"no topic\"}", InvalidField, Some("/topic"), 1, 20),
        ("{\"value\":1,\"topic\":\"\"}", InvalidField, Some("/topic"), 1, 20),
        ("{\"value\":1,\"partition\":\"1\"}", InvalidField, Some("/partition"), 1, 24),
        ("{\"value\":1,\"partition\":-1}", InvalidField, Some("/partition"), 1, 24),
        ("{\"value\":1,\"partition\":1.0}", InvalidField, Some("/partition"), 1, 24),
        ("{\"value\":1,\"partition\":2147483648}", InvalidField, Some("/partition"), 1, 24),
        ("{\"value\":1,\"timestamp\":-1}", InvalidField, Some("/timestamp"), 1, 24),
        ("{\"value\":1,\"headers\":1}", InvalidField, Some("/headers"), 1, 22),
        ("{\"value\":1,\"headers\":{\"a\":1}}", InvalidField, Some("/headers/a"), 1, 27),
        ("{\"value\":1,\"headers\":[1]}", InvalidField, Some("/headers/0"), 1, 23),
        ("{\"value\":1,\"headers\":[{}]}", MissingField, Some("/headers/0"), 1, 23),
        (
            "{\"value\":1,\"headers\":[{\"key\":\"\",\"x\":1}]}",
            UnknownField,
            Some("/headers/0/x"),
            1,
            33,
        ),
        ("{\"value\":1,\"headers\":{\"\\u0000\":\"\"}}", InvalidField, Some("/headers/\0"), 1, 32),
        ("{\"value\":\"\\ud800\"}", InvalidField, Some("/value"), 1, 17),
    ] {
        let problem = parse_text(text).unwrap_err();
        let more = &problem.more;
        assert_eq!(
            (problem.code, more.field.as_deref(), more.line, more.column),
            (code, field, Some(line), Some(column)),
            "{text}: {problem:?}"
        );
    }
}

#[test]
fn a_body_that_is_not_utf_8_is_told_where() {
    let problem = parse(&Bytes::from_static(b"{\"value\":\n\"\xff\"}"), None).unwrap_err();
    let place = (problem.code, problem.more.line, problem.more.column);
    assert_eq!(place, (Code::MalformedJson, Some(2), Some(2)));
}

#[test]
fn nesting_and_members_are_bounded() {
    let deep = format!(r#"{{"value":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let problem = parse_text(&deep).unwrap_err();
    assert_eq!((problem.code, problem.more.limit), (Code::InvalidField, Some(128)));
    let headers = vec![r#""a":"b""#; MEMBERS + 1].join(",");
    let problem = parse_text(&format!(r#"{{"value":1,"headers":{{{headers}}}}}"#)).unwrap_err();
    assert_eq!(problem.more.field.as_deref(), Some("/headers"));
}

#[test]
fn a_record_without_a_topic_needs_a_default() {
    let problem = parse(&Bytes::from_static(br#"{"value":1}"#), None).unwrap_err();
    assert_eq!(problem.code, Code::NoTopic);
}

proptest! {
    #[test]
    fn strings_come_through_as_serde_json_writes_them(value in ".*", key in ".*") {
        let record = parse_text(&json!({"value": value, "key": key}).to_string()).unwrap();
        prop_assert_eq!(record.value.as_deref(), Some(value.as_bytes()));
        prop_assert_eq!(record.key.as_deref(), Some(key.as_bytes()));
    }

    #[test]
    fn what_serde_json_does_not_read_is_not_read_here(text in r#"[{}\[\]",:a0\\u \n.-]{0,24}"#) {
        let body = format!(r#"{{"value":{text}}}"#);
        let here = parse_text(&body);
        if serde_json::from_str::<Value>(&body).is_err() {
            // Numbers that do not fit and surrogates without their other half are text all the same.
            let excused = text.contains("\\u") || text.contains('0');
            prop_assert!(here.is_err() || excused, "{}", body);
        } else if let Ok(record) = here {
            let model = &serde_json::from_str::<Value>(&body).unwrap()["value"];
            let read = match (&record.value, model) {
                (None, _) => Value::Null,
                (Some(bytes), Value::String(_)) => std::str::from_utf8(bytes).unwrap().into(),
                (Some(bytes), _) => serde_json::from_slice(bytes).unwrap(),
            };
            prop_assert_eq!(&read, model);
        }
    }
}
