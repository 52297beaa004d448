//! `keyway plugin`

use std::io::{self, Write};

use clap::{Args, Subcommand};

use super::{
    Error,
    ask::{Ask, path},
    settings::Settings,
    text::{Style, Table, or_dash},
};
use crate::admin::snapshot;

#[derive(Debug, Subcommand)]
pub(super) enum Plugin {
    /// Show the plugins of a running gateway, their generations, and what was wrong with a refused one
    List(List),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this plugin
    name: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

impl Plugin {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let Self::List(list) = self;
        let answer = list.ask.ask_gateway(settings, &path("plugins", list.name.as_deref()))?;
        answer
            .print(&mut io::stdout().lock(), |out, plugins| print(out, plugins, Style::of_stdout()))
    }
}

/// `NAME@GENERATION`, or that there is none.
pub(super) fn generation(plugin: &snapshot::PluginGeneration) -> String {
    match &plugin.generation {
        Some(generation) => format!("{}@{generation}", plugin.plugin),
        None => format!("{} (not loaded here)", plugin.plugin),
    }
}

fn print(out: &mut dyn Write, plugins: &[snapshot::Plugin], style: Style) -> io::Result<()> {
    if plugins.is_empty() {
        return writeln!(out, "There are no plugins.");
    }
    let mut table = Table::new(&["PLUGIN", "ROLES", "GENERATION", "SINCE"]);
    for plugin in plugins {
        table.row(vec![
            plugin.name.clone(),
            plugin.roles.join(", "),
            or_dash(plugin.generation.as_ref()),
            or_dash(plugin.since.as_ref()),
        ]);
    }
    table.write(out, "", style)?;
    for plugin in plugins {
        if let Some(error) = &plugin.last_error {
            writeln!(out, "{} was {}: {error}", plugin.name, style.bad("refused"))?;
        }
    }
    Ok(())
}
