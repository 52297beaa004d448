//! `keyway plugin canary`, `promote` and `abort`

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, value_parser};
use serde_json::{Value, json};

use super::super::{
    Error,
    ask::{Ask, path},
    settings::Settings,
    text::{Style, Table, or_dash},
};
use crate::admin::snapshot::{Plugin, Side, Use};

const AFTER_HELP: &str = "\
A key stays on one side; records without a key are split by their place. When the canary is worse than is allowed, it is \
ended, and the reason is recorded: `keyway plugin list NAME` shows it, and while it lasts how both sides do. A canary that \
is begun here ends with the gateway; one in keyway.toml (handler = { plugin = .., canary = { file = .., percent = .. } }) \
begins with it again, unless it was ended.

Examples:
  keyway plugin canary print --file target/print.wasm --percent 5
  keyway plugin canary print --generation 4f0c --percent 50 --group my-topic-group-1
  keyway plugin promote print
  keyway plugin abort print --reason 'it forgets the header'";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(in crate::cli) struct Canary {
    /// The plugin
    name: String,
    /// The component to try, on the gateway's machine
    #[arg(long, value_name = "FILE", required_unless_present = "generation")]
    file: Option<PathBuf>,
    /// The kept generation to try, by the first digits of its digest
    #[arg(long, value_name = "GENERATION", conflicts_with = "file")]
    generation: Option<String>,
    /// How many of 100 keys it gets
    #[arg(long, value_name = "1-100", value_parser = value_parser!(u8).range(1..=100))]
    percent: u8,
    /// Only the records of this group
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// Attempts before it is judged [default: 100]
    #[arg(long, value_name = "COUNT")]
    minimum_sample: Option<u64>,
    /// Percentage points that its failures may be more [default: 5]
    #[arg(long, value_name = "POINTS")]
    more_failures: Option<u8>,
    /// How many times as long an attempt may take [default: 3]
    #[arg(long, value_name = "TIMES")]
    slower: Option<u32>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Promote {
    /// The plugin
    name: String,
    /// Which, by the first digits of its digest, where more than one is tried
    #[arg(long, value_name = "GENERATION")]
    generation: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Abort {
    /// The plugin
    name: String,
    /// Which, by the first digits of its digest, where more than one is tried
    #[arg(long, value_name = "GENERATION")]
    generation: Option<String>,
    /// Why, to be shown
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

impl Canary {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        // The gateway's working directory may be another one.
        let file = self.file.as_ref().map(std::path::absolute).transpose()?;
        let mut body = json!({"percent": self.percent});
        let mut give = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body[key] = value;
            }
        };
        give("file", file.map(|file| json!(file)));
        give("generation", self.generation.map(Value::from));
        give("group", self.group.map(Value::from));
        give("minimum_sample", self.minimum_sample.map(Value::from));
        give("more_failures", self.more_failures.map(Value::from));
        give("slower", self.slower.map(Value::from));
        choose(settings, self.ask, &self.name, "canary", &body)
    }
}

impl Promote {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        choose(settings, self.ask, &self.name, "promote", &json!({"generation": self.generation}))
    }
}

impl Abort {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let body = json!({"generation": self.generation, "reason": self.reason});
        choose(settings, self.ask, &self.name, "abort", &body)
    }
}

pub(super) fn choose(
    settings: &Settings,
    ask: Ask,
    name: &str,
    verb: &str,
    body: &Value,
) -> Result<(), Error> {
    let path = format!("{}/{verb}", path("plugins", Some(name)));
    let answer = ask.post_gateway(settings, &path, body)?;
    answer.print(&mut io::stdout().lock(), |out, plugins: &[Plugin]| print(out, plugins))
}

fn print(out: &mut dyn Write, plugins: &[Plugin]) -> io::Result<()> {
    for plugin in plugins {
        writeln!(out, "{}@{} serves", plugin.name, or_dash(plugin.generation.as_ref()))?;
        for usage in &plugin.uses {
            if let Some(canary) = &usage.canary {
                let (generation, percent) = (&canary.generation, canary.percent);
                writeln!(out, "{generation} is tried with {percent} % of {}", usage.owner)?;
            }
            if let Some(shadow) = &usage.shadow {
                writeln!(out, "{} runs in its shadow for {}", shadow.generation, usage.owner)?;
            }
        }
    }
    Ok(())
}

/// How both sides of a canary do.
pub(super) fn compare(out: &mut dyn Write, usage: &Use, style: Style) -> io::Result<()> {
    let Some(canary) = &usage.canary else { return Ok(()) };
    let (percent, owner, since) = (canary.percent, &usage.owner, &canary.since);
    writeln!(out, "\n{} is tried with {percent} % of {owner}, since {since}", canary.generation)?;
    let mut table = Table::new(&[
        "SIDE",
        "ATTEMPTS",
        "HANDLED",
        "RETRIED",
        "REJECTED",
        "FAILED",
        "EMITTED",
        "NOT HANDLED",
        "MEAN",
    ]);
    let mut side = |name: &str, side: &Side| {
        let counts =
            [side.attempts, side.handled, side.retried, side.rejected, side.failed, side.emitted];
        let mut row = vec![name.to_owned()];
        row.extend(counts.map(|count| count.to_string()));
        row.extend([format!("{} %", side.failure_rate), format!("{} µs", side.mean_us)]);
        table.row(row);
    };
    side("serving", &canary.serving);
    side("canary", &canary.canary);
    table.write(out, "", style)
}
