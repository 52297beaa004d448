//! What the environment says, laid over the file: `KEYWAY__SECTION__KEY` for any key, and before those the five
//! names that [`super::tutorial`] gives a meaning of their own.
//!
//! Two underscores part the keys of a path, one is a dash. An entry of `[[topics]]` or `[[groups]]` goes by its
//! number, from 0, or by its name in upper case, everything but letters and digits as an underscore:
//! `KEYWAY__GROUPS__0__CONSUMERS`, `KEYWAY__GROUPS__MY_TOPIC_GROUP_1__CONSUMERS`. Under `broker.properties` an
//! underscore is a dot, as librdkafka's names have them, unless the file has that key otherwise. A list has commas
//! between its items. Nothing is read from the process here: the pairs are given.

use std::{collections::BTreeMap, ffi::OsString, sync::Arc};

use super::{
    document::{Entry, Node, Origin, Value},
    report::{Report, child, listing},
    tutorial,
};

const PREFIX: &str = "KEYWAY__";
const SEPARATOR: &str = "__";

/// Lays the environment over the document. Names that mean nothing here are left alone; what is wrong with the
/// others is reported, some of it only when the document is read.
pub(super) fn lay_over(
    document: &mut Node,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    report: &Report<'_>,
) {
    let variables = ours(environment, report);
    tutorial::lay_over(document, &variables, report);
    for (name, text) in variables.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let segments: Vec<&str> = name[PREFIX.len()..].split(SEPARATOR).collect();
        let variable = Variable { name, value: Node::untyped(text, name), report };
        variable.set(document, &segments, "");
    }
}

/// The variable's name with `near` in place of the key that is not known.
pub(super) fn with_key(variable: &str, unknown: &str, near: &str) -> String {
    let wrong = format!("{SEPARATOR}{}", normalised(unknown));
    let right = format!("{SEPARATOR}{}", normalised(near));
    variable.to_ascii_uppercase().replacen(&wrong, &right, 1)
}

fn ours(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    report: &Report<'_>,
) -> BTreeMap<Arc<str>, String> {
    let mut variables = BTreeMap::new();
    for (name, value) in environment {
        let Some(name) =
            name.to_str().filter(|name| name.starts_with(PREFIX) || tutorial::NAMES.contains(name))
        else {
            continue;
        };
        let name: Arc<str> = name.into();
        match value.into_string() {
            Ok(value) => {
                variables.insert(name, value);
            }
            Err(value) => {
                let message = format!("not UTF-8, got {value:?}, give text");
                report.push(&Origin::Environment(name), "", message);
            }
        }
    }
    variables
}

struct Variable<'a> {
    name: &'a Arc<str>,
    value: Node,
    report: &'a Report<'a>,
}

impl Variable<'_> {
    /// Goes down `segments` from `node`, which is at `path`, and sets the value there.
    fn set(self, node: &mut Node, segments: &[&str], path: &str) {
        let [segment, rest @ ..] = segments else {
            *node = self.value;
            return;
        };
        let origin = Origin::Environment(self.name.clone());
        match &mut node.value {
            Value::Table(entries) => {
                let known = entries.keys().find(|key| normalised(key) == normalised(segment));
                let key = known.cloned().unwrap_or_else(|| key_of(segment, path));
                let path = child(path, &key);
                let entry = entries.entry(key).or_insert_with(|| Entry {
                    key: origin.clone(),
                    node: match path.as_str() {
                        "topics" | "groups" if !rest.is_empty() => {
                            Node { value: Value::Array(Vec::new()), origin }
                        }
                        _ => Node::empty_table(origin),
                    },
                });
                self.set(&mut entry.node, rest, &path);
            }
            Value::Array(items) => match index_of(items, segment) {
                Some(index) => self.set(&mut items[index], rest, &format!("{path}[{index}]")),
                None => self.refuse_index(items, segment, path),
            },
            _ => {
                let message =
                    format!("{path} is not a table, got {segment:?} in it, leave that out");
                self.report.push(&origin, "", message);
            }
        }
    }

    fn refuse_index(&self, items: &[Node], segment: &str, path: &str) {
        let names: Vec<String> = items.iter().filter_map(Node::label).map(normalised).collect();
        let names = listing(names.iter().map(String::as_str), "or");
        let remedy = match items.len() {
            0 => format!("add it to the file as [[{path}]]"),
            1 => format!("give 0 or {names}"),
            n => format!("give 0 to {} or {names}", n - 1),
        };
        let message = format!("no such entry of {path}, got {segment:?}, {remedy}");
        self.report.push(&Origin::Environment(self.name.clone()), "", message);
    }
}

/// Upper case, and everything but letters and digits an underscore: how a key looks in a variable's name.
fn normalised(key: &str) -> String {
    key.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect()
}

fn key_of(segment: &str, path: &str) -> String {
    let key = segment.to_ascii_lowercase();
    match (path, key.as_str()) {
        ("broker.properties", "log_level") => key,
        ("broker.properties", _) => key.replace('_', "."),
        _ => key.replace('_', "-"),
    }
}

fn index_of(items: &[Node], segment: &str) -> Option<usize> {
    let number = segment.parse().ok().filter(|index| *index < items.len());
    number.or_else(|| {
        items.iter().position(|item| {
            item.label().is_some_and(|name| normalised(name) == normalised(segment))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_are_dashes_and_under_properties_dots() {
        assert_eq!(key_of("BOOTSTRAP_SERVERS", "broker"), "bootstrap-servers");
        assert_eq!(key_of("SASL_PASSWORD", "broker.properties"), "sasl.password");
        assert_eq!(key_of("LOG_LEVEL", "broker.properties"), "log_level");
        assert_eq!(normalised("my-topic.group 1"), "MY_TOPIC_GROUP_1");
    }
}
