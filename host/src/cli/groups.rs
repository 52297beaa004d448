//! `keyway groups`: one file an action. Without one, the groups are shown.

mod list;
mod pause;
mod replay;
mod seek;

use clap::{Args, Subcommand};

use super::{Error, settings::Settings};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Groups {
    #[command(flatten)]
    list: list::List,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Hold a group back, or part of it, until it is resumed
    Pause(pause::Pause),
    /// Let a paused group go on, or part of it, and try again what stands still
    Resume(pause::Resume),
    /// Move a group to other offsets
    Seek(seek::Seek),
    /// Put records that are in a topic through a handler once more, into another topic
    Replay(replay::Replay),
}

/// What of a group is meant.
#[derive(Debug, Args)]
struct Part {
    /// The group
    group: String,
    /// Only this topic [default: all of the group's]
    #[arg(short, long)]
    topic: Option<String>,
    /// Only this partition; may be given several times [default: all]
    #[arg(short, long = "partition", value_name = "PARTITION")]
    partitions: Vec<u32>,
}

impl Part {
    /// The partitions that were named; `None`: all.
    fn partitions(&self) -> Option<Vec<u32>> {
        Some(self.partitions.clone()).filter(|partitions| !partitions.is_empty())
    }
}

impl Groups {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        match self.action {
            None => self.list.run(settings),
            Some(Action::Pause(pause)) => pause.run(settings),
            Some(Action::Resume(resume)) => resume.run(settings),
            Some(Action::Seek(seek)) => seek.run(settings),
            Some(Action::Replay(replay)) => replay.run(settings),
        }
    }
}
