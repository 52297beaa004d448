//! A record as JSON: `{"topic"?, "key"?, "value", "partition"?, "headers"?, "timestamp"?}`.
//!
//! Pure: text in, record or problem out. A string value is its UTF-8 bytes, `null` a tombstone, any other JSON its
//! compact text: the caller's own, without the whitespace between its tokens, so that no digit of a number, no order
//! and no repetition of keys is lost. Whatever is wrong is reported with its place.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

use super::{
    compact::{DEPTH, TooDeep, compact, is_whitespace},
    names::{TOPIC_RULE, is_topic_name, partition_number, topic_or_default},
    problem::{Code, Problem},
};
use crate::record::{Header, NewRecord};

/// How many members an object, and how many entries a list of headers, may have.
const MEMBERS: usize = 1024;

/// Reads a record from a request's body.
pub(super) fn parse(body: &Bytes, default_topic: Option<&Arc<str>>) -> Result<NewRecord, Problem> {
    let malformed = |at, detail| Err(Problem::new(Code::MalformedJson, detail).at(body, at));
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => return malformed(error.valid_up_to(), "the body is not UTF-8 here"),
    };
    // RFC 8259 lets a parser ignore a byte order mark; some clients cannot be talked out of it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.bytes().all(is_whitespace) {
        return malformed(0, r#"the body is empty; a record is {"value": ...}"#);
    }
    Document { body }.record(text, default_topic)
}

/// The body that every text below is a part of, so that places and bytes can be had without a copy.
#[derive(Clone, Copy)]
struct Document<'a> {
    body: &'a Bytes,
}

impl<'a> Document<'a> {
    fn record(self, text: &'a str, default_topic: Option<&Arc<str>>) -> Result<NewRecord, Problem> {
        let names = ["topic", "key", "value", "partition", "headers", "timestamp"];
        let [topic, key, value, partition, headers, timestamp] = self.fields(text, "", names)?;
        let value = value.ok_or_else(|| {
            let rule = "the record has no \"value\"; a tombstone is \"value\": null";
            self.problem(Code::MissingField, "/value", self.offset(text), rule)
        })?;
        let topic = given(topic).map(|raw| self.topic(raw)).transpose()?;
        Ok(NewRecord {
            topic: topic_or_default(topic.as_deref(), default_topic)?,
            partition: given(partition).map(|raw| self.partition(raw)).transpose()?,
            timestamp: given(timestamp).map(|raw| self.timestamp(raw)).transpose()?,
            key: given(key)
                .map(|raw| self.bytes(raw, "/key", "\"key\" is a string, or null"))
                .transpose()?,
            value: given(Some(value)).map(|raw| self.value(raw)).transpose()?,
            headers: given(headers).map_or(Ok(Vec::new()), |raw| self.headers(raw))?,
        })
    }

    fn topic(self, raw: &'a RawValue) -> Result<Cow<'a, str>, Problem> {
        let name = self.text(raw, "/topic", "\"topic\" is a string, or null")?;
        if is_topic_name(&name) { Ok(name) } else { Err(self.wrong(raw, "/topic", TOPIC_RULE)) }
    }

    fn partition(self, raw: &RawValue) -> Result<u32, Problem> {
        partition_number(raw.get()).ok_or_else(|| {
            self.wrong(raw, "/partition", "\"partition\" is a whole number from 0 on, or null")
        })
    }

    fn timestamp(self, raw: &RawValue) -> Result<u64, Problem> {
        let milliseconds = raw.get().parse().ok().filter(|given| i64::try_from(*given).is_ok());
        milliseconds.ok_or_else(|| {
            let rule =
                "\"timestamp\" is a whole number of milliseconds since 1970, from 0 on, or null";
            self.wrong(raw, "/timestamp", rule)
        })
    }

    fn value(self, raw: &'a RawValue) -> Result<Bytes, Problem> {
        let json = raw.get();
        if json.starts_with('"') {
            return self.bytes(raw, "/value", "");
        }
        match compact(json) {
            Ok(Cow::Borrowed(text)) => Ok(self.body.slice_ref(text.as_bytes())),
            Ok(Cow::Owned(text)) => Ok(text.into()),
            Err(TooDeep { at }) => {
                let rule = format!("the value is nested deeper than {DEPTH} levels here");
                let problem =
                    self.problem(Code::InvalidField, "/value", self.offset(json) + at, rule);
                Err(problem.limit(DEPTH))
            }
        }
    }

    /// Both shapes of headers: `{"name": "value"}`, and `[{"key": "name", "value": "value"}]` as the admin API shows
    /// them. Names may repeat in either, and values may be null.
    fn headers(self, raw: &'a RawValue) -> Result<Vec<Header>, Problem> {
        let list = match raw.get().as_bytes()[0] {
            b'{' => false,
            b'[' => true,
            _ => {
                let rule =
                    r#""headers" is {"name": "value"} or [{"key": "name", "value": "value"}]"#;
                return Err(self.wrong(raw, "/headers", rule));
            }
        };
        let headers = self.members(raw.get(), "/headers", list)?.into_iter();
        let headers = headers.map(|(name, raw)| {
            let pointer = child("/headers", &name);
            if list { self.entry(raw, &pointer) } else { self.header(name, raw, &pointer) }
        });
        headers.collect()
    }

    /// A header as an entry of a list.
    fn entry(self, raw: &'a RawValue, pointer: &str) -> Result<Header, Problem> {
        let [key, value] = self.fields(raw.get(), pointer, ["key", "value"])?;
        let (Some(key), Some(value)) = (key, value) else {
            let rule = "a header has \"key\" and \"value\"";
            return Err(self.problem(Code::MissingField, pointer, self.offset(raw.get()), rule));
        };
        let name = self.text(key, &format!("{pointer}/key"), "a header's name is a string")?;
        self.header(name, value, &format!("{pointer}/value"))
    }

    fn header(
        self,
        name: Cow<'a, str>,
        value: &'a RawValue,
        pointer: &str,
    ) -> Result<Header, Problem> {
        // Kafka could keep it, librdkafka's interface cannot: its names end with that character.
        if name.contains('\0') {
            let rule = "a header's name cannot have the character U+0000";
            return Err(self.problem(Code::InvalidField, pointer, self.offset(value.get()), rule));
        }
        let rule = "a header's value is a string, or null";
        let value = given(Some(value)).map(|raw| self.bytes(raw, pointer, rule)).transpose()?;
        Ok(Header { key: name.into_owned(), value })
    }

    /// A string's bytes; a part of the body where it has no escapes.
    fn bytes(self, raw: &'a RawValue, pointer: &str, rule: &str) -> Result<Bytes, Problem> {
        Ok(match self.text(raw, pointer, rule)? {
            Cow::Borrowed(text) => self.body.slice_ref(text.as_bytes()),
            Cow::Owned(text) => text.into(),
        })
    }

    fn text(self, raw: &'a RawValue, pointer: &str, rule: &str) -> Result<Cow<'a, str>, Problem> {
        let json = raw.get();
        let Some(inner) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return Err(self.wrong(raw, pointer, rule));
        };
        if !inner.contains('\\') {
            return Ok(Cow::Borrowed(inner));
        }
        // The escapes have been checked but for one thing: whether surrogates come in pairs.
        serde_json::from_str(json).map(Cow::Owned).map_err(|error| {
            let at = self.offset(json) + offset_in(json, &error);
            self.problem(Code::InvalidField, pointer, at, without_place(&error))
        })
    }

    /// The fields `names` of an object, each at most once and no others.
    fn fields<const N: usize>(
        self,
        json: &'a str,
        pointer: &str,
        names: [&str; N],
    ) -> Result<[Option<&'a RawValue>; N], Problem> {
        let mut fields = [None; N];
        for (name, value) in self.members(json, pointer, false)? {
            let (code, rule) = match names.iter().position(|field| *field == name) {
                Some(index) if fields[index].is_none() => {
                    fields[index] = Some(value);
                    continue;
                }
                Some(_) => (Code::DuplicateField, format!("{name:?} is there twice")),
                None => {
                    let rule =
                        format!("there is no field {name:?}; there are {}", names.join(", "));
                    (Code::UnknownField, rule)
                }
            };
            let at = match name {
                Cow::Borrowed(name) => self.offset(name).saturating_sub(1), // the quote before it
                Cow::Owned(_) => self.offset(value.get()),
            };
            return Err(self.problem(code, &child(pointer, &name), at, rule));
        }
        Ok(fields)
    }

    /// What an object has, or with `list` an array, whose names are then its indices.
    fn members(self, json: &'a str, pointer: &str, list: bool) -> Result<Vec<Member<'a>>, Problem> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let members = deserializer.deserialize_any(Members { list });
        members.and_then(|members| deserializer.end().map(|()| members)).map_err(|error| {
            let at = self.offset(json) + offset_in(json, &error);
            let detail = without_place(&error);
            match error.classify() {
                Category::Data => self.problem(Code::InvalidField, pointer, at, detail),
                Category::Syntax | Category::Eof | Category::Io => {
                    Problem::new(Code::MalformedJson, detail).at(self.body, at)
                }
            }
        })
    }

    /// A problem with one field, at `at` bytes into the body.
    fn problem(self, code: Code, pointer: &str, at: usize, detail: impl Into<String>) -> Problem {
        Problem::new(code, detail).at(self.body, at).field(pointer)
    }

    /// A field is not what `rule` says.
    fn wrong(self, raw: &RawValue, pointer: &str, rule: &str) -> Problem {
        let detail = format!("{rule}; given: {}", Excerpt(raw.get()));
        self.problem(Code::InvalidField, pointer, self.offset(raw.get()), detail)
    }

    /// Where in the body this part of it begins.
    fn offset(self, part: &str) -> usize {
        (part.as_ptr() as usize).saturating_sub(self.body.as_ptr() as usize)
    }
}

/// A field that is there and not null.
fn given(field: Option<&RawValue>) -> Option<&RawValue> {
    field.filter(|raw| raw.get() != "null")
}

/// The pointer to what has this name in what `pointer` points to.
fn child(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Where in `json` the error is: its line and column count from 1, and bytes.
fn offset_in(json: &str, error: &serde_json::Error) -> usize {
    let lines = json.split_inclusive('\n').take(error.line().saturating_sub(1));
    let line = lines.map(str::len).sum::<usize>();
    (line + error.column().saturating_sub(1)).min(json.len())
}

/// The error's text without the place, which is counted within a part of the body.
fn without_place(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    text.truncate(text.rfind(" at line ").unwrap_or(text.len()));
    text
}

/// The beginning of something that was given.
struct Excerpt<'a>(&'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(60) {
            Some((end, _)) => write!(f, "{}...", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}

type Member<'a> = (Cow<'a, str>, &'a RawValue);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members {
    list: bool,
}

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.list { "an array" } else { "an object" })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some((Name(name), value)) = map.next_entry()? {
            push(&mut members, (name, value))?;
        }
        Ok(members)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        if !self.list {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let mut members = Vec::new();
        while let Some(value) = seq.next_element()? {
            let index = Cow::Owned(members.len().to_string());
            push(&mut members, (index, value))?;
        }
        Ok(members)
    }
}

fn push<'de, E: serde::de::Error>(
    members: &mut Vec<Member<'de>>,
    member: Member<'de>,
) -> Result<(), E> {
    if members.len() == MEMBERS {
        return Err(E::custom(format!("there are more than {MEMBERS} members")));
    }
    members.push(member);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

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
        assert_eq!(
            parse_text(listed).unwrap().headers,
            [header("a", Some("1")), header("b", None)]
        );
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
            (
                "{\"value\":1,\"headers\":{\"\\u0000\":\"\"}}",
                InvalidField,
                Some("/headers/\0"),
                1,
                32,
            ),
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
}
