//! `keyway run`

use std::sync::Arc;

use clap::Args;

use super::{Error, settings::Settings, signals};
use crate::{
    admin::members,
    app::{self, Gateway, Options, Role},
    config,
};

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Take one role alone, to split them across machines [default: both]
    #[arg(long, value_enum, value_name = "ROLE")]
    only: Option<Role>,
}

impl Run {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let config::Loaded { config, file } = settings.load_from_file()?;
        let options = Options { only: self.only, config_file: file, ..Options::default() };
        runtime()?.block_on(async {
            let shutdown = signals::shutdown()?;
            let gateway = Gateway::build(Arc::new(config), options).await?;
            announce(&gateway);
            let telling = tokio::spawn(members::tell(gateway.state()));
            let ended = gateway.run(shutdown).await;
            telling.abort();
            Ok(ended?)
        })
    }
}

/// Says where the gateway is reached, with the ports that were chosen.
fn announce(gateway: &Gateway) {
    let app::Addresses { http, admin, broker } = gateway.addresses();
    match http {
        Some(http) => tracing::info!(%http, %admin, broker, "Keyway runs."),
        None => tracing::info!(%admin, broker, "Keyway runs, without a data port."),
    }
}

/// The runtime of the data path.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("keyway")
        .enable_all()
        .build()
        .map_err(|error| Error::Failed(format!("cannot start threads: {error}")))
}

impl From<app::Error> for Error {
    fn from(error: app::Error) -> Self {
        match error {
            app::Error::Configuration(text) => Self::Usage(text),
            app::Error::Failed(text) => Self::Failed(text),
        }
    }
}
