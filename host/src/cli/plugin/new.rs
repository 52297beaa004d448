//! `keyway plugin new`

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, ValueEnum};

use crate::{
    cli::{Error, settings::Settings, text::Style},
    plugin::{
        build::{self, Language},
        template::{self, Kind},
    },
};

#[derive(Debug, Args)]
pub(in crate::cli) struct New {
    /// What it is written in
    #[arg(short, long, value_enum)]
    language: Written,
    /// What it does
    #[arg(short, long, value_enum, default_value = "handler")]
    kind: Does,
    /// The directory of the new folder [default: the directory of plugins]
    #[arg(long, value_name = "DIRECTORY")]
    into: Option<PathBuf>,
    /// Its name, and that of its folder
    #[arg(value_parser = name)]
    name: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Written {
    Rust,
    #[value(name = "javascript", alias = "js")]
    JavaScript,
    #[value(name = "typescript", alias = "ts")]
    TypeScript,
    Python,
    Go,
    C,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Does {
    /// Processes records that are read from a topic
    Handler,
    /// Decides keys or partitions of records that are written to a topic
    Selector,
}

fn name(name: &str) -> Result<String, String> {
    if template::is_name(name) {
        return Ok(name.to_owned());
    }
    let wanted = "give at most 64 lower-case letters, digits and single dashes, a letter first";
    Err(format!("not a name for a project in every language, {wanted}"))
}

impl New {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<(), Error> {
        let directory = match self.into {
            Some(directory) => directory,
            None => settings.load()?.plugins.directory.clone(),
        };
        let (language, kind) = (self.language.into(), self.kind.into());
        let failed = |error: io::Error| {
            let folder = directory.join(&self.name);
            Error::Failed(match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    format!(
                        "{} is there already and stays as it is; give another name",
                        folder.display()
                    )
                }
                _ => format!("{}: {error}", folder.display()),
            })
        };
        let folder = template::write(language, kind, &self.name, &directory).map_err(failed)?;
        build::write_bindings(&folder).map_err(|error| Error::Failed(error.to_string()))?;
        let next = Next { name: &self.name, folder: folder.display().to_string(), language, kind };
        Ok(next.print(&mut io::stdout().lock(), Style::of_stdout())?)
    }
}

impl From<Written> for Language {
    fn from(written: Written) -> Self {
        match written {
            Written::Rust => Self::Rust,
            Written::JavaScript => Self::JavaScript,
            Written::TypeScript => Self::TypeScript,
            Written::Python => Self::Python,
            Written::Go => Self::Go,
            Written::C => Self::C,
        }
    }
}

impl From<Does> for Kind {
    fn from(does: Does) -> Self {
        match does {
            Does::Handler => Self::Handler,
            Does::Selector => Self::Selector,
        }
    }
}

/// What there is, and what to do with it.
struct Next<'a> {
    name: &'a str,
    folder: String,
    language: Language,
    kind: Kind,
}

impl Next<'_> {
    fn print(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let Self { name, folder, language, kind } = self;
        let file = format!("{folder}/{}", template::main_file(*language, *kind));
        let (what, table, line, send) = match kind {
            Kind::Handler => (
                "handler",
                "[[groups]]",
                format!(r#"handler = {{ plugin = "{name}", config = {{ greeting = "hello" }} }}"#),
                "keyway send ada",
            ),
            Kind::Selector => (
                "key selector",
                "[[topics]]",
                format!(
                    r#"key-selector = {{ plugin = "{name}", config = {{ header = "tenant" }} }}"#
                ),
                "keyway send -H tenant=ada hello",
            ),
        };
        writeln!(
            out,
            "{} is a {what} in {language}. Its code is {}",
            style.bold(folder),
            style.bold(&file)
        )?;
        for (step, command) in [
            (
                "Build it; `keyway dev` does so by itself, on every change:",
                &*format!("keyway plugin build {folder}"),
            ),
            (&*format!("Use it, in keyway.toml below {table}:"), &line),
            ("Try it, while `keyway dev` runs:", send),
        ] {
            writeln!(out, "\n{step}\n    {}", style.bold(command))?;
        }
        Ok(())
    }
}
