//! The command line: one file a command.
//!
//! Commands print what they answer on standard output and fail with an [`Error`] that carries the exit code. They
//! hold no logic of the gateway: `run` and `dev` start it, the others ask it.

mod ask;
mod check;
mod dead_letters;
mod dev;
mod groups;
mod plugin;
mod run;
mod send;
mod settings;
mod signals;
mod text;
mod topics;

use std::{ffi::OsString, io, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

const EXIT_USAGE: u8 = 64;

const AFTER_HELP: &str = "\
Settings come from keyway.toml in the working directory (or --config), then from the environment: \
KAFKA_BOOTSTRAP_SERVERS, KAFKA_TOPIC, KAFKA_TOPIC_PARTITIONS, KAFKA_REPLICATION_FACTOR, KAFKA_CONSUMER_GROUP_ID, and \
any other key as KEYWAY__SECTION__KEY. KEYWAY_LOG=debug shows more of what happens.

Exit codes: 0 done, 1 failed at run time, 64 wrong usage or configuration.";

/// A gateway in front of Apache Kafka whose keying and record handling are WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "keyway", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// The configuration file [default: keyway.toml, where there is one]
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try it out: build the example plugins, run everything here, show every handled record
    Dev,
    /// Run the gateway
    Run(run::Run),
    /// Check configuration, plugins and broker, and say everything that is wrong
    Check,
    /// Send records to a running gateway
    Send(send::Send),
    /// Show topics, their partitions and offsets
    Topics(topics::Topics),
    /// Show consumer groups (who reads what, how far behind, who is idle and why), pause, resume, move and replay them
    Groups(groups::Groups),
    /// Write plugins, build them, show those of a running gateway, and what a component is and asks for
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// Show records that were given up on, and give them back
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
}

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Wrong usage or configuration.
    #[error("{0}")]
    Usage(String),
    /// It failed at run time.
    #[error("{0}")]
    Failed(String),
    /// Whoever read the output has read enough. No failure.
    #[error("the reader of the output is gone")]
    ReaderGone,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Failed(format!("cannot write the output: {error}")),
        }
    }
}

impl Error {
    /// Prints what is wrong, if anything is, and gives the exit code.
    #[allow(clippy::print_stderr, reason = "this is where the command line says what went wrong")]
    pub fn report(self) -> ExitCode {
        match self {
            Self::ReaderGone => return ExitCode::SUCCESS,
            Self::Usage(_) => eprintln!("{self}"),
            Self::Failed(_) => eprintln!("keyway: {self}"),
        }
        self.exit_code()
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(EXIT_USAGE),
            Self::Failed(_) => ExitCode::FAILURE,
            Self::ReaderGone => ExitCode::SUCCESS,
        }
    }
}

impl Cli {
    /// What was typed; or, where that asks for help or is wrong, the exit code after having said so.
    pub fn from_arguments() -> Result<Self, ExitCode> {
        Self::from(std::env::args_os())
    }

    fn from(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        Self::try_parse_from(arguments).map_err(|answer| {
            // A terminal that is gone is none of our business.
            answer.print().ok();
            if answer.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
        })
    }

    /// Which log lines are shown where the environment does not say: a gateway says what it does, a question only
    /// what is wrong. `dev` shows what happens in its own way, and what plugins log; so does a plugin's test.
    pub fn log_filter(&self) -> &'static str {
        match self.command {
            Command::Dev | Command::Plugin(plugin::Plugin::Test(_)) => "warn,plugin=info",
            Command::Run(_) => "info",
            _ => "warn",
        }
    }

    /// Does what was asked.
    pub fn run(self) -> Result<(), Error> {
        let settings = settings::Settings::new(self.config);
        match self.command {
            Command::Dev => dev::dev(&settings),
            Command::Run(run) => run.run(&settings),
            Command::Check => check::check(&settings),
            Command::Send(send) => send.run(&settings),
            Command::Topics(topics) => topics.run(&settings),
            Command::Groups(groups) => groups.run(&settings),
            Command::Plugin(plugin) => plugin.run(&settings),
            Command::DeadLetters(letters) => letters.run(&settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
