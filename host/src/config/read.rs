//! Small typed readers over the tree. A reader that finds something wrong reports it and gives `None`, and the walk
//! goes on: that is how everything wrong is found at once. Whatever default then stands in is never seen, for a
//! configuration with a report is refused as a whole.

use std::{
    fmt::Display,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytesize::ByteSize;

use super::{
    document::{Entries, Node, Origin, Value},
    environment,
    report::{Fault, Report, child, given, listing, nearest},
};

/// A table while it is read. Every key that is asked for becomes a known one; [`Table::finish`] reports the rest.
pub(super) struct Table<'a> {
    report: &'a Report<'a>,
    path: String,
    origin: Origin,
    entries: Option<&'a Entries>,
    /// It is there, but not as a table; that is reported, and what it lacks therefore is not.
    broken: bool,
    known: Vec<&'static str>,
}

/// A value while it is read.
#[derive(Clone)]
pub(super) struct Field<'a> {
    report: &'a Report<'a>,
    path: String,
    node: &'a Node,
}

impl<'a> Table<'a> {
    /// The whole document.
    pub(super) fn root(document: &'a Node, report: &'a Report<'a>) -> Self {
        Field { report, path: String::new(), node: document }.table()
    }

    /// The value of a key, where it is given.
    pub(super) fn field(&mut self, key: &'static str) -> Option<Field<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let node = &self.entries?.get(key)?.node;
        Some(Field { report: self.report, path: child(&self.path, key), node })
    }

    /// The value of a key that has to be given; `what` says what for.
    pub(super) fn required(&mut self, key: &'static str, what: &str) -> Option<Field<'a>> {
        let field = self.field(key);
        if field.is_none() && !self.broken {
            self.report.push(
                &self.origin,
                &child(&self.path, key),
                format!("missing, give {what}"),
            );
        }
        field
    }

    /// Reads the value of a key, where it is given.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Field<'a>) -> Option<T>,
    ) -> Option<T> {
        self.field(key).and_then(|field| read(&field))
    }

    /// The table of a key. One that is not given is as one with nothing in it.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'a> {
        match self.field(key) {
            Some(field) => field.table(),
            None => Table {
                report: self.report,
                path: child(&self.path, key),
                origin: self.origin.clone(),
                entries: None,
                broken: false,
                known: Vec::new(),
            },
        }
    }

    /// The tables of a `[[key]]`, each known in messages by what it has under `name`.
    pub(super) fn tables(&mut self, key: &'static str, name: &str) -> Vec<Table<'a>> {
        let Some(list) = self.field(key) else { return Vec::new() };
        let Value::Array(items) = &list.node.value else {
            list.refuse("not a list of tables", &format!("write [[{key}]] above each"));
            return Vec::new();
        };
        let table = |(index, node): (usize, &'a Node)| {
            let path = match node.get(name).and_then(Node::text) {
                Some(name) if !name.is_empty() => child(key, name),
                _ => format!("{key}[{index}]"),
            };
            Field { report: self.report, path, node }.table()
        };
        items.iter().enumerate().map(table).collect()
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        for (key, entry) in self.entries.into_iter().flatten() {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let near = nearest(key, self.known.iter().copied());
            let message = match (&entry.key, near) {
                (Origin::File(_), Some(near)) => format!("unknown key, did you mean {near:?}?"),
                (Origin::Environment(variable), Some(near)) => format!(
                    "unknown key {key:?}, did you mean {}?",
                    environment::with_key(variable, key, near)
                ),
                (_, None) => {
                    let known = listing(self.known.iter().copied(), "and");
                    format!("unknown key, got {key:?}, known here are {known}")
                }
            };
            self.report.push(&entry.key, &child(&self.path, key), message);
        }
    }
}

impl<'a> Field<'a> {
    pub(super) fn is_environment(&self) -> bool {
        self.node.origin.is_environment()
    }

    /// Its text where it has one, for a reader that tries another next.
    pub(super) fn peek(&self) -> Option<&'a str> {
        self.node.text()
    }

    /// Reports what is wrong with this value.
    pub(super) fn refuse(&self, wrong: &str, remedy: &str) {
        let message = format!("{wrong}, got {}, {remedy}", given(self.node));
        self.report.push(&self.node.origin, &self.path, message);
    }

    pub(super) fn table(&self) -> Table<'a> {
        let entries = match &self.node.value {
            Value::Table(entries) => Some(entries),
            Value::Untyped { .. } => {
                self.refuse(
                    "not a table",
                    "set its keys one by one, each in a variable of its own",
                );
                None
            }
            _ => {
                self.refuse("not a table", "write it as { key = value }");
                None
            }
        };
        Table {
            report: self.report,
            path: self.path.clone(),
            origin: self.node.origin.clone(),
            entries,
            broken: entries.is_none(),
            known: Vec::new(),
        }
    }

    pub(super) fn list(&self) -> Option<Vec<Field<'a>>> {
        let Some(items) = self.node.items() else {
            self.refuse("not a list", "write it in brackets, such as [\"one\", \"two\"]");
            return None;
        };
        let item = |(index, node): (usize, &'a Node)| Field {
            report: self.report,
            path: format!("{}[{index}]", self.path),
            node,
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The values of a table whose keys are the user's own, each as text.
    pub(super) fn texts(&self) -> Vec<(&'a str, Field<'a>, String)> {
        let value = |(key, entry): (&'a String, &'a super::document::Entry)| {
            let field =
                Field { report: self.report, path: child(&self.path, key), node: &entry.node };
            let text = match &entry.node.value {
                Value::String(text) | Value::Untyped { text, .. } | Value::Other(text) => {
                    text.clone()
                }
                Value::Integer(integer) => integer.to_string(),
                Value::Array(_) | Value::Table(_) => {
                    field.refuse("not a plain value", "give a string, a number, true or false");
                    return None;
                }
            };
            Some((key.as_str(), field, text))
        };
        self.table().entries.into_iter().flatten().filter_map(value).collect()
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        let text = self.node.text();
        if text.is_none() {
            self.refuse("not a string", "give a string, in double quotes");
        }
        text
    }

    /// A text that keeps a rule.
    pub(super) fn name(&self, rule: fn(&str) -> Result<(), Fault>) -> Option<Arc<str>> {
        let text = self.text()?;
        match rule(text) {
            Ok(()) => Some(text.into()),
            Err(Fault { wrong, remedy }) => {
                self.refuse(&wrong, &remedy);
                None
            }
        }
    }

    pub(super) fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let bounds = format!("from {} to {}", range.start(), range.end());
        let integer = match &self.node.value {
            Value::Integer(integer) => Some(*integer),
            Value::Untyped { text, .. } => text.trim().parse().ok(),
            _ => None,
        };
        let Some(integer) = integer else {
            self.refuse("not a whole number", &format!("give one {bounds}"));
            return None;
        };
        let integer = T::try_from(integer).ok().filter(|integer| range.contains(integer));
        if integer.is_none() {
            self.refuse("out of range", &format!("give a whole number {bounds}"));
        }
        integer
    }

    /// A duration with its unit, such as "100ms".
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let Some(duration) =
            self.node.text().and_then(|text| humantime::parse_duration(text.trim()).ok())
        else {
            self.refuse(
                "not a duration",
                "give a number and its unit, such as \"100ms\", \"30s\" or \"7d\"",
            );
            return None;
        };
        let (low, high) = (*range.start(), *range.end());
        if range.contains(&duration) {
            return Some(duration);
        }
        let (low, high) = (humantime::format_duration(low), humantime::format_duration(high));
        self.refuse("out of range", &format!("give a duration from {low} to {high}"));
        None
    }

    /// A number of bytes, as it is or with its unit, such as "64MiB".
    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let size = match &self.node.value {
            Value::Integer(integer) => Some(*integer),
            Value::String(text) | Value::Untyped { text, .. } => {
                text.trim().parse().ok().map(|ByteSize(size)| i128::from(size))
            }
            _ => None,
        };
        let Some(size) = size else {
            self.refuse("not a size", "give a number and its unit, such as \"64MiB\" or \"10GiB\"");
            return None;
        };
        let size = u64::try_from(size).ok().filter(|size| range.contains(size));
        if size.is_none() {
            let (low, high) = (ByteSize(*range.start()), ByteSize(*range.end()));
            self.refuse("out of range", &format!("give a size from {low:.0} to {high:.0}"));
        }
        size
    }

    pub(super) fn socket(&self) -> Option<SocketAddr> {
        let socket = self.text()?.trim().parse().ok();
        if socket.is_none() {
            self.refuse(
                "not an address to listen on",
                "give an IP address and a port, such as \"127.0.0.1:8081\", or \"0.0.0.0:8081\" for every interface",
            );
        }
        socket
    }

    /// A path. One that the file gives is seen from the file's directory, one from the environment from the
    /// working directory.
    pub(super) fn path(&self, directory: &Path) -> Option<PathBuf> {
        let text = self.text()?;
        if text.is_empty() {
            self.refuse("empty", "give a path");
            return None;
        }
        Some(if self.is_environment() { text.into() } else { directory.join(text) })
    }

    /// One of a few words. `unavailable` are those that later versions know.
    pub(super) fn choice<T: Copy>(
        &self,
        choices: &[(&'static str, T)],
        unavailable: &[&'static str],
    ) -> Option<T> {
        let text = self.text()?;
        let choice = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if choice.is_none() {
            let known = listing(choices.iter().map(|(word, _)| *word), "or");
            if unavailable.contains(&text) {
                self.refuse("not available in this version", &format!("use {known}"));
            } else {
                self.refuse("not known", &format!("give {known}"));
            }
        }
        choice
    }
}
