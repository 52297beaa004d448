//! `keyway topics`

use std::io::{self, Write};

use bytesize::ByteSize;
use clap::Args;

use super::{
    Error,
    ask::{Ask, path},
    plugin::generation,
    settings::Settings,
    text::{Style, Table, count, or_dash, preview},
};
use crate::admin::{
    inventory,
    snapshot::{Payload, Skew, SkewWarning, Topic, WrittenKey},
};

/// Characters of a key.
const KEY: usize = 40;

#[derive(Debug, Args)]
#[command(after_help = "\
LATELY is what the gateway has written in the last one to two minutes: records of each partition, their share and bytes, and the \
keys that came most often, with where a key selector decides those that callers gave beside those that it chose. What handlers \
write under delivery = \"exactly-once\" counts when its transaction is committed. A gateway warns, here, on the page and on the \
log, when one partition gets most records by their keys: of at least 100, more than halfway from a fair share to all (of three \
partitions more than 67 %), until it is less than two fifths of the way (60 %). A topic with one partition is never warned of.")]
pub(super) struct Topics {
    /// Only this topic
    name: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

impl Topics {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let name = self.name.as_deref();
        let answer = match name {
            Some(name) => {
                self.ask.ask(settings, &path("topics", Some(name)), async |broker, view| {
                    inventory::topic(broker, view, name, None).await
                })
            }
            None => self.ask.ask(settings, "topics", async |broker, view| {
                inventory::topics(broker, view, |_| None).await
            }),
        };
        answer?
            .print(&mut io::stdout().lock(), |out, topics| print(out, topics, Style::of_stdout()))
    }
}

fn print(out: &mut dyn Write, topics: &[Topic], style: Style) -> io::Result<()> {
    if topics.is_empty() {
        return writeln!(out, "There are no topics.");
    }
    for (index, topic) in topics.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let held = topic.partitions.iter().map(|p| p.end_offset - p.beginning_offset).sum();
        let keys = match &topic.key_selector {
            Some(selector) => format!("keys by {}", generation(selector)),
            None => "keys by the caller".into(),
        };
        let partitions = count(topic.partitions.len() as u64, "partition");
        let name = style.bold(&topic.name);
        writeln!(out, "{name}: {partitions}, {}, {keys}", count(held, "record"))?;
        if let Some(SkewWarning { partition, percent }) =
            topic.skew.as_ref().and_then(|skew| skew.warning)
        {
            let warning = format!("{percent} % of its records go to partition {partition}");
            writeln!(out, "  {}", style.warning(&warning))?;
        }
        partitions_of(topic).write(out, "  ", style)?;
        if let Some(skew) = &topic.skew {
            keys_of(out, skew)?;
        }
    }
    Ok(())
}

/// Its partitions, with what this gateway has written lately, where it has.
fn partitions_of(topic: &Topic) -> Table {
    let mut titles = vec![">PARTITION", ">OLDEST", ">END"];
    if topic.skew.is_some() {
        titles.extend([">LATELY", ">SHARE", ">BYTES"]);
    }
    let mut table = Table::new(&titles);
    for (index, partition) in topic.partitions.iter().enumerate() {
        let cells =
            [u64::from(partition.partition), partition.beginning_offset, partition.end_offset];
        let mut row: Vec<_> = cells.map(|number| number.to_string()).into();
        if let Some(skew) = &topic.skew {
            let share = skew.partitions.get(index);
            row.push(or_dash(share.map(|share| share.records)));
            row.push(or_dash(share.map(|share| format!("{} %", share.percent))));
            row.push(or_dash(share.map(|share| ByteSize(share.bytes))));
        }
        table.row(row);
    }
    table
}

/// The keys that came most often.
fn keys_of(out: &mut dyn Write, skew: &Skew) -> io::Result<()> {
    let mut line = |what: &str, keys: &[WrittenKey]| {
        let key = |hot: &WrittenKey| {
            let key = match &hot.key {
                Payload::Text(text) => preview(text.as_bytes(), KEY),
                Payload::Binary { base64 } => format!("base64 {}", preview(base64.as_bytes(), KEY)),
            };
            format!("{key} ({})", hot.records)
        };
        let keys: Vec<_> = keys.iter().map(key).collect();
        if keys.is_empty() { Ok(()) } else { writeln!(out, "  {what} {}", keys.join(", ")) }
    };
    line("keys written most lately:", &skew.hottest)?;
    line("keys given most by callers:", skew.hottest_of_callers.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::snapshot::{self, example};

    #[test]
    fn a_topic_is_a_line_and_a_table_of_its_partitions() {
        let topic = snapshot::topic(&example::my_topic(), &example::view(), Some(&example::skew()));
        let mut out = Vec::new();
        print(&mut out, &[topic], Style::plain()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
my-topic: 3 partitions, 44 records, keys by json-key@0b0b0b0b0b0b
  90 % of its records go to partition 0
  PARTITION  OLDEST  END  LATELY  SHARE    BYTES
          0       0   42     180   90 %  1.8 KiB
          1       5    7      20   10 %    200 B
          2       0    0       0    0 %      0 B
  keys written most lately: ada (150)
  keys given most by callers: k (200)
"
        );
    }
}
