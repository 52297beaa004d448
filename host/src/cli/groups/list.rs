//! `keyway groups [GROUP]`

use std::io::{self, Write};

use clap::Args;

use super::super::{
    Error,
    ask::{Ask, path},
    plugin::generation,
    settings::Settings,
    text::{Style, Table, count, or_dash},
};
use crate::admin::{
    inventory,
    snapshot::{Group, Member, MemberState, TopicPartition},
};

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this group
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
        answer?
            .print(&mut io::stdout().lock(), |out, groups| print(out, groups, Style::of_stdout()))
    }
}

fn print(out: &mut dyn Write, groups: &[Group], style: Style) -> io::Result<()> {
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
        print(&mut out, &[group], Style::plain()).unwrap();
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
    }
}
