//! An object or an array as its members, each its own JSON text: nothing in them is read yet, and nothing is lost.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Unexpected, Visitor},
};
use serde_json::value::RawValue;

/// How many members an object or an array may have.
pub(super) const MEMBERS: usize = 1024;

/// A member's name, or its index, and its text.
pub(super) type Member<'a> = (Cow<'a, str>, &'a RawValue);

/// What an object has, or with `list` what an array has.
pub(super) fn members(json: &str, list: bool) -> serde_json::Result<Vec<Member<'_>>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let members = deserializer.deserialize_any(Members { list })?;
    deserializer.end()?;
    Ok(members)
}

/// Where in `json` the error is: its line and column count from 1, and bytes.
pub(super) fn offset_in(json: &str, error: &serde_json::Error) -> usize {
    let lines = json.split_inclusive('\n').take(error.line().saturating_sub(1));
    let line = lines.map(str::len).sum::<usize>();
    (line + error.column().saturating_sub(1)).min(json.len())
}

/// The error's text without the place, which is counted within a part of the body.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    text.truncate(text.rfind(" at line ").unwrap_or(text.len()));
    text
}

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
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        let mut members = Vec::new();
        while let Some(value) = seq.next_element()? {
            let index = Cow::Owned(members.len().to_string());
            push(&mut members, (index, value))?;
        }
        Ok(members)
    }
}

fn push<'de, E: Error>(members: &mut Vec<Member<'de>>, member: Member<'de>) -> Result<(), E> {
    if members.len() == MEMBERS {
        return Err(E::custom(format!("there are more than {MEMBERS} members")));
    }
    members.push(member);
    Ok(())
}
