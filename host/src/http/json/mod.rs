//! A record as JSON: `{"topic"?, "key"?, "value", "partition"?, "headers"?, "timestamp"?}`.
//!
//! Pure: text in, record or problem out. A string value is its UTF-8 bytes, `null` a tombstone, any other JSON its
//! compact text: the caller's own, without the whitespace between its tokens, so that no digit of a number, no order
//! and no repetition of keys is lost. Whatever is wrong is reported with its place.

mod compact;
mod members;

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use serde_json::{error::Category, value::RawValue};

pub use self::compact::{DEPTH, TooDeep, compact};
use self::{
    compact::is_whitespace,
    members::{Member, members, offset_in, without_place},
};
use super::{
    names::{TOPIC_RULE, is_topic_name, partition_number, topic_or_default},
    problem::{Code, Problem},
};
use crate::record::{Header, NewRecord};

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

/// Reads a record as `POST /send-message` takes it, of `topic` where it names none.
///
/// # Errors
/// What is wrong, and where.
pub fn parse_record(text: &Bytes, topic: &Arc<str>) -> Result<NewRecord, String> {
    parse(text, Some(topic)).map_err(|problem| match problem.more.field {
        Some(field) if !field.is_empty() => format!("{field}: {}", problem.detail),
        _ => problem.detail,
    })
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
        members(json, list).map_err(|error| {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests;
