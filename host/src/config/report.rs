//! Where the readers put what is wrong, and how it is worded.

use std::{borrow::Cow, cell::RefCell, ops::Range, sync::Arc};

use super::{
    document::{Node, Origin, Value},
    error::{ConfigError, ConfigErrors, Place},
};

/// How much of a wrong value is shown, in characters.
const SHOWN: usize = 60;

/// Gathers what is wrong with one configuration. Shared by all readers, hence the cell.
pub(super) struct Report<'a> {
    file: Arc<str>,
    text: &'a str,
    errors: RefCell<Vec<ConfigError>>,
}

/// What is wrong with a value, and what would do in its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) wrong: String,
    pub(super) remedy: String,
}

impl Fault {
    pub(super) fn new(wrong: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), remedy: remedy.into() }
    }
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &str, text: &'a str) -> Self {
        Self { file: file.into(), text, errors: RefCell::default() }
    }

    pub(super) fn push(&self, origin: &Origin, key: &str, message: impl Into<String>) {
        let (place, key) = match origin {
            Origin::File(span) => (self.place(span), key.to_owned()),
            Origin::Environment(variable) => {
                (Place::Environment { variable: variable.clone() }, String::new())
            }
        };
        self.errors.borrow_mut().push(ConfigError { place, key, message: message.into() });
    }

    /// What the parser found: the text is not TOML. The key is told from the lines around.
    pub(super) fn push_syntax(&self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(self.text.len()..self.text.len());
        let given = self.text.get(span.clone()).map(str::trim).unwrap_or_default();
        let message = match error.message() {
            super::load::DUPLICATE_KEY => "given twice, remove one of the two".to_owned(),
            _ if lacks_value(self.text, span.start) => {
                "not TOML: the value is missing, give one after the \"=\"".to_owned()
            }
            // An empty span is a place where something is missing; the parser's words name it.
            other if given.is_empty() => format!("not TOML: {other}"),
            other => format!("not TOML: {other}, got {}", quote(given)),
        };
        let key = key_around(self.text, span.start);
        let place = self.place(&span);
        self.errors.borrow_mut().push(ConfigError { place, key, message });
    }

    pub(super) fn into_errors(self) -> Option<ConfigErrors> {
        ConfigErrors::new(self.errors.into_inner())
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let (line, column) = position(self.text.as_bytes(), span.start);
        Place::File { file: self.file.clone(), line, column }
    }
}

/// Line and column, both from 1, the column in characters, of a byte of the text.
pub(super) fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line_start =
        before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let is_character_start = |byte: &&u8| **byte & 0xC0 != 0x80;
    (line, before[line_start..].iter().filter(is_character_start).count() + 1)
}

/// What was given, as a message shows it.
pub(super) fn given(node: &Node) -> String {
    match &node.value {
        Value::String(text) | Value::Untyped { text, .. } => quote(text),
        Value::Integer(integer) => integer.to_string(),
        Value::Other(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(given).collect();
            cut(&format!("[{}]", items.join(", "))).to_string()
        }
        Value::Table(_) => "a table".to_owned(),
    }
}

/// The text in quotes, on one line, cut where it is long.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// `"a", "b" or "c"`, or with another word before the last.
pub(super) fn listing<'t>(texts: impl IntoIterator<Item = &'t str>, word: &str) -> String {
    let mut quoted: Vec<String> = texts.into_iter().map(quote).collect();
    match quoted.pop() {
        Some(last) if !quoted.is_empty() => format!("{} {word} {last}", quoted.join(", ")),
        last => last.unwrap_or_default(),
    }
}

/// The one among `known` that was probably meant.
pub(super) fn nearest<'k>(
    given: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    let bound = 1 + given.chars().count() / 4;
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The dotted path of a key within `parent`, quoted as TOML would where it has to be.
pub(super) fn child(parent: &str, key: &str) -> String {
    let bare =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    let key = if bare { key.to_owned() } else { quote(key) };
    if parent.is_empty() { key } else { format!("{parent}.{key}") }
}

/// Whether nothing stands between the `=` before this place and the end of its line.
fn lacks_value(text: &str, offset: usize) -> bool {
    let (before, after) = text.split_at_checked(offset).unwrap_or((text, ""));
    let rest = after.lines().next().unwrap_or_default().trim_start();
    before.trim_end_matches([' ', '\t']).ends_with('=')
        && (rest.is_empty() || rest.starts_with('#'))
}

/// The key that a place in a broken file belongs to, as far as the lines above and the line itself tell.
fn key_around(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let headers =
        || before[..line_start].lines().map(str::trim).filter(|line| line.starts_with('['));
    let name = |line: &str| line.trim_matches(['[', ']', ' ']).split(']').next().map(str::to_owned);

    let section = headers().next_back().and_then(|header| {
        let index = headers().filter(|other| *other == header).count() - 1;
        let array = header.starts_with("[[");
        name(header).map(|name| if array { format!("{name}[{index}]") } else { name })
    });
    if line.trim_start().starts_with('[') {
        return name(line.trim()).unwrap_or_default();
    }
    let key = line.split(['=', '#']).next().map(str::trim).unwrap_or_default();
    match (section, key) {
        (Some(section), "") => section,
        (Some(section), key) => child(&section, key),
        (None, key) => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_counts_characters() {
        let text = "a = 1\r\nb = \"äö\" c";
        assert_eq!(position(text.as_bytes(), text.find(" c").unwrap_or(0) + 1), (2, 10));
        assert_eq!(position(b"", 5), (1, 1));
        assert_eq!(position(b"a\n", 2), (2, 1));
    }

    #[test]
    fn a_misspelt_name_finds_the_near_one_and_a_strange_one_none() {
        let known = ["partitions", "name", "replication-factor"];
        assert_eq!(nearest("partitons", known), Some("partitions"));
        assert_eq!(nearest("replication_factor", known), Some("replication-factor"));
        assert_eq!(nearest("color", known), None);
    }

    #[test]
    fn long_and_many_lined_values_are_shown_short_and_on_one_line() {
        assert_eq!(quote("a\nb"), r#""a\nb""#);
        assert_eq!(quote(&"x".repeat(100)), format!("\"{}\"...", "x".repeat(60)));
    }
}
