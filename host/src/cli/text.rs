//! Text for people: aligned columns, a little colour, and nothing that a record could do to a terminal.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use crate::telemetry;

/// Whether and how text is set off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    colour: bool,
}

impl Style {
    /// For standard output: colour on a terminal, unless the user wants none.
    pub(super) fn of_stdout() -> Self {
        Self { colour: io::stdout().is_terminal() && telemetry::colour_wanted() }
    }

    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self { colour: false }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.set(text, "1")
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.set(text, "2")
    }

    pub(super) fn good(self, text: &str) -> String {
        self.set(text, "32")
    }

    pub(super) fn warning(self, text: &str) -> String {
        self.set(text, "33")
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.set(text, "31")
    }

    fn set(self, text: &str, code: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Columns under a heading, two blanks apart; those whose title starts with `>` are numbers, aligned to the right.
#[derive(Debug)]
pub(super) struct Table {
    titles: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(titles: &[&'static str]) -> Self {
        Self { titles: titles.to_vec(), rows: Vec::new() }
    }

    /// One cell for each title.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.titles.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    pub(super) fn write(&self, out: &mut dyn Write, indent: &str, style: Style) -> io::Result<()> {
        let titles: Vec<_> =
            self.titles.iter().map(|title| title.trim_start_matches('>')).collect();
        let widths: Vec<usize> = titles
            .iter()
            .enumerate()
            .map(|(column, title)| {
                let cells = self.rows.iter().map(|row| row[column].chars().count());
                cells.chain([title.chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let heading = self.line(titles.into_iter(), &widths);
        writeln!(out, "{indent}{}", style.dim(&heading))?;
        for row in &self.rows {
            writeln!(out, "{indent}{}", self.line(row.iter().map(String::as_str), &widths))?;
        }
        Ok(())
    }

    fn line<'a>(&self, cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, width), title) in cells.zip(widths).zip(&self.titles) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let padded = if title.starts_with('>') {
                write!(line, "{cell:>width$}")
            } else {
                write!(line, "{cell:<width$}")
            };
            padded.expect("writing to a String cannot fail");
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// `1 record`, `2 records`.
pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// How long something took.
pub(super) fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds if seconds >= 1e-3 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{:.0} µs", seconds * 1e6),
    }
}

/// What there is, or a dash.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// Bytes of a record on one line of `limit` characters at most: control characters are escaped, so that a record
/// cannot move the cursor or rename the window.
pub(super) fn preview(bytes: &[u8], limit: usize) -> String {
    // Four bytes a character at most: what is past that is not looked at.
    let head = &bytes[..bytes.len().min(limit.saturating_mul(4) + 4)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The cut may have gone through a character.
        Err(error) if head.len() < bytes.len() && error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()])
                .expect("everything before the first error is valid")
        }
        Err(_) => return format!("({}, not text)", count(bytes.len() as u64, "byte")),
    };
    let mut shown = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == limit {
            shown.push('…');
            return shown;
        }
        if character.is_control() || is_invisible(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    if text.len() < bytes.len() {
        shown.push('…');
    }
    shown
}

/// Characters that reorder or hide what is around them.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_stand_at_the_right() {
        let mut table = Table::new(&["NAME", ">LAG", "WHY"]);
        table.row(vec!["a".into(), "1".into(), "x".into()]);
        table.row(vec!["längere".into(), "1000".into(), String::new()]);
        let mut out = Vec::new();
        table.write(&mut out, "  ", Style::plain()).unwrap();
        let expected = "  NAME      LAG  WHY\n  a           1  x\n  längere  1000\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_time_has_the_unit_that_fits() {
        for (micros, shown) in [(41, "41 µs"), (1_250, "1.2 ms"), (3_000_000, "3.0 s")] {
            assert_eq!(time(Duration::from_micros(micros)), shown);
        }
    }

    #[test]
    fn a_record_cannot_send_escape_sequences_to_the_terminal() {
        assert_eq!(preview(b"a\x1b[2Jb\n", 80), "a\\u{1b}[2Jb\\n");
        assert_eq!(preview("x\u{202e}y".as_bytes(), 80), "x\\u{202e}y");
    }

    #[test]
    fn long_values_are_cut_at_a_character_and_binary_ones_only_counted() {
        assert_eq!(preview("äöü".as_bytes(), 2), "äö…");
        assert_eq!(preview("ä".repeat(1000).as_bytes(), 3), "äää…");
        assert_eq!(preview(&[0xff, 0xfe], 80), "(2 bytes, not text)");
        assert_eq!(preview(b"", 80), "");
    }
}
