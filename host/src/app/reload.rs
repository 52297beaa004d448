//! Applies a changed configuration file while the gateway runs.
//!
//! A change is applied as a whole or refused as a whole: everything that can be wrong (the file itself, a plugin) is
//! found out before anything is touched. Groups, topics and key selectors that did not change never notice.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::parts::Parts;
use crate::config::{Config, Http};

/// How often the file is looked at. Reading a small file is cheaper than telling apart all the ways in which editors,
/// symbolic links and mounted volumes replace one.
const INTERVAL: Duration = Duration::from_secs(1);

/// Follows the configuration file until it is dropped.
pub(super) async fn follow(parts: Arc<Parts>, file: Option<PathBuf>) {
    let Some(file) = file else { return std::future::pending().await };
    let mut seen = read(&file).await;
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        let now = read(&file).await;
        if now.is_none() || now == seen {
            continue; // unchanged, or being replaced just now
        }
        seen = now;
        let applied = match Config::load(Some(&file), std::env::vars_os()) {
            Ok(loaded) => {
                parts.apply(Arc::new(loaded.config)).await.map_err(|error| error.to_string())
            }
            Err(errors) => Err(errors.to_string()),
        };
        match applied {
            Ok(()) => {
                tracing::info!(file = %file.display(), "The changed configuration is in force.")
            }
            Err(reason) => tracing::error!(
                file = %file.display(), %reason,
                "The changed configuration was refused; the one before stays in force."
            ),
        }
    }
}

async fn read(file: &Path) -> Option<Vec<u8>> {
    let file = file.to_owned();
    tokio::task::spawn_blocking(move || std::fs::read(file).ok()).await.ok().flatten()
}

/// What of a changed configuration can only be had by starting again; empty: nothing.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let old_http = Http { default_topic: new.http.default_topic.clone(), ..old.http.clone() };
    [
        ("[broker]", old.broker != new.broker),
        ("[http] but for its default-topic", old_http != new.http),
        ("[admin]", old.admin != new.admin),
        ("[plugins]", old.plugins != new.plugins),
    ]
    .into_iter()
    .filter_map(|(section, changed)| changed.then_some(section))
    .collect()
}
