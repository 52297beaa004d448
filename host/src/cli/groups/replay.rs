//! `keyway groups replay`

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use clap::Args;

use super::super::{
    Error,
    ask::{Ask, Lines},
    settings::Settings,
    text::{count, preview},
};
use crate::{
    admin::{
        replay::Request,
        seek::Target,
        snapshot::{Payload, Range, ReplayLine},
    },
    app,
};

/// Progress is told this often at the most.
const PROGRESS: Duration = Duration::from_secs(1);
/// Bytes of a key and of a value that are shown, and characters of a reason.
const KEY: usize = 30;
const VALUE: usize = 100;
const REASON: usize = 200;

#[derive(Debug, Args)]
#[command(after_help = "\
Partitions are handled one after the other, each in the order of its offsets. No group's offsets change, and members that \
run are not disturbed. With GROUP, its handler is used, or another one with its configuration, limits and retries; without, \
each record is tried once. All output goes to the topic of --into, whichever one the handler names; it is made when it is \
missing. To try another build of a handler, put it beside the first under a name of its own.

It ends at the first record that is not handled, and says how to go on; with --keep-going such records are only told. What a \
run of records has written stays written.

On Kafka this command does the work itself, with the plugins that are here. The embedded broker is one process's alone: the \
gateway that has it open does it, and where none does, this command.

Examples:
  keyway groups replay my-topic-group-1 --handler users-v2 --into my-topic-v2 --from '2h ago' --dry-run
  keyway groups replay --topic my-topic --handler users --into rebuilt --partition 0 --from 17 --to 42")]
pub(super) struct Replay {
    /// The configured group whose handler or configuration is used
    #[arg(required_unless_present = "handler")]
    group: Option<String>,
    /// The plugin that handles the records [default: the group's]
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// The topic that is read [default: the group's, where it reads one]
    #[arg(short, long, required_unless_present = "group")]
    topic: Option<String>,
    /// Only this partition; may be given several times [default: all]
    #[arg(short, long = "partition", value_name = "PARTITION")]
    partitions: Vec<u32>,
    /// The first record of each partition: `beginning`, `end`, an offset, a time (RFC 3339), or how long ago
    #[arg(long, value_name = "WHERE", default_value = "beginning", allow_hyphen_values = true)]
    from: Target,
    /// The first record of each partition that is not handled any more; `end` is the end as it is at the start
    #[arg(long, value_name = "WHERE", default_value = "end", allow_hyphen_values = true)]
    to: Target,
    /// The topic that takes the output
    #[arg(long, value_name = "TOPIC")]
    into: String,
    /// As many records at the most, over all partitions
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// Handle the records, and print what would be written instead of writing it
    #[arg(long)]
    dry_run: bool,
    /// Go on behind records that are not handled
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    ask: Ask,
}

impl Replay {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let request = Request {
            group: self.group,
            handler: self.handler,
            topic: self.topic,
            partitions: Some(self.partitions).filter(|partitions| !partitions.is_empty()),
            from: self.from,
            to: self.to,
            into: self.into,
            limit: self.limit,
            dry_run: self.dry_run,
            keep_going: self.keep_going,
        };
        let mut report = Report::new(self.ask.json, &request);
        let asked = request.clone();
        let ask = self.ask;
        ask.order_here(
            settings,
            "replay",
            &request,
            &mut report,
            async |broker, config, lines| {
                app::replay_alone(broker, config, asked, lines).await;
            },
        )?;
        report.finish()
    }
}

/// Tells what a replay does.
struct Report {
    json: bool,
    dry_run: bool,
    into: String,
    last: Instant,
    end: Option<End>,
}

struct End {
    handled: u64,
    written: u64,
    not_handled: u64,
    error: Option<String>,
}

impl Report {
    fn new(json: bool, request: &Request) -> Self {
        let (dry_run, into) = (request.dry_run, request.into.clone());
        Self { json, dry_run, into, last: Instant::now(), end: None }
    }

    fn finish(self) -> Result<(), Error> {
        let Some(End { handled, written, not_handled, error }) = self.end else {
            return Err(Error::Failed("it ended early".into()));
        };
        if !self.json {
            let (handled, written) = (count(handled, "record"), count(written, "record"));
            let verb = if self.dry_run { "Would be written to" } else { "Written to" };
            writeln!(io::stdout(), "Handled: {handled}. {verb} {}: {written}.", self.into)?;
        }
        match error {
            Some(error) => Err(Error::Failed(error)),
            None if not_handled > 0 => {
                let what = count(not_handled, "record");
                Err(Error::Failed(format!("{what} could not be handled")))
            }
            None => Ok(()),
        }
    }
}

impl Lines<ReplayLine> for Report {
    fn line(&mut self, text: &str, line: ReplayLine) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{text}")?;
        }
        match line {
            ReplayLine::Begin { handler, into, ranges } if !self.json => {
                for Range { topic, partition, from, to } in ranges {
                    writeln!(
                        out,
                        "{topic}/{partition} from {from} to {to}, through {handler} into {into}"
                    )?;
                }
            }
            ReplayLine::WouldWrite { source, record } if !self.json => {
                let key = shown(record.key.as_ref(), KEY);
                let value = shown(record.value.as_ref(), VALUE);
                writeln!(out, "{source} would give {key}: {value}")?;
            }
            ReplayLine::NotHandled { record, reason } if !self.json => {
                let reason = preview(reason.as_bytes(), REASON);
                writeln!(out, "{record} was not handled: {reason}")?;
            }
            ReplayLine::Progress { topic, partition, next, handled, .. } => {
                if self.last.elapsed() >= PROGRESS {
                    self.last = Instant::now();
                    progress(&format!("{topic}/{partition}@{next}"), handled);
                }
            }
            ReplayLine::End { handled, written, not_handled, error } => {
                self.end = Some(End { handled, written, not_handled, error });
            }
            ReplayLine::Begin { .. }
            | ReplayLine::WouldWrite { .. }
            | ReplayLine::NotHandled { .. } => {}
        }
        Ok(())
    }
}

fn shown(payload: Option<&Payload>, limit: usize) -> String {
    match payload {
        None => "-".into(),
        Some(Payload::Text(text)) => preview(text.as_bytes(), limit),
        Some(Payload::Binary { base64 }) => format!("base64 {}", preview(base64.as_bytes(), limit)),
    }
}

#[allow(
    clippy::print_stderr,
    reason = "progress is not output, and only the command line prints it"
)]
fn progress(place: &str, handled: u64) {
    eprintln!("{} so far, at {place}", count(handled, "record"));
}
