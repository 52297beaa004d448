//! `keyway plugin new`

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, ValueEnum};

use crate::{
    cli::{Error, settings::Settings, text::Style},
    config,
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
pub(super) enum Does {
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
        let (directory, begins) = match self.into {
            Some(directory) => (directory, false),
            None => {
                let loaded = settings.load_from_file()?;
                (loaded.config.plugins.directory, loaded.file.is_none())
            }
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
        let usage = Usage::of(kind, &self.name);
        if begins {
            let unwritten = |error| Error::Failed(format!("{}: {error}", config::FILE));
            fs::write(config::FILE, usage.configuration()).map_err(unwritten)?;
        }
        let next = Next { folder: folder.display().to_string(), language, kind, usage, begins };
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

/// How a new plugin is used.
struct Usage {
    what: &'static str,
    /// The table of the configuration, and the line in it.
    table: &'static str,
    line: String,
    /// What shows that it works.
    send: &'static str,
}

impl Usage {
    fn of(kind: Kind, name: &str) -> Self {
        let entry = |config| format!(r#"{{ plugin = "{name}", config = {{ {config} }} }}"#);
        match kind {
            Kind::Handler => Self {
                what: "handler",
                table: "[[groups]]",
                line: format!("handler = {}", entry(r#"greeting = "hello""#)),
                send: "keyway send ada",
            },
            Kind::Selector => Self {
                what: "key selector",
                table: "[[topics]]",
                line: format!("key-selector = {}", entry(r#"header = "tenant""#)),
                send: "keyway send -H tenant=ada hello",
            },
        }
    }

    /// A whole configuration, for where there is none.
    fn configuration(&self) -> String {
        let line = &self.line;
        let topic = "[[topics]]\nname = \"my-topic\"\npartitions = 3\n";
        let tables = match self.table {
            "[[topics]]" => format!("{topic}{line}\n"),
            table => format!(
                "{topic}\n{table}\nid = \"my-topic-group-1\"\ntopics = [\"my-topic\"]\n{line}\n\
                 output-topic = \"my-topic-out\"\n"
            ),
        };
        format!(
            "# Written by `keyway plugin new`. The keyway.toml of Keyway's repository shows every setting with its\n\
             # default; `keyway check` tells everything that is wrong with this one.\n\n\
             [http]\ndefault-topic = \"my-topic\"\n\n{tables}"
        )
    }
}

/// What there is, and what to do with it.
struct Next {
    folder: String,
    language: Language,
    kind: Kind,
    usage: Usage,
    /// Whether the configuration was written too.
    begins: bool,
}

impl Next {
    fn print(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let Self { folder, language, kind, usage, begins } = self;
        let file = format!("{folder}/{}", template::main_file(*language, *kind));
        let Usage { what, table, line, send } = usage;
        writeln!(
            out,
            "{} is a {what} in {language}. Its code is {}",
            style.bold(folder),
            style.bold(&file)
        )?;
        let building = "Build it; `keyway dev` does so by itself, on every change:";
        let build = format!("keyway plugin build {folder}");
        let testing = format!("Test it, without a gateway, with what is in {folder}/tests:");
        let test = format!("keyway plugin test {folder}");
        let using = format!("Use it, in keyway.toml below {table}:");
        let running =
            "Build and run it, and again on every change. keyway.toml was written for that:";
        let trying = "Try it, while `keyway dev` runs:";
        let steps = match begins {
            true => {
                [(running, "keyway dev"), (trying, send), (&*testing, &*test), (building, &*build)]
            }
            false => [(building, &*build), (&*testing, &*test), (&*using, line), (trying, send)],
        };
        for (step, command) in steps {
            writeln!(out, "\n{step}\n    {}", style.bold(command))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[test]
    fn the_configuration_that_is_written_is_one_and_uses_the_plugin() {
        let read = |kind| {
            let text = Usage::of(kind, "hello").configuration();
            Config::parse(&text, config::FILE, Path::new(""), []).expect(&text)
        };
        let (handles, selects) = (read(Kind::Handler), read(Kind::Selector));
        assert_eq!(&*handles.groups[0].handler.plugin, "hello");
        assert_eq!(handles.http.default_topic.as_deref(), Some("my-topic"));
        assert!(selects.groups.is_empty());
        assert_eq!(&*selects.topics[0].key_selector.as_ref().expect("it has one").plugin, "hello");
    }
}
