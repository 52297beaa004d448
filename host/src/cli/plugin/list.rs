//! `keyway plugin list`

use std::io::{self, Write};

use clap::Args;

use super::super::{
    Error,
    ask::{Ask, path},
    settings::Settings,
    text::{Style, Table, count, or_dash},
};
use crate::admin::snapshot::{Generation, Plugin};

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// Only this plugin, with the history of its generations
    name: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

impl List {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let whole = self.name.is_some();
        let answer = self.ask.ask_gateway(settings, &path("plugins", self.name.as_deref()))?;
        answer.print(&mut io::stdout().lock(), |out, plugins| {
            print(out, plugins, whole, Style::of_stdout())
        })
    }
}

fn print(out: &mut dyn Write, plugins: &[Plugin], whole: bool, style: Style) -> io::Result<()> {
    if plugins.is_empty() {
        return writeln!(out, "There are no plugins.");
    }
    let mut table =
        Table::new(&["PLUGIN", "ROLES", "GENERATION", "SINCE", "OLDER KEPT", "USED BY"]);
    for plugin in plugins {
        table.row(vec![
            plugin.name.clone(),
            plugin.roles.join(", "),
            or_dash(plugin.generation.as_ref()),
            or_dash(plugin.since.as_ref()),
            older(plugin).to_string(),
            or_dash(used_by(plugin)),
        ]);
    }
    table.write(out, "", style)?;
    for plugin in plugins {
        troubles(out, plugin, style)?;
        if whole {
            uses(out, plugin, style)?;
            history(out, plugin, style)?;
        }
    }
    Ok(())
}

/// How many other generations are kept.
fn older(plugin: &Plugin) -> usize {
    let kept = plugin.generations.iter().filter(|generation| generation.bytes.is_some());
    let mut kept: Vec<_> = kept.map(|generation| &generation.generation).collect();
    kept.sort();
    kept.dedup();
    kept.iter().filter(|generation| Some(**generation) != plugin.generation.as_ref()).count()
}

fn used_by(plugin: &Plugin) -> Option<String> {
    let owners: Vec<_> = plugin.uses.iter().map(|usage| usage.owner.as_str()).collect();
    (!owners.is_empty()).then(|| owners.join(", "))
}

fn troubles(out: &mut dyn Write, plugin: &Plugin, style: Style) -> io::Result<()> {
    let name = &plugin.name;
    if !plugin.rolled_back_from.is_empty() {
        let from = plugin.rolled_back_from.join(", ");
        writeln!(
            out,
            "{name}: {from} was {}, and is not taken from the file again before another one has been there",
            style.warning("left")
        )?;
    }
    if let Some(error) = &plugin.last_error {
        writeln!(out, "{name} was {}: {error}", style.bad("refused"))?;
    }
    if let Some(error) = &plugin.history_error {
        writeln!(out, "{name}: {}: {error}", style.bad("history"))?;
    }
    Ok(())
}

fn uses(out: &mut dyn Write, plugin: &Plugin, style: Style) -> io::Result<()> {
    writeln!(out)?;
    let mut table = Table::new(&["USED BY", "AS", "CONFIGURED", "INSTANCES", "CALLS", "FAILED"]);
    for usage in &plugin.uses {
        table.row(vec![
            usage.owner.clone(),
            usage.role.clone(),
            or_dash((!usage.config.is_empty()).then(|| usage.config.join(", "))),
            usage.instances.to_string(),
            usage.calls.to_string(),
            usage.failures.to_string(),
        ]);
    }
    table.write(out, "", style)?;
    plugin.uses.iter().try_for_each(|usage| {
        super::canary::compare(out, usage, style)?;
        super::shadow::compare(out, usage)
    })
}

/// Newest first.
fn history(out: &mut dyn Write, plugin: &Plugin, style: Style) -> io::Result<()> {
    writeln!(out)?;
    let mut table = Table::new(&["GENERATION", "STATE", "BY", "SINCE", "KEPT", "BEGAN AT"]);
    for generation in plugin.generations.iter().rev() {
        table.row(vec![
            generation.generation.clone(),
            generation.state.clone(),
            generation.by.clone(),
            generation.since.clone(),
            or_dash(generation.bytes.map(|bytes| bytesize::ByteSize(bytes).to_string())),
            or_dash(began_at(generation)),
        ]);
    }
    let refused = plugin.refused.iter().rev().map(|refused| ("refused", "file", refused));
    let aborted = plugin.aborted.iter().rev().map(|aborted| ("aborted", "canary", aborted));
    for (state, by, it) in refused.chain(aborted) {
        let (generation, at, reason) = (it.generation.clone(), it.at.clone(), it.reason.clone());
        table.row(vec![generation, state.into(), by.into(), at, "-".into(), reason]);
    }
    table.write(out, "", style)
}

/// The first of its first offsets, and how many more there are.
fn began_at(generation: &Generation) -> Option<String> {
    let (first, others) = generation.first_offsets.split_first()?;
    let by = first.group.as_ref().map(|group| format!(" ({group})")).unwrap_or_default();
    let place = format!("{}/{}@{}{by}", first.topic, first.partition, first.offset);
    match others.len() {
        0 => Some(place),
        more => Some(format!("{place}, and {}", count(more as u64, "other partition"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::snapshot::{self, example};

    fn printed(whole: bool) -> String {
        let mut out = Vec::new();
        let plugins = snapshot::plugins(&example::view());
        print(&mut out, &plugins[1..], whole, Style::plain()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_list_has_a_line_for_each_plugin_and_what_is_wrong_with_it() {
        assert_eq!(
            printed(false),
            "\
PLUGIN  ROLES    GENERATION    SINCE                     OLDER KEPT  USED BY
print   handler  0a0a0a0a0a0a  2023-11-14T22:13:20.000Z  0           group my-topic-group-1
print: 0d0d0d0d0d0d was left, and is not taken from the file again before another one has been there
print was refused: plugins/print.wasm: not a component
"
        );
    }

    #[test]
    fn one_plugin_is_shown_with_its_uses_and_its_history() {
        let text = printed(true);
        let (_, whole) = text.split_once("\n\n").unwrap();
        assert_eq!(
            whole,
            "\
USED BY                 AS       CONFIGURED  INSTANCES  CALLS  FAILED
group my-topic-group-1  handler  prefix      1          40     2

0e0e0e0e0e0e is tried with 5 % of group my-topic-group-1, since 2023-11-14T22:13:20.000Z
SIDE     ATTEMPTS  HANDLED  RETRIED  REJECTED  FAILED  EMITTED  NOT HANDLED  MEAN
serving  19        19       0        0         0       19       0 %          50 µs
canary   3         2        0        0         1       2        33.3 %       100 µs

0f0f0f0f0f0f runs in the shadow for group my-topic-group-1, since 2023-11-14T22:13:20.000Z: 30 equal, 1 different,
0 failed, 4 shed

GENERATION    STATE    BY    SINCE                     KEPT    BEGAN AT
0a0a0a0a0a0a  serving  file  2023-11-14T22:13:20.000Z  1000 B  my-topic/0@17 (my-topic-group-1)
0c0c0c0c0c0c  refused  file  2023-11-14T22:13:20.000Z  -       plugins/print.wasm: not a component
"
        );
    }
}
