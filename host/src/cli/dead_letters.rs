//! `keyway dead-letters`

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};

use super::{
    Error,
    ask::{Ask, Lines, query},
    settings::Settings,
    text::{Style, Table, count, preview},
};
use crate::{
    admin::{
        dead_letters::{self, Filter, Order, Since},
        snapshot::{self, DeadLetter, Payload, RedriveLine, Source},
    },
    app,
    record::Place,
};

/// Progress is told this often at the most.
const PROGRESS: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(super) enum DeadLetters {
    /// Show records that were given up on and not redriven yet, with their cause
    List(List),
    /// Give records back that were given up on: dead letters to their source topic, parked lanes to their handler
    #[command(after_help = REDRIVE_HELP)]
    Redrive(Redrive),
}

const REDRIVE_HELP: &str = "\
Dead letters are written back to the topic and partition that their records came from, with key, value and headers as \
they were, and handled there again. With --parked, whole lanes are given back: the group's members handle the parked \
records in order, and new records of the lane wait behind them; a record that is given up on again keeps its lane \
parked from there.

What is done is noted behind each letter in its own topic. So a redrive that was cut off goes on where it ended when it \
is started again, and one that is repeated does nothing. A dead letter's record and that note are written in one \
transaction, so a letter is written back once, also where the gateway (or without one, this command) is killed. The \
transactional id is keyway/redrive.TOPIC, with the topic of the letters: Kafka must allow Write and Describe on it, and \
when a second redrive of that topic begins, the first one ends. A first Ctrl-C ends it between two transactions, which \
hold up to 100 letters each. A parked record is noted when what its handler emitted is written, in one transaction where \
the group's delivery is exactly-once; else a gateway that is killed between the two makes the handler see that record, and \
those that it was given with, once more.

With --through, each dead letter is handed to that plugin in place of the handler that gave it up, as a record of its \
source, with the configuration, limits, allow-list and retries of its group. What the plugin emits is written in one \
transaction with the note; a letter that it gives up on, too, is told and stays what it is. (--handler chooses letters by \
who gave them up.)

Exit codes: 0 done, 1 when it ended early or a letter could not be given back, 64 wrong usage or configuration.";

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    which: Which,
    /// As many at the most
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on where the last look ended
    #[arg(long, value_name = "TOPIC/PARTITION@OFFSET")]
    from: Option<Place>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Args)]
pub(super) struct Redrive {
    #[command(flatten)]
    which: Which,
    /// Hand them to this plugin instead of writing them back
    #[arg(long, value_name = "PLUGIN", conflicts_with = "parked")]
    through: Option<String>,
    /// Only show what would be given back
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    ask: Ask,
}

/// Which letters.
#[derive(Debug, Args)]
struct Which {
    /// Only records of this topic, or what this topic keeps
    #[arg(long)]
    topic: Option<String>,
    /// Only records that this group gave up on
    #[arg(long)]
    group: Option<String>,
    /// Only records that this plugin handled last, NAME or NAME@GENERATION
    #[arg(long, value_name = "PLUGIN")]
    handler: Option<String>,
    /// Only records with this text in their cause
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only records with this key
    #[arg(long)]
    key: Option<String>,
    /// Only records that were given up on since then: a time in RFC 3339, or an age such as 2h
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Only parked records
    #[arg(long)]
    parked: bool,
}

impl Which {
    fn filter(self) -> Filter {
        let Self { topic, group, handler, reason, key, since, parked } = self;
        Filter { topic, group, handler, reason, key, since, parked: parked.then_some(true) }
    }
}

impl DeadLetters {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        match self {
            Self::List(list) => list.run(settings),
            Self::Redrive(redrive) => redrive.run(settings),
        }
    }
}

impl List {
    fn run(self, settings: &Settings) -> Result<(), Error> {
        let filter = self.which.filter();
        let (from, limit) = (self.from, self.limit);
        let mut asked = filter.parameters();
        asked.push(("limit", limit.to_string()));
        asked.extend(from.iter().map(|from| ("from", from.to_string())));
        let answer =
            self.ask.ask(settings, &query("dead-letters", &asked), async |broker, view| {
                let limit = limit as usize;
                dead_letters::list(broker, &view.config, &filter, from.as_ref(), limit).await
            })?;
        answer.print(&mut io::stdout().lock(), |out, pages| print(out, pages, Style::of_stdout()))
    }
}

fn print(out: &mut dyn Write, pages: &[snapshot::DeadLetters], style: Style) -> io::Result<()> {
    for page in pages {
        if page.dead_letters.is_empty() && page.next.is_none() {
            writeln!(out, "There are no dead letters.")?;
        }
        let mut topics: BTreeMap<&str, Vec<&DeadLetter>> = BTreeMap::new();
        for letter in &page.dead_letters {
            topics.entry(&letter.topic).or_default().push(letter);
        }
        for (index, (topic, letters)) in topics.into_iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            let what = if letters[0].parked { "parked record" } else { "dead letter" };
            writeln!(out, "{}: {}", style.bold(topic), count(letters.len() as u64, what))?;
            table(&letters).write(out, "  ", style)?;
        }
        if let Some(next) = &page.next {
            writeln!(out, "\nThere may be more: --from {next}")?;
        }
    }
    Ok(())
}

fn table(letters: &[&DeadLetter]) -> Table {
    let titles = ["GIVEN UP", "RECORD", "KEY", "GROUP", "HANDLER", ">ATTEMPTS", "CAUSE"];
    let mut table = Table::new(&titles);
    for letter in letters {
        let Source { topic, partition, offset } = &letter.source;
        table.row(vec![
            letter.rejected_at.clone(),
            format!("{topic}/{partition}@{offset}"),
            key(letter.key.as_ref()),
            letter.group.clone(),
            letter.handler.clone(),
            letter.attempts.to_string(),
            preview(letter.reason.as_bytes(), 100),
        ]);
    }
    table
}

fn key(key: Option<&Payload>) -> String {
    match key {
        None => "-".into(),
        Some(Payload::Text(text)) => preview(text.as_bytes(), 30),
        Some(Payload::Binary { base64 }) => format!("base64 {}", preview(base64.as_bytes(), 30)),
    }
}

impl Redrive {
    fn run(self, settings: &Settings) -> Result<(), Error> {
        let filter = self.which.filter();
        let dry_run = self.dry_run;
        let mut asked = filter.parameters();
        asked.push(("dry_run", dry_run.to_string()));
        let through = self.through;
        asked.extend(through.iter().map(|plugin| ("through", plugin.clone())));
        let path = query("dead-letters/redrive", &asked);
        let order = Order { filter, dry_run };
        let mut report =
            Report { json: self.ask.json, dry_run, last: Instant::now(), records: 0, end: None };
        self.ask.order(settings, &path, &mut report, async |broker, config, lines| {
            let through = match through {
                None => None,
                Some(plugin) => match app::through_alone(broker.clone(), &config, &plugin).await {
                    Ok(through) => Some(through),
                    Err(error) => {
                        let error = Some(error);
                        let end = RedriveLine::End { records: 0, refused: 0, error };
                        return drop(lines.send(end).await);
                    }
                },
            };
            dead_letters::redrive_through(broker, config, order, through, lines).await
        })?;
        report.finish()
    }
}

/// Tells what a redrive does.
struct Report {
    json: bool,
    dry_run: bool,
    last: Instant,
    records: u64,
    end: Option<(u64, u64, Option<String>)>,
}

impl Lines<RedriveLine> for Report {
    fn line(&mut self, text: &str, line: RedriveLine) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{text}")?;
        }
        match line {
            RedriveLine::Redriven { letter, to } => {
                self.records += 1;
                if self.dry_run && !self.json {
                    writeln!(out, "{letter} would go to {to}")?;
                }
            }
            RedriveLine::Handled { .. } => self.records += 1,
            RedriveLine::Released { letter, records } => {
                self.records += records;
                if !self.json {
                    let would = if self.dry_run { "would be" } else { "is" };
                    writeln!(
                        out,
                        "the lane of {letter}, {}, {would} given back",
                        count(records, "record")
                    )?;
                }
            }
            RedriveLine::Refused { letter, reason } if !self.json => {
                writeln!(out, "{letter} stays: {}", preview(reason.as_bytes(), 200))?;
            }
            RedriveLine::Refused { .. } => {}
            RedriveLine::End { records, refused, error } => {
                self.end = Some((records, refused, error))
            }
        }
        if self.last.elapsed() >= PROGRESS {
            self.last = Instant::now();
            progress(self.records);
        }
        Ok(())
    }
}

impl Report {
    fn finish(self) -> Result<(), Error> {
        let Some((records, refused, error)) = self.end else {
            return Err(Error::Failed("it ended early; run it again to go on".into()));
        };
        if !self.json {
            let what = if self.dry_run { "Would be given back" } else { "Given back" };
            writeln!(io::stdout(), "{what}: {}.", count(records, "record"))?;
        }
        match error {
            Some(error) => Err(Error::Failed(format!("{error}; run it again to go on"))),
            None if refused > 0 => {
                Err(Error::Failed(format!("{} could not be given back", count(refused, "letter"))))
            }
            None => Ok(()),
        }
    }
}

#[allow(
    clippy::print_stderr,
    reason = "progress is not output, and only the command line prints it"
)]
fn progress(records: u64) {
    eprintln!("{} so far", count(records, "record"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_tables_by_topic_with_their_cause() {
        let letter = |topic: &str, offset, parked, attempts, reason: &str| DeadLetter {
            topic: topic.into(),
            partition: 0,
            offset,
            parked,
            source: Source { topic: "my-topic".into(), partition: 0, offset: offset + 10 },
            group: "g".into(),
            handler: "print@0a0a0a0a0a0a".into(),
            attempts,
            reason: reason.into(),
            rejected_at: "2023-11-14T22:13:20.123Z".into(),
            key: parked.then(|| Payload::Text("ada".into())),
            value: None,
            headers: Vec::new(),
        };
        let page = snapshot::DeadLetters {
            dead_letters: vec![
                letter("g.parked", 0, true, 5, "no such user"),
                letter("g.parked", 1, true, 0, "parked behind my-topic/0@10"),
                letter("my-topic.dead-letters", 3, false, 1, "trap:\n\u{1b}[2J"),
            ],
            next: Some("my-topic.dead-letters/0@4".into()),
        };
        let mut out = Vec::new();
        print(&mut out, &[page], Style::plain()).unwrap();
        let expected = "\
g.parked: 2 parked records
  GIVEN UP                  RECORD         KEY  GROUP  HANDLER             ATTEMPTS  CAUSE
  2023-11-14T22:13:20.123Z  my-topic/0@10  ada  g      print@0a0a0a0a0a0a         5  no such user
  2023-11-14T22:13:20.123Z  my-topic/0@11  ada  g      print@0a0a0a0a0a0a         0  parked behind my-topic/0@10

my-topic.dead-letters: 1 dead letter
  GIVEN UP                  RECORD         KEY  GROUP  HANDLER             ATTEMPTS  CAUSE
  2023-11-14T22:13:20.123Z  my-topic/0@13  -    g      print@0a0a0a0a0a0a         1  trap:\\n\\u{1b}[2J

There may be more: --from my-topic.dead-letters/0@4
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
