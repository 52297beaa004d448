//! `keyway groups [GROUP]`

use std::io::{self, Write};

use clap::Args;

use super::super::{
    Error,
    ask::{Ask, path},
    plugin::generation,
    settings::Settings,
    text::{Style, Table, count, or_dash, preview},
};
use crate::admin::{
    inventory,
    snapshot::{Group, HotKey, Member, MemberState, Payload, TopicPartition},
};

/// Characters of a key that are shown.
const KEY: usize = 40;

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this group, with how its lanes do and which keys wait the most
    id: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

impl List {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let id = self.id.as_deref();
        let answer = match id {
            Some(id) => self.ask.ask(settings, &path("groups", Some(id)), async |broker, view| {
                inventory::group(broker, view, id).await
            }),
            None => self.ask.ask(settings, "groups", async |broker, view| {
                inventory::groups(broker, view).await
            }),
        };
        answer?.print(&mut io::stdout().lock(), |out, groups| {
            print(out, groups, id.is_some(), Style::of_stdout())
        })
    }
}

fn print(out: &mut dyn Write, groups: &[Group], detailed: bool, style: Style) -> io::Result<()> {
    if groups.is_empty() {
        return writeln!(out, "There are no groups.");
    }
    for (index, group) in groups.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        write_head(out, group, style)?;
        write_members(out, &group.members, style)?;
        write_partitions(out, group, style)?;
        if detailed {
            write_lanes(out, group, style)?;
        }
    }
    Ok(())
}

fn write_head(out: &mut dyn Write, group: &Group, style: Style) -> io::Result<()> {
    let lag = group.partitions.iter().filter_map(|partition| partition.lag).sum();
    let members = count(group.members.len() as u64, "member");
    let partitions = count(group.partitions.len() as u64, "partition");
    let (id, state) = (style.bold(&group.id), &group.state);
    writeln!(out, "{id}: {state}, {members}, {partitions}, {} behind", count(lag, "record"))?;
    let mut facts: Vec<String> = Vec::new();
    facts.extend(group.handler.as_ref().map(|handler| format!("handler {}", generation(handler))));
    facts.extend(group.ordering.as_ref().map(|ordering| format!("ordered by {ordering}")));
    facts.extend(group.delivery.clone());
    if !facts.is_empty() {
        writeln!(out, "  {}", facts.join(", "))?;
    }
    let here = group.this_process.as_ref();
    if let Some(trouble) = here.and_then(|here| here.trouble.as_ref()) {
        writeln!(out, "  Its handler is {}: {trouble}", style.warning("in trouble"))?;
    }
    Ok(())
}

/// Members by number, since the ids that Kafka gives are long; below them, why those that do nothing do not.
fn write_members(out: &mut dyn Write, members: &[Member], style: Style) -> io::Result<()> {
    if members.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&[">MEMBER", "STATE", "READS", "PROCESS", "ID"]);
    for (number, member) in (1..).zip(members) {
        let reads: Vec<_> = member.partitions.iter().map(place).collect();
        table.row(vec![
            number.to_string(),
            state(member.state).into(),
            if reads.is_empty() { "nothing".into() } else { reads.join(", ") },
            member.process.clone(),
            or_dash(member.id.as_ref()),
        ]);
    }
    writeln!(out)?;
    table.write(out, "  ", style)?;
    for (number, member) in (1..).zip(members) {
        for (text, what) in [(&member.reason, state(member.state)), (&member.trouble, "in trouble")]
        {
            if let Some(text) = text {
                writeln!(out, "  Member {number} is {}: {text}", style.warning(what))?;
            }
        }
    }
    Ok(())
}

fn write_partitions(out: &mut dyn Write, group: &Group, style: Style) -> io::Result<()> {
    if group.partitions.is_empty() {
        return Ok(());
    }
    let titles = ["PARTITION", "READ BY", ">COMMITTED", ">END", ">LAG", ">IN FLIGHT", "HANDLED BY"];
    let mut table = Table::new(&titles);
    for partition in &group.partitions {
        let at = TopicPartition { topic: partition.topic.clone(), partition: partition.partition };
        let reader = group.members.iter().position(|member| member.partitions.contains(&at));
        table.row(vec![
            place(&at),
            reader.map_or_else(|| "nobody".into(), |index| format!("member {}", index + 1)),
            or_dash(partition.committed_offset),
            or_dash(partition.end_offset),
            or_dash(partition.lag),
            or_dash(partition.in_flight),
            or_dash(partition.generation.as_ref()),
        ]);
    }
    writeln!(out)?;
    table.write(out, "  ", style)?;
    for partition in &group.partitions {
        if let Some(cause) = &partition.stopped {
            let (topic, number) = (&partition.topic, partition.partition);
            let still = style.bad("stands still");
            writeln!(
                out,
                "  {topic}/{number} {still}: {cause}. To try again: keyway groups resume {}",
                group.id
            )?;
        }
        if let Some(pause) = &partition.paused {
            let (topic, number) = (&partition.topic, partition.partition);
            writeln!(out, "  {topic}/{number} is {} {}", style.warning("paused"), pause.words())?;
        }
    }
    Ok(())
}

/// How the lanes of this process do. Nothing where the gateway that was asked runs no member.
fn write_lanes(out: &mut dyn Write, group: &Group, style: Style) -> io::Result<()> {
    let titles =
        ["PARTITION", ">OLDEST", ">WAITING", ">LANES", ">DEFERRED", ">PARKED LANES", ">RECORDS"];
    let mut table = Table::new(&titles);
    for partition in &group.partitions {
        let Some(lanes) = partition.lanes else { continue };
        let at = TopicPartition { topic: partition.topic.clone(), partition: partition.partition };
        table.row(vec![
            place(&at),
            partition.lag_ms.map_or_else(|| "-".into(), age),
            or_dash(partition.waiting),
            lanes.to_string(),
            or_dash(partition.deferred),
            or_dash(partition.parked.map(|parked| parked.lanes)),
            or_dash(partition.parked.map(|parked| parked.records)),
        ]);
    }
    let Some(here) = &group.this_process else { return Ok(()) };
    writeln!(out, "\n  In the process that was asked:")?;
    table.write(out, "  ", style)?;
    if here.hottest.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["HOTTEST KEY", "PARTITION", ">WAITING"]);
    for HotKey { topic, partition, key, waiting } in &here.hottest {
        let key = match key {
            Payload::Text(text) => preview(text.as_bytes(), KEY),
            Payload::Binary { base64 } => format!("base64 {}", preview(base64.as_bytes(), KEY)),
        };
        table.row(vec![key, format!("{topic}/{partition}"), waiting.to_string()]);
    }
    writeln!(out)?;
    table.write(out, "  ", style)
}

/// A time in the two largest of its units: `1.5s`, `3m 20s`, `2h 5m`, `3d 4h`.
fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..60 => format!("{seconds}.{}s", milliseconds % 1000 / 100),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn place(at: &TopicPartition) -> String {
    format!("{}/{}", at.topic, at.partition)
}

fn state(state: MemberState) -> &'static str {
    match state {
        MemberState::Active => "active",
        MemberState::Inactive => "inactive",
        MemberState::Rebalancing => "rebalancing",
        MemberState::Paused => "paused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::snapshot::{self, example};

    #[test]
    fn a_group_shows_who_reads_what_and_why_one_is_idle() {
        let topics = [example::my_topic()];
        let group = snapshot::group(&example::group_info(), &topics, &example::view(), "here:1");
        let mut out = Vec::new();
        print(&mut out, std::slice::from_ref(&group), false, Style::plain()).unwrap();
        let expected = "\
my-topic-group-1: stable, 4 members, 3 partitions, 4 records behind
  handler print@0a0a0a0a0a0a, ordered by partition, at-least-once

  MEMBER  STATE     READS       PROCESS  ID
       1  active    my-topic/0  here:1   m-0
       2  active    my-topic/1  here:1   m-1
       3  inactive  nothing     here:1   m-2
       4  active    my-topic/2  there:2  m-3
  Member 3 is inactive: 4 members, 3 partitions: each partition has one reader, so 1 member waits. It takes over \
when another leaves. With 4 partitions of my-topic every member would have work; with ordering = \"key\" fewer \
members would do, since each handles many keys of its partitions at once.

  PARTITION   READ BY   COMMITTED  END  LAG  IN FLIGHT  HANDLED BY
  my-topic/0  member 1         40   42    2          1  0a0a0a0a0a0a
  my-topic/1  member 2          -    7    2          0  -
  my-topic/2  member 4          -    0    0          -  -
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);

        let mut out = Vec::new();
        print(&mut out, &[group], true, Style::plain()).unwrap();
        let lanes = "
  In the process that was asked:
  PARTITION   OLDEST  WAITING  LANES  DEFERRED  PARKED LANES  RECORDS
  my-topic/0    1.5s        1      2         1             1        3
  my-topic/1       -        0      0         0             0        0

  HOTTEST KEY  PARTITION   WAITING
  ada          my-topic/0        1
";
        assert_eq!(String::from_utf8(out).unwrap(), expected.to_owned() + lanes);
    }

    #[test]
    fn a_time_is_told_in_the_units_that_matter() {
        let told = [0, 1_540, 200_000, 7_500_000, 273_600_000].map(age);
        assert_eq!(told, ["0.0s", "1.5s", "3m 20s", "2h 5m", "3d 4h"]);
    }
}
