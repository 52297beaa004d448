//! `keyway plugin shadow` and `diff`

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use serde_json::json;

use super::{
    super::{
        Error,
        ask::{Ask, path},
        settings::Settings,
        text::{Style, preview},
    },
    canary::choose,
};
use crate::admin::snapshot::{Difference, Emitted, Ending, Payload, Use};

const AFTER_HELP: &str = "\
It gets what the generation that serves has handled, and its own output is thrown away. It never slows what serves: it runs \
when nothing else wants the processor, and what it cannot keep up with is shed. Its HTTP requests are refused, so that \
nothing is done twice, and its metrics are not shown. `keyway plugin list NAME` shows how it compares, `keyway plugin diff \
NAME` where it differs; `keyway plugin promote NAME` lets it serve, `keyway plugin abort NAME` ends it. One that is begun \
here ends with the gateway; one in keyway.toml (handler = { plugin = .., shadow = { file = .. } }) begins with it again.

Examples:
  keyway plugin shadow print --file target/print.wasm
  keyway plugin shadow print --generation 4f0c --group my-topic-group-1
  keyway plugin diff print";

/// Characters of a key or a value on a line.
const LINE: usize = 100;

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(in crate::cli) struct Shadow {
    /// The plugin
    name: String,
    /// The component to run, on the gateway's machine
    #[arg(long, value_name = "FILE", required_unless_present = "generation")]
    file: Option<PathBuf>,
    /// The kept generation to run, by the first digits of its digest
    #[arg(long, value_name = "GENERATION", conflicts_with = "file")]
    generation: Option<String>,
    /// Only on the records of this group
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Diff {
    /// The plugin
    name: String,
    #[command(flatten)]
    ask: Ask,
}

impl Shadow {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        // The gateway's working directory may be another one.
        let file = self.file.as_ref().map(std::path::absolute).transpose()?;
        let body = json!({"file": file, "generation": self.generation, "group": self.group});
        choose(settings, self.ask, &self.name, "shadow", &body)
    }
}

impl Diff {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let path = format!("{}/differences", path("plugins", Some(&self.name)));
        let answer = self.ask.ask_gateway(settings, &path)?;
        answer.print(&mut io::stdout().lock(), |out, differences| {
            print(out, differences, Style::of_stdout())
        })
    }
}

/// How a shadow does.
pub(super) fn compare(out: &mut dyn Write, usage: &Use) -> io::Result<()> {
    let Some(shadow) = &usage.shadow else { return Ok(()) };
    let (generation, since, owner) = (&shadow.generation, &shadow.since, &usage.owner);
    writeln!(
        out,
        "\n{generation} runs in the shadow for {owner}, since {since}: {} equal, {} different,\n{} failed, {} shed",
        shadow.equal, shadow.different, shadow.failed, shadow.shed
    )
}

fn print(out: &mut dyn Write, differences: &[Difference], style: Style) -> io::Result<()> {
    if differences.is_empty() {
        return writeln!(out, "No shadow has made something else of a record.");
    }
    for it in differences {
        let (owner, generation) = (&it.owner, &it.shadow_generation);
        let record = style.bold(&it.record);
        writeln!(out, "{record} of {owner}, {generation}: {}", it.difference)?;
        writeln!(out, "  {} = {}", line(&it.key), line(&it.value))?;
        for (sign, ending) in [("-", &it.serving), ("+", &it.shadow)] {
            for text in ended(ending) {
                let text = format!("{sign} {text}");
                let text = if sign == "-" { style.bad(&text) } else { style.good(&text) };
                writeln!(out, "{text}")?;
            }
        }
    }
    Ok(())
}

/// The lines of an ending.
fn ended(ending: &Ending) -> Vec<String> {
    let mut lines = vec![match &ending.reason {
        Some(reason) => format!("{}: {}", ending.outcome, reason.escape_debug()),
        None => ending.outcome.clone(),
    }];
    lines.extend(ending.emitted.iter().map(emitted));
    lines
}

fn emitted(Emitted { topic, record, timestamp }: &Emitted) -> String {
    let partition = record.partition.map(|partition| format!("/{partition}")).unwrap_or_default();
    let mut text = format!("  {topic}{partition}: {} = {}", line(&record.key), line(&record.value));
    for header in &record.headers {
        text += &format!("; {} = {}", header.key.escape_debug(), line(&header.value));
    }
    if let Some(timestamp) = timestamp {
        text += &format!("; at {timestamp}");
    }
    text
}

fn line(payload: &Option<Payload>) -> String {
    match payload {
        None => "-".to_owned(),
        Some(Payload::Text(text)) => preview(text.as_bytes(), LINE),
        Some(Payload::Binary { base64 }) => format!("base64 {}", preview(base64.as_bytes(), LINE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::snapshot::{self, example};

    #[test]
    fn a_difference_shows_the_record_and_both_endings() {
        let mut out = Vec::new();
        let view = example::view();
        let differences: Vec<_> = view.plugins.iter().flat_map(snapshot::differences).collect();
        print(&mut out, &differences, Style::plain()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
my-topic/0@7 of group my-topic-group-1, 0f0f0f0f0f0f: handled, rejected
  k = v
- handled
-   out: - = V
+ rejected: no such user
"
        );
    }
}
