//! `keyway topics`

use std::io::{self, Write};

use clap::Args;

use super::{
    Error,
    ask::{Ask, path},
    plugin::generation,
    settings::Settings,
    text::{Style, Table, count},
};
use crate::admin::{inventory, snapshot::Topic};

#[derive(Debug, Args)]
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
                    inventory::topic(broker, view, name).await
                })
            }
            None => self.ask.ask(settings, "topics", async |broker, view| {
                inventory::topics(broker, view).await
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
        let mut table = Table::new(&[">PARTITION", ">OLDEST", ">END"]);
        for partition in &topic.partitions {
            let cells =
                [u64::from(partition.partition), partition.beginning_offset, partition.end_offset];
            table.row(cells.map(|number| number.to_string()).into());
        }
        table.write(out, "  ", style)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::snapshot::{self, example};

    #[test]
    fn a_topic_is_a_line_and_a_table_of_its_partitions() {
        let topic = snapshot::topic(&example::my_topic(), &example::view());
        let mut out = Vec::new();
        print(&mut out, &[topic], Style::plain()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "my-topic: 3 partitions, 44 records, keys by json-key@0b0b0b0b0b0b\n  \
             PARTITION  OLDEST  END\n          \
             0       0   42\n          \
             1       5    7\n          \
             2       0    0\n"
        );
    }
}
