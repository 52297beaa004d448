//! `keyway plugin preview`

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::value::RawValue;

use super::super::{
    Error,
    ask::Ask,
    settings::Settings,
    text::{Style, Table, count, or_dash, preview},
};
use crate::admin::{
    preview::Request,
    snapshot::{KeyPreview, Payload, Place, PreviewedRecord},
};

const AFTER_HELP: &str = "\
Compares the key selector that serves a topic (or the caller's key, where there is none) with another: a component file, a \
generation that is kept, the one that serves with another configuration, or none. Nothing is written, and what serves is not \
touched. The newest records of the topic are looked at as if they came again: with the key that they were written with, since \
what the caller gave is not kept where a selector replaced it, and without the partition that a caller may have given. At most \
1,000 records, 8 MiB of them and 10 s.

A record moves where it would get another partition: what comes later with the same key is then handled beside what came \
before, not behind it.

Examples:
  keyway plugin preview my-topic --file target/json-key.wasm
  keyway plugin preview my-topic --set pointer=/tenant --last 1000
  keyway plugin preview my-topic --generation 4f0c --records sample.ndjson
  keyway plugin preview my-topic --caller";

/// Records that are shown.
const SHOWN: usize = 10;
/// Characters of a key, and of an error.
const KEY: usize = 24;
const REASON: usize = 100;
/// Bytes of a file of records.
const MOST_BYTES: u64 = 1 << 20;

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(in crate::cli) struct Preview {
    /// The topic
    topic: String,
    /// The component to compare with, on the gateway's machine
    #[arg(long, value_name = "FILE", group = "other")]
    file: Option<PathBuf>,
    /// The kept generation to compare with, by the first digits of its digest
    #[arg(long, value_name = "GENERATION", group = "other")]
    generation: Option<String>,
    /// Compare with the caller's key: without a key selector
    #[arg(long, group = "other", conflicts_with = "set")]
    caller: bool,
    /// What to configure the other with; may be given several times [default: as the topic's key selector]
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = entry)]
    set: Vec<(String, String)>,
    /// So many of the newest records of the topic [default: 100]
    #[arg(long, value_name = "COUNT", conflicts_with = "records")]
    last: Option<usize>,
    /// Records in a file, one a line, as `POST /send-message` takes them; `-` is standard input
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    #[command(flatten)]
    ask: Ask,
}

fn entry(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Preview {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let config: BTreeMap<_, _> = self.set.into_iter().collect();
        let request = Request {
            topic: self.topic.as_str().into(),
            records: self.records.as_deref().map(records).transpose()?,
            last: self.last,
            // The gateway's working directory may be another one.
            file: self.file.as_ref().map(std::path::absolute).transpose()?,
            generation: self.generation,
            caller: self.caller,
            config: (!config.is_empty()).then_some(config),
        };
        let answer = self.ask.post_gateway(settings, "key-preview", &request)?;
        answer.print(&mut io::stdout().lock(), |out, found: &[KeyPreview]| {
            found.iter().try_for_each(|found| print(out, found, Style::of_stdout()))
        })
    }
}

fn records(file: &Path) -> Result<Vec<Box<RawValue>>, Error> {
    let unreadable = |error: io::Error| Error::Failed(format!("{}: {error}", file.display()));
    let mut text = String::new();
    let read = match file.to_str() {
        Some("-") => io::stdin().lock().take(MOST_BYTES + 1).read_to_string(&mut text),
        _ => fs::File::open(file)
            .and_then(|opened| opened.take(MOST_BYTES + 1).read_to_string(&mut text)),
    };
    if read.map_err(unreadable)? as u64 > MOST_BYTES {
        return Err(unreadable(io::Error::other(format!("more than {MOST_BYTES} bytes"))));
    }
    let record = |(index, line): (usize, &str)| {
        let wrong = |error| Error::Usage(format!("{}:{}: {error}", file.display(), index + 1));
        serde_json::from_str(line).map_err(wrong)
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(record).collect()
}

fn print(out: &mut dyn Write, found: &KeyPreview, style: Style) -> io::Result<()> {
    let all = count(found.previewed as u64, "record");
    let (name, serving, other) = (style.bold(&found.topic), &found.serving, &found.other);
    let configured = if found.reconfigured { " with another configuration" } else { "" };
    writeln!(out, "{name}: keys by {serving} now, by {other}{configured} then")?;
    let moved = match found.moved {
        0 => style.good("0 move"),
        moved => style.warning(&format!("{moved} move")),
    };
    writeln!(
        out,
        "{all}: {moved} to another partition, {} get another key, {} are refused",
        found.rekeyed, found.refused
    )?;
    if let Some(early) = &found.ended_early {
        writeln!(out, "{}: {early}", style.warning("It ended early"))?;
    }
    let mut table = Table::new(&[">PARTITION", ">NOW", ">THEN"]);
    for counts in &found.partitions {
        let cells = [counts.partition as usize, counts.serving, counts.other];
        table.row(cells.map(|number| number.to_string()).into());
    }
    if found.serving_spread + found.other_spread > 0 {
        let cells = [found.serving_spread, found.other_spread].map(|number| number.to_string());
        table.row(["spread".to_owned()].into_iter().chain(cells).collect());
    }
    table.write(out, "  ", style)?;
    changes(out, found, style)
}

/// The first of the records that change.
fn changes(out: &mut dyn Write, found: &KeyPreview, style: Style) -> io::Result<()> {
    let changes = |(_, record): &(usize, &PreviewedRecord)| record.serving != record.other;
    let changed: Vec<_> = found.records.iter().enumerate().filter(changes).collect();
    if changed.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(&["RECORD", "KEY", "NOW", "THEN"]);
    for (index, record) in changed.iter().take(SHOWN) {
        table.row(vec![
            record.place.clone().unwrap_or_else(|| format!("#{}", index + 1)),
            key(&record.key),
            place(&record.serving),
            place(&record.other),
        ]);
    }
    table.write(out, "  ", style)?;
    match changed.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more; --json has all"),
    }
}

fn place(place: &Place) -> String {
    match &place.error {
        Some(error) => preview(error.as_bytes(), REASON),
        None => format!("{} to {}", key(&place.key), or_dash(place.partition)),
    }
}

fn key(key: &Option<Payload>) -> String {
    match key {
        None => "-".to_owned(),
        Some(Payload::Text(text)) => preview(text.as_bytes(), KEY),
        Some(Payload::Binary { base64 }) => format!("base64 {}", preview(base64.as_bytes(), KEY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::snapshot::PreviewedPartition;

    #[test]
    fn a_preview_says_how_many_move_and_shows_what_changes() {
        let place = |key: &str, partition| Place {
            key: Some(Payload::Text(key.into())),
            partition,
            error: None,
        };
        let refused = Place { key: None, partition: None, error: Some("no tenant".into()) };
        let record = |at: Option<&str>, serving: Place, other: Place, moves| PreviewedRecord {
            place: at.map(Into::into),
            key: serving.key.clone(),
            serving,
            other,
            moves,
        };
        let found = KeyPreview {
            topic: "t".into(),
            serving: "json-key@0b0b0b0b0b0b".into(),
            other: "caller".into(),
            reconfigured: false,
            previewed: 3,
            moved: 1,
            rekeyed: 1,
            refused: 1,
            partitions: vec![
                PreviewedPartition { partition: 0, serving: 3, other: 1 },
                PreviewedPartition { partition: 1, serving: 0, other: 1 },
            ],
            serving_spread: 0,
            other_spread: 0,
            ended_early: None,
            records: vec![
                record(Some("t/0@7"), place("ada", Some(0)), place("acme", Some(1)), Some(true)),
                record(None, place("ada", Some(0)), refused, None),
                record(None, place("ada", Some(0)), place("ada", Some(0)), Some(false)),
            ],
        };
        let mut out = Vec::new();
        print(&mut out, &found, Style::plain()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
t: keys by json-key@0b0b0b0b0b0b now, by caller then
3 records: 1 move to another partition, 1 get another key, 1 are refused
  PARTITION  NOW  THEN
          0    3     1
          1    0     1

  RECORD  KEY  NOW       THEN
  t/0@7   ada  ada to 0  acme to 1
  #2      ada  ada to 0  no tenant
"
        );
    }
}
