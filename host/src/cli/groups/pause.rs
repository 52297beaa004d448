//! `keyway groups pause` and `keyway groups resume`

use std::{
    env,
    io::{self, Write},
};

use clap::Args;
use serde_json::json;

use super::{
    super::{
        Error,
        ask::{Ask, path},
        settings::Settings,
        text::count,
    },
    Part,
};
use crate::admin::snapshot::Group;

const AFTER_HELP: &str = "\
Nothing of what is paused is given to the handler, and nothing is lost: offsets stay where they are, members stay members, \
and what was in the handler's hands ends. It is remembered over a restart, in the directory that `path` of [broker] names: \
every gateway that runs from that directory holds the group back. A gateway elsewhere, on another machine say, is paused by \
itself: ask its admin port with --admin.

Examples:
  keyway groups pause my-topic-group-1
  keyway groups pause my-topic-group-1 --topic my-topic --partition 0
  keyway groups resume my-topic-group-1";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Pause {
    #[command(flatten)]
    part: Part,
    /// Who pauses it, to be shown [default: USER@HOST]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Resume {
    #[command(flatten)]
    part: Part,
    #[command(flatten)]
    ask: Ask,
}

impl Pause {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let by = self.by.or_else(whoami);
        steer(settings, self.ask, &self.part, "pause", by)
    }
}

impl Resume {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        steer(settings, self.ask, &self.part, "resume", whoami())
    }
}

/// `USER@HOST`, as a shell would show it.
fn whoami() -> Option<String> {
    let user = env::var("USER").ok().filter(|user| !user.is_empty())?;
    Some(format!("{user}@{}", gethostname::gethostname().to_string_lossy()))
}

fn steer(
    settings: &Settings,
    ask: Ask,
    part: &Part,
    verb: &str,
    by: Option<String>,
) -> Result<(), Error> {
    let path = format!("{}/{verb}", path("groups", Some(&part.group)));
    let body = json!({"topic": part.topic, "partitions": part.partitions(), "by": by});
    let answer = ask.post_gateway(settings, &path, &body)?;
    answer.print(&mut io::stdout().lock(), |out, groups: &[Group]| print(out, groups))
}

fn print(out: &mut dyn Write, groups: &[Group]) -> io::Result<()> {
    for group in groups {
        let pauses = group.this_process.as_ref().map_or(&[][..], |here| &here.pauses);
        if pauses.is_empty() {
            writeln!(out, "{}: nothing is paused", group.id)?;
        }
        for pause in pauses {
            let what = match (&pause.topic, pause.partition) {
                (Some(topic), Some(partition)) => format!("{topic}/{partition} is paused"),
                (Some(topic), None) => format!("topic {topic} is paused"),
                (None, _) => "paused".to_owned(),
            };
            let by = pause.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
            writeln!(out, "{}: {what}, since {}{by}", group.id, pause.since)?;
        }
        let in_flight: usize = group
            .partitions
            .iter()
            .filter(|it| it.paused.is_some())
            .filter_map(|it| it.in_flight)
            .sum();
        if in_flight > 0 {
            writeln!(out, "  {} still in the handler's hands", count(in_flight as u64, "record"))?;
        }
    }
    Ok(())
}
