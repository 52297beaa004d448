//! How a call ended, as a line of an expectation says it, and whether it ended so. Pure.
//!
//! An expectation is held against what it says: a field that a line leaves out may be whatever it is.

use serde::{Deserialize, Deserializer, Serialize};

use super::{data::Data, records::Header};
use crate::{
    handler::{Failure, Outcome, SelectError, Target},
    record::{self, NewRecord, partition_for_key},
};

/// Characters of a text in which two differ that are shown, and of what is before the difference.
const SHOWN: usize = 160;
const BEFORE: usize = 40;

/// How one call ended, or what a line of an expectation says of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ending {
    pub(super) outcome: Word,
    /// Which bound or rule was broken, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<String>,
    /// Why, in the plugin's words, or in the gateway's where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// When to try again, in milliseconds.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Option<u64>>,
    /// The selected key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<Data>,
    /// The selected partition, or that of the selected key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partition: Option<u32>,
    /// What a handler emitted, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) emitted: Option<Vec<Emitted>>,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Word {
    Handled,
    Retry,
    Rejected,
    Key,
    Partition,
    Spread,
    Refused,
    Failed,
}

/// A record that was emitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Emitted {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<String>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) partition: Option<Option<u32>>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) timestamp: Option<Option<u64>>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<Option<Data>>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<Option<Data>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) headers: Option<Vec<Header>>,
}

/// One thing that is not as expected, each side in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    pub(super) what: String,
    pub(super) expected: String,
    pub(super) got: String,
}

/// A field that is there, `null` or not.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

impl Ending {
    fn of(outcome: Word) -> Self {
        let (failure, reason, after, key, partition, emitted) =
            (None, None, None, None, None, None);
        Self { outcome, failure, reason, after, key, partition, emitted }
    }

    fn failed(failure: &str, reason: String) -> Self {
        Self { failure: Some(failure.to_owned()), reason: Some(reason), ..Self::of(Word::Failed) }
    }

    /// How a handler's call ended.
    pub(super) fn of_outcome(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Handled(records) => {
                let emitted = records.into_iter().map(Emitted::from).collect();
                Self { emitted: Some(emitted), ..Self::of(Word::Handled) }
            }
            Outcome::Retry { reason, after } => {
                let after = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
                Self { reason: Some(reason), after: Some(after), ..Self::of(Word::Retry) }
            }
            Outcome::Reject { reason } => Self { reason: Some(reason), ..Self::of(Word::Rejected) },
            Outcome::Failed(failure) => Self::failed(name(&failure), failure.to_string()),
        }
    }

    /// How a key selector's call ended, for a topic with so many partitions.
    pub(super) fn of_selection(selection: Result<Target, SelectError>, partitions: u32) -> Self {
        match selection {
            Ok(Target::Spread) => Self::of(Word::Spread),
            Ok(Target::Key(key)) => Self {
                partition: Some(partition_for_key(&key, partitions)),
                key: Some(Data(key)),
                ..Self::of(Word::Key)
            },
            Ok(Target::Partition(partition)) => {
                Self { partition: Some(partition), ..Self::of(Word::Partition) }
            }
            Err(SelectError::Refused { reason, .. }) => {
                Self { reason: Some(reason), ..Self::of(Word::Refused) }
            }
            Err(SelectError::Failed { failure, .. }) => {
                Self::failed(name(&failure), failure.to_string())
            }
            Err(error @ SelectError::ImpossiblePartition { .. }) => {
                Self::failed("impossible-partition", error.to_string())
            }
            Err(error @ SelectError::Busy) => Self::failed("busy", error.to_string()),
        }
    }

    /// What an expectation is to say of it: everything, but the words of a failure, which have the lines of sources and
    /// the numbers of limits in them.
    pub(super) fn expectation(&self) -> Self {
        let reason = self.reason.clone().filter(|_| self.outcome != Word::Failed);
        Self { reason, ..self.clone() }
    }

    /// What is otherwise than `self`, the expectation, says. Where the outcome is another, that is all.
    pub(super) fn differences(&self, got: &Self) -> Vec<Difference> {
        if self.outcome != got.outcome {
            return vec![difference("outcome", self.in_words(), got.in_words())];
        }
        let mut differences = Vec::new();
        let mut compare = |what: &str, expected: Option<String>, got: Option<String>| {
            if expected.is_some() && expected != got {
                let words = |text: Option<String>| text.unwrap_or_else(|| "nothing".to_owned());
                differences.push(difference(what, words(expected), words(got)));
            }
        };
        compare("failure", self.failure.clone(), got.failure.clone());
        compare("reason", self.reason.clone(), got.reason.clone());
        compare("after", self.after.map(number), got.after.map(number));
        compare("key", self.key.as_ref().map(text), got.key.as_ref().map(text));
        compare(
            "partition",
            self.partition.map(|p| p.to_string()),
            got.partition.map(|p| p.to_string()),
        );
        if let Some(expected) = &self.emitted {
            let got = got.emitted.as_deref().unwrap_or_default();
            let count =
                |records: &[Emitted]| Some(crate::cli::text::count(records.len() as u64, "record"));
            compare("emitted", count(expected), count(got));
            for (number, (expected, got)) in (1..).zip(expected.iter().zip(got)) {
                expected.compare(got, &mut |part, expected, got| {
                    compare(&format!("{part} of emitted record {number}"), expected, got);
                });
            }
        }
        differences
    }

    /// The outcome and its reason.
    fn in_words(&self) -> String {
        let word = self.outcome.as_str();
        match (&self.reason, &self.failure) {
            (Some(reason), _) => format!("{word}: {reason}"),
            (None, Some(failure)) => format!("{word}: {failure}"),
            (None, None) => word.to_owned(),
        }
    }
}

impl Word {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Handled => "handled",
            Self::Retry => "retry",
            Self::Rejected => "rejected",
            Self::Key => "key",
            Self::Partition => "partition",
            Self::Spread => "spread",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Emitted {
    fn compare(&self, got: &Self, compare: &mut impl FnMut(&str, Option<String>, Option<String>)) {
        let data = |data: &Option<Option<Data>>| data.as_ref().map(payload);
        compare("topic", self.topic.clone(), got.topic.clone());
        compare("partition", self.partition.map(number), got.partition.map(number));
        compare("timestamp", self.timestamp.map(number), got.timestamp.map(number));
        compare("key", data(&self.key), data(&got.key));
        compare("value", data(&self.value), data(&got.value));
        let headers = |headers: &Option<Vec<Header>>| {
            let all = headers.as_ref()?.iter();
            Some(
                all.map(|h| format!("{} = {}", h.key, payload(&h.value)))
                    .collect::<Vec<_>>()
                    .join("; "),
            )
        };
        compare("headers", headers(&self.headers), headers(&got.headers));
    }
}

impl From<NewRecord> for Emitted {
    fn from(record: NewRecord) -> Self {
        let header = |record::Header { key, value }| Header { key, value: value.map(Data) };
        Self {
            topic: Some(record.topic.to_string()),
            partition: Some(record.partition),
            timestamp: Some(record.timestamp),
            key: Some(record.key.map(Data)),
            value: Some(record.value.map(Data)),
            headers: Some(record.headers.into_iter().map(header).collect()),
        }
    }
}

/// What a failure is called.
fn name(failure: &Failure) -> &'static str {
    match failure {
        Failure::Trap(_) => "trap",
        Failure::Timeout(_) => "timeout",
        Failure::Memory(_) => "memory",
        Failure::Emit { .. } => "emit",
        Failure::Held { .. } => "held",
        Failure::Forbidden(_) => "forbidden",
        Failure::Instance(_) => "instance",
    }
}

fn number<T: ToString>(number: Option<T>) -> String {
    number.map_or_else(|| "null".to_owned(), |number| number.to_string())
}

fn payload(data: &Option<Data>) -> String {
    data.as_ref().map_or_else(|| "null".to_owned(), text)
}

/// As it stands in the file, so that text, nothing and bytes are told apart.
fn text(data: &Data) -> String {
    serde_json::to_string(data).unwrap_or_default()
}

fn difference(what: &str, expected: String, got: String) -> Difference {
    let (expected, got) = around(&expected, &got);
    Difference { what: what.to_owned(), expected, got }
}

/// Both texts where they begin to differ: long ones without what is the same before, and what is far behind.
fn around(one: &str, other: &str) -> (String, String) {
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let left_out = if one.chars().count().max(other.chars().count()) <= SHOWN {
        0
    } else {
        same.saturating_sub(BEFORE)
    };
    let cut = |text: &str| {
        let before = if left_out > 0 { "…" } else { "" };
        let shown: String = text.chars().skip(left_out).take(SHOWN).collect();
        let behind = if text.chars().count() > left_out + SHOWN { "…" } else { "" };
        format!("{before}{shown}{behind}")
    };
    (cut(one), cut(other))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::handler::Generation;

    fn handled(values: &[&str]) -> Ending {
        let record = |value: &&str| NewRecord::new("out", (*value).to_owned());
        Ending::of_outcome(Outcome::Handled(values.iter().map(record).collect()))
    }

    fn expected(line: &str) -> Ending {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    fn whats(expected: &Ending, got: &Ending) -> Vec<String> {
        expected.differences(got).into_iter().map(|difference| difference.what).collect()
    }

    fn generation() -> Generation {
        Generation { plugin: "p".into(), digest: [0; 32] }
    }

    #[test]
    fn what_is_written_says_everything_and_is_met() {
        let line = |ending: &Ending| serde_json::to_string(&ending.expectation()).unwrap();
        let rejected = Outcome::Reject { reason: "no".into() };
        let retry = Outcome::Retry { reason: "busy".into(), after: Some(Duration::from_secs(1)) };
        let forever = Outcome::Retry { reason: "busy".into(), after: None };
        let trap = Outcome::Failed(Failure::Trap("unreachable".into()));
        for (ending, expected) in [
            (
                handled(&[r#"{"a":1}"#]),
                r#"{"outcome":"handled","emitted":[{"topic":"out","partition":null,"timestamp":null,"key":null,"value":{"a":1},"headers":[]}]}"#,
            ),
            (Ending::of_outcome(rejected), r#"{"outcome":"rejected","reason":"no"}"#),
            (Ending::of_outcome(retry), r#"{"outcome":"retry","reason":"busy","after":1000}"#),
            (Ending::of_outcome(forever), r#"{"outcome":"retry","reason":"busy","after":null}"#),
            (Ending::of_outcome(trap), r#"{"outcome":"failed","failure":"trap"}"#),
            (
                Ending::of_selection(Ok(Target::Key(Bytes::from_static(b"foobar"))), 3),
                r#"{"outcome":"key","key":"foobar","partition":0}"#,
            ),
            (
                Ending::of_selection(Ok(Target::Partition(2)), 3),
                r#"{"outcome":"partition","partition":2}"#,
            ),
            (Ending::of_selection(Ok(Target::Spread), 3), r#"{"outcome":"spread"}"#),
            (
                Ending::of_selection(
                    Err(SelectError::Refused { generation: generation(), reason: "no".into() }),
                    3,
                ),
                r#"{"outcome":"refused","reason":"no"}"#,
            ),
        ] {
            assert_eq!(line(&ending), expected);
            let read: Ending = serde_json::from_str(expected).unwrap();
            assert_eq!(read.differences(&ending), [], "{expected}");
        }
    }

    #[test]
    fn what_is_left_out_may_be_anything_and_null_is_not_left_out() {
        let got = handled(&["a", "b"]);
        assert!(whats(&expected(r#"{"outcome":"handled"}"#), &got).is_empty());
        let some = expected(r#"{"outcome":"handled","emitted":[{"value":"a"},{"key":null}]}"#);
        assert!(whats(&some, &got).is_empty());
        let tombstone = expected(r#"{"outcome":"handled","emitted":[{"value":null},{}]}"#);
        assert_eq!(
            tombstone.differences(&got),
            [difference("value of emitted record 1", "null".into(), "\"a\"".into())]
        );
        let failed = Ending::of_outcome(Outcome::Failed(Failure::Memory(1 << 20)));
        assert!(whats(&expected(r#"{"outcome":"failed"}"#), &failed).is_empty());
        let trap = expected(r#"{"outcome":"failed","failure":"trap"}"#);
        assert_eq!(whats(&trap, &failed), ["failure"]);
    }

    #[test]
    fn each_thing_that_differs_is_told_but_not_what_follows_from_another_outcome() {
        assert_eq!(
            whats(&handled(&["a", "b"]), &handled(&["x"])),
            ["emitted", "value of emitted record 1"]
        );
        let rejected = Ending::of_outcome(Outcome::Reject { reason: "no such user".into() });
        let differences = handled(&["a"]).differences(&rejected);
        assert_eq!(
            differences,
            [difference("outcome", "handled".into(), "rejected: no such user".into())]
        );
        let key = |key: &'static str| Ending::of_selection(Ok(Target::Key(key.into())), 100);
        assert_eq!(whats(&key("a"), &key("b")), ["key", "partition"]);
    }

    #[test]
    fn no_part_of_an_emitted_record_is_overlooked() {
        let record = NewRecord::new("out", "v");
        let header = record::Header { key: "h".into(), value: None };
        for (part, changed) in [
            ("topic", NewRecord { topic: "other".into(), ..record.clone() }),
            ("partition", NewRecord { partition: Some(0), ..record.clone() }),
            ("key", NewRecord { key: Some(Bytes::new()), ..record.clone() }),
            ("value", NewRecord { value: None, ..record.clone() }),
            ("headers", NewRecord { headers: vec![header], ..record.clone() }),
            ("timestamp", NewRecord { timestamp: Some(1), ..record.clone() }),
        ] {
            let [expected, got] = [&record, &changed]
                .map(|it| Ending::of_outcome(Outcome::Handled(vec![it.clone()])));
            assert_eq!(whats(&expected, &got), [format!("{part} of emitted record 1")]);
        }
    }

    #[test]
    fn a_mistake_in_an_expectation_is_an_error() {
        for wrong in [
            r#"{"emitted":[]}"#,
            r#"{"outcome":"done"}"#,
            r#"{"outcome":"handled","emited":[]}"#,
            r#"{"outcome":"handled","emitted":[{"valeu":1}]}"#,
        ] {
            assert!(serde_json::from_str::<Ending>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn long_texts_are_shown_where_they_differ() {
        let text = |end: &str| format!("{}{end}", "x".repeat(1000));
        let (one, other) = around(&text("a"), &text("b"));
        assert_eq!(
            (one, other),
            (format!("…{}a", "x".repeat(BEFORE)), format!("…{}b", "x".repeat(BEFORE)))
        );
        assert_eq!(around("same a", "same b"), ("same a".to_owned(), "same b".to_owned()));
        let (one, other) = around("a", &"b".repeat(1000));
        assert_eq!((one.as_str(), other.chars().count()), ("a", SHOWN + 1));
    }
}
