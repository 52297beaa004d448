//! Logs: for people where the standard error stream is a terminal, one JSON object a line otherwise.
//!
//! They go to standard error, so that what a command answers can be piped on.

use std::{
    env, fmt,
    io::{self, IsTerminal},
    time::SystemTime,
};

use tracing_subscriber::{
    EnvFilter,
    fmt::{format::Writer, time::FormatTime},
};

/// What says which log lines are wanted; the first that is set counts.
const VARIABLES: [&str; 2] = ["KEYWAY_LOG", "RUST_LOG"];

/// Starts logging, once a process. `default` is the filter where the environment gives none.
///
/// # Errors
/// A filter of the environment that does not parse, in words that name it.
pub fn init(default: &str) -> Result<(), String> {
    let filter = filter(default)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if io::stderr().is_terminal() {
        builder.with_timer(TimeOfDay).with_ansi(colour_wanted()).with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
    Ok(())
}

/// Whether the user has not asked for text without colour, as <https://no-color.org> says how.
pub fn colour_wanted() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn filter(default: &str) -> Result<EnvFilter, String> {
    let given = VARIABLES
        .into_iter()
        .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()).map(|v| (name, v)));
    match given {
        Some((name, value)) => EnvFilter::try_new(&value).map_err(|error| {
            format!("{name} is {value:?}: {error}; give a level such as \"debug\", or \"info,keyway::broker=debug\"")
        }),
        None => Ok(EnvFilter::new(default)),
    }
}

/// `12:03:04Z`: on a terminal the day is known.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        write!(writer, "{}", now.split_once('T').map_or(now.as_str(), |(_day, time)| time))
    }
}
