//! `keyway plugin rollback`

use std::io::{self, Write};

use clap::Args;
use serde_json::json;

use super::super::{
    Error,
    ask::{Ask, path},
    settings::Settings,
    text::or_dash,
};
use crate::admin::snapshot::Plugin;

const AFTER_HELP: &str = "\
All that use the plugin go over at once; what is in flight ends where it began. It holds over a restart, until the file \
holds a generation that was not rolled back from. Generations are kept in the directory that `path` of [broker] names: every \
gateway that runs from that directory follows. A gateway elsewhere, on another machine say, is rolled back by itself: ask its \
admin port with --admin. `keyway plugin list NAME` shows the generations that are kept.

Examples:
  keyway plugin rollback print
  keyway plugin rollback print --to 4f0c";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(in crate::cli) struct Rollback {
    /// The plugin
    name: String,
    /// The first digits of the generation's digest [default: the one before]
    #[arg(long, value_name = "GENERATION")]
    to: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

impl Rollback {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let path = format!("{}/rollback", path("plugins", Some(&self.name)));
        let body = json!({"generation": self.to});
        let answer = self.ask.post_gateway(settings, &path, &body)?;
        answer.print(&mut io::stdout().lock(), |out, plugins: &[Plugin]| print(out, plugins))
    }
}

fn print(out: &mut dyn Write, plugins: &[Plugin]) -> io::Result<()> {
    for plugin in plugins {
        let serving = or_dash(plugin.generation.as_ref());
        write!(out, "{}@{serving} serves", plugin.name)?;
        match &plugin.rolled_back_from[..] {
            [] => writeln!(out)?,
            from => writeln!(out, ", rolled back from {}", from.join(", "))?,
        }
    }
    Ok(())
}
