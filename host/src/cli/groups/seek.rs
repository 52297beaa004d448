//! `keyway groups seek`

use std::io::{self, Write};

use clap::Args;

use super::{
    super::{
        Error,
        ask::{Ask, path},
        settings::Settings,
        text::{Style, Table, count, or_dash},
    },
    Part,
};
use crate::admin::seek::{self, Request, Sought, Target};

#[derive(Debug, Args)]
#[command(after_help = "\
The new offsets are committed, so they hold over a restart. A group that is being read is moved when it is paused, or with \
--force: what is in the handler's hands ends, and is not committed for the old position any more. Members in other \
processes are not moved. All that its topic has from there on is handled again, whatever became of it: what was parked \
of it (on-reject = \"park\") comes from there and is not given back by dead-letters redrive any more, while a lane that was \
parked further back stays parked, and parks what comes again of it. Where no gateway answers and nothing reads the group, the broker is asked directly.

Examples:
  keyway groups seek my-topic-group-1 --to beginning --dry-run
  keyway groups seek my-topic-group-1 --to '2h ago'
  keyway groups seek my-topic-group-1 --to 2026-01-31T08:00:00Z --topic my-topic
  keyway groups seek my-topic-group-1 --to 17 --partition 0 --force")]
pub(super) struct Seek {
    #[command(flatten)]
    part: Part,
    /// `beginning`, `end`, an offset, a time (RFC 3339), or how long ago, such as `2h ago`
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    to: Target,
    /// Only show from where to where each partition would move
    #[arg(long)]
    dry_run: bool,
    /// Move members that are reading, too, if they live in the gateway that is asked
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    ask: Ask,
}

impl Seek {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let request = Request {
            to: self.to,
            partitions: self.part.partitions(),
            topic: self.part.topic,
            dry_run: self.dry_run,
            force: self.force,
        };
        let id = &self.part.group;
        let path = format!("{}/seek", path("groups", Some(id)));
        let answer = self.ask.post(settings, &path, &request, async |broker, view| {
            let sought = seek::seek(broker, view, None, id, &request).await;
            sought.map_err(|refusal| refusal.to_string())
        })?;
        answer.print(&mut io::stdout().lock(), |out, sought| print(out, sought, Style::of_stdout()))
    }
}

fn print(out: &mut dyn Write, sought: &[Sought], style: Style) -> io::Result<()> {
    for Sought { group, dry_run, partitions } in sought {
        let (group, moved) = (style.bold(group), count(partitions.len() as u64, "partition"));
        let verb = if *dry_run { "would be moved" } else { "moved" };
        writeln!(out, "{group}: {moved} {verb}")?;
        let mut table = Table::new(&["PARTITION", ">FROM", ">TO", ">END", ">TO HANDLE"]);
        for moved in partitions {
            table.row(vec![
                format!("{}/{}", moved.topic, moved.partition),
                or_dash(moved.from),
                moved.to.to_string(),
                moved.end_offset.to_string(),
                moved.end_offset.saturating_sub(moved.to).to_string(),
            ]);
        }
        if !partitions.is_empty() {
            table.write(out, "  ", style)?;
        }
    }
    Ok(())
}
