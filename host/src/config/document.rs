//! The file as a tree in which every value knows where it came from, so that what the environment says can be laid
//! over it and both are judged by the same readers.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use toml::de::{DeTable, DeValue};

/// A value and where it was said.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    String(String),
    Integer(i128),
    /// A float, a boolean or a date: nothing here reads them but as the text they were written as.
    Other(String),
    /// From the environment: whatever its reader takes it for. `items` is the same, parted at its commas.
    Untyped {
        text: String,
        items: Vec<Node>,
    },
    Array(Vec<Node>),
    Table(Entries),
}

/// A table's values by key.
pub(super) type Entries = BTreeMap<String, Entry>;

/// One key of a table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Where the key itself was said.
    pub(super) key: Origin,
    pub(super) node: Node,
}

/// Where a value was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Between these bytes of the file.
    File(Range<usize>),
    /// In the environment variable of this name.
    Environment(Arc<str>),
}

impl Origin {
    pub(super) fn is_environment(&self) -> bool {
        matches!(self, Self::Environment(_))
    }
}

impl Node {
    /// The tree of a whole file.
    pub(super) fn document(table: &DeTable<'_>) -> Self {
        Self { value: Value::Table(entries(table)), origin: Origin::File(0..0) }
    }

    /// A value that a variable gives.
    pub(super) fn untyped(text: &str, variable: &Arc<str>) -> Self {
        let origin = Origin::Environment(variable.clone());
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| Self { value: Value::String(item.to_owned()), origin: origin.clone() })
            .collect();
        Self { value: Value::Untyped { text: text.to_owned(), items }, origin }
    }

    /// A table that a variable makes, with nothing in it yet.
    pub(super) fn empty_table(origin: Origin) -> Self {
        Self { value: Value::Table(Entries::new()), origin }
    }

    fn from_toml(value: &DeValue<'_>, span: Range<usize>) -> Self {
        let value = match value {
            DeValue::String(text) => Value::String(text.to_string()),
            // More digits than 128 bits hold are out of every range there is, on either side.
            DeValue::Integer(integer) => Value::Integer(
                i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX),
            ),
            DeValue::Float(float) => Value::Other(float.to_string()),
            DeValue::Boolean(boolean) => Value::Other(boolean.to_string()),
            DeValue::Datetime(datetime) => Value::Other(datetime.to_string()),
            DeValue::Array(array) => Value::Array(
                array.iter().map(|item| Self::from_toml(item.get_ref(), item.span())).collect(),
            ),
            DeValue::Table(table) => Value::Table(entries(table)),
        };
        Self { value, origin: Origin::File(span) }
    }

    /// Its text, where it has one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) | Value::Untyped { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Its items, where it is a list.
    pub(super) fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Array(items) | Value::Untyped { items, .. } => Some(items),
            _ => None,
        }
    }

    /// What an entry of `[[topics]]` or `[[groups]]` is called.
    pub(super) fn label(&self) -> Option<&str> {
        self.get("name").or_else(|| self.get("id")).and_then(Self::text)
    }

    /// The value of a key, where this is a table that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Table(entries) => entries.get(key).map(|entry| &entry.node),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Table(entries) => entries.get_mut(key).map(|entry| &mut entry.node),
            _ => None,
        }
    }

    /// The items of the array that a key holds; none where it holds none.
    pub(super) fn array_mut(&mut self, key: &str) -> &mut [Self] {
        match self.get_mut(key) {
            Some(Self { value: Value::Array(items), .. }) => items,
            _ => &mut [],
        }
    }

    /// Gives a key its value. Does nothing where this is no table: its reader says so.
    pub(super) fn insert(&mut self, key: &str, node: Self) {
        let Value::Table(entries) = &mut self.value else { return };
        match entries.get_mut(key) {
            Some(entry) => entry.node = node,
            None => {
                let entry = Entry { key: node.origin.clone(), node };
                entries.insert(key.to_owned(), entry);
            }
        }
    }
}

fn entries(table: &DeTable<'_>) -> Entries {
    table
        .iter()
        .map(|(key, value)| {
            let node = Node::from_toml(value.get_ref(), value.span());
            (key.get_ref().to_string(), Entry { key: Origin::File(key.span()), node })
        })
        .collect()
}
