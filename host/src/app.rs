//! Temporary stand-in for the module that joins everything: its signatures are what the command line needs.

use std::{net::SocketAddr, sync::Arc};

use crate::{admin, broker::Broker, config::Config, handler::Handler};

/// Puts a handler of its own around each group's, such as one that shows what passes.
pub type WrapHandler = Arc<dyn Fn(&Arc<str>, Arc<dyn Handler>) -> Arc<dyn Handler> + Send + Sync>;

/// What a gateway is to be, besides its configuration.
#[derive(Clone, Default)]
pub struct Options {
    /// One role alone; `None`: all.
    pub only: Option<Role>,
    /// See [`WrapHandler`].
    pub wrap_handler: Option<WrapHandler>,
}

/// Part of what a gateway does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// The data port.
    Http,
    /// The consumer groups.
    Groups,
}

/// Where a gateway is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The data port, where it has that role.
    pub http: Option<SocketAddr>,
    /// The admin port.
    pub admin: SocketAddr,
    /// Where records are kept, in words.
    pub broker: String,
}

/// Why a gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration asks for what cannot be.
    #[error("{0}")]
    Configuration(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

/// What a check found of one part.
#[derive(Debug)]
pub struct Finding {
    /// The part: `plugin print`, `broker`.
    pub part: String,
    /// What is right, or what is wrong.
    pub result: Result<String, Error>,
}

/// A gateway.
#[derive(Debug)]
pub struct Gateway;

impl Gateway {
    /// Binds, loads, connects.
    pub async fn build(_config: Arc<Config>, _options: Options) -> Result<Self, Error> {
        Err(Error::Failed("the gateway is not there yet".into()))
    }

    /// Where it is reached.
    pub fn addresses(&self) -> Addresses {
        Addresses { http: None, admin: ([127, 0, 0, 1], 0).into(), broker: String::new() }
    }

    /// What the admin port answers from.
    pub fn state(&self) -> Option<admin::State> {
        None
    }

    /// Runs until `shutdown` resolves, then drains.
    pub async fn run(self, _shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        Ok(())
    }
}

/// Plugins in their roles, and the broker; the configuration itself is sound already.
pub async fn check(_config: &Config) -> Vec<Finding> {
    Vec::new()
}

/// The configured broker, for questions only.
pub async fn broker(_config: &Config) -> Result<Arc<dyn Broker>, Error> {
    Err(Error::Failed("the broker is not there yet".into()))
}
