//! Questions about a configuration that only the world can answer: do its plugins load, is its broker there?

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Error, lines, loading, parts};
use crate::{
    broker::{Broker, Health},
    config::{self, Config},
    plugin::{Host, HostSettings},
};

/// How long a broker may take to say that it is there.
const BROKER_TIME: Duration = Duration::from_secs(5);
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What a check found of one part.
#[derive(Debug)]
pub struct Finding {
    /// The part: `plugins`, `broker`.
    pub part: String,
    /// What is right, or what is wrong.
    pub result: Result<String, Error>,
}

/// Loads the plugins in their roles and asks for the broker; the configuration itself is sound already.
pub async fn check(config: &Config) -> Vec<Finding> {
    let plugins = Finding { part: "plugins".into(), result: check_plugins(config).await };
    let broker = Finding { part: "broker".into(), result: check_broker(config).await };
    vec![plugins, broker]
}

/// The configured broker, for questions only.
///
/// # Errors
/// It cannot be opened, or does not answer.
pub async fn broker(config: &Config) -> Result<Arc<dyn Broker>, Error> {
    let broker = parts::open_broker(&config.broker)?;
    let answers = async {
        while let Health::Unavailable(_) = broker.health() {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    let answered = tokio::time::timeout(BROKER_TIME, answers).await;
    match (answered, broker.health()) {
        (Err(_), Health::Unavailable(reason)) => Err(Error::Failed(reason)),
        _ => Ok(broker),
    }
}

/// Where a broker keeps records, in words.
pub(super) fn describe(broker: &config::Broker) -> String {
    match broker {
        config::Broker::Embedded { path, .. } => format!("{} (embedded)", path.display()),
        config::Broker::Kafka { bootstrap_servers, .. } => format!("Kafka at {bootstrap_servers}"),
    }
}

/// A plugin host for a directory that loads what the files hold, and leaves nothing behind.
///
/// # Errors
/// The engine or its threads cannot be had.
pub fn plugin_host(directory: &Path) -> Result<Host, Error> {
    host_with(directory, None)
}

/// The same for a configuration.
pub(super) fn host(config: &Config) -> Result<Host, Error> {
    plugin_host(&config.plugins.directory)
}

/// The plugin host of a gateway, which goes on with the generations that served before.
pub(super) fn host_with_history(config: &Config) -> Result<Host, Error> {
    let (config::Broker::Embedded { path, .. } | config::Broker::Kafka { path, .. }) =
        &config.broker;
    host_with(&config.plugins.directory, Some(path.join("plugins")))
}

fn host_with(directory: &Path, history_directory: Option<PathBuf>) -> Result<Host, Error> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let directory = directory.to_owned();
    let cache_directory = cache_directory().unwrap_or_else(|| directory.join(".cache"));
    let settings = HostSettings { directory, cache_directory, history_directory, threads };
    Host::new(settings).map_err(Error::failed)
}

/// The user's directory for what can be made again (https://specifications.freedesktop.org/basedir-spec).
fn cache_directory() -> Option<PathBuf> {
    let variable =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(caches.join("keyway"))
}

async fn check_plugins(config: &Config) -> Result<String, Error> {
    let host = host(config)?;
    let (_selectors, mut wrong) = loading::load_selectors(&host, config).await;
    let (_groups, more_wrong) = loading::load_groups(&host, config.groups.iter()).await;
    wrong.extend(more_wrong);
    if !wrong.is_empty() {
        return Err(Error::Configuration(lines(&wrong)));
    }
    let names: Vec<_> = host.statuses().iter().map(|status| status.name.to_string()).collect();
    Ok(format!("({})", names.join(", ")))
}

/// Opens the broker, except an embedded one that is not there yet: a check leaves nothing behind.
async fn check_broker(config: &Config) -> Result<String, Error> {
    match &config.broker {
        config::Broker::Embedded { path, .. } if !path.exists() => {
            return Ok(format!("({} is made at the start)", path.display()));
        }
        _ => broker(config).await?.close(BROKER_TIME).await,
    }
    Ok(format!("({})", describe(&config.broker)))
}
