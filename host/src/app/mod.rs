//! The gateway as a whole: build (bind, open, load), run, drain. The only module that knows all the others.
//!
//! Building binds the sockets and loads the plugins, so that what is wrong is said before anything is served; a
//! Kafka that is down is not wrong, it is waited for. Draining is the reverse of building, under one deadline: the
//! data port answers what it accepted, the groups finish and leave, then the broker is closed, and the admin port
//! tells how it goes until the end.

mod check;
mod loading;
mod local;
mod parts;
mod pauses;
mod preview;
mod redrive;
mod reload;
mod replay;

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use local::LocalView;
use parts::Parts;

pub use check::{Finding, broker, check, plugin_host};
pub use redrive::through_alone;
pub use replay::replay_alone;

use crate::{
    admin, broker::BrokerError, config::Config, handler::Handler, http, plugin::PluginError,
};

/// How long a drain may take in all: less than the 30 s that Kubernetes gives by default.
const DRAIN: Duration = Duration::from_secs(25);
/// How much of that is kept for the broker to be closed in.
const CLOSE: Duration = Duration::from_secs(5);

/// Puts a handler of its own around each group's, such as one that shows what passes.
pub type WrapHandler = Arc<dyn Fn(&Arc<str>, Arc<dyn Handler>) -> Arc<dyn Handler> + Send + Sync>;

/// How a gateway is started, besides its configuration.
#[derive(Clone, Default)]
pub struct Options {
    /// One role alone; `None`: all.
    pub only: Option<Role>,
    /// The file that the configuration came from, whose changes are applied while the gateway runs; `None`: there is
    /// none.
    pub config_file: Option<PathBuf>,
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

impl Error {
    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// One error of all plugins that cannot be loaded.
    fn plugins(errors: &[PluginError]) -> Self {
        Self::Configuration(lines(errors))
    }
}

impl From<BrokerError> for Error {
    fn from(error: BrokerError) -> Self {
        Self::Failed(format!("the broker cannot be opened: {error}"))
    }
}

fn lines(errors: &[PluginError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A gateway that is bound and loaded, and not serving yet.
pub struct Gateway {
    parts: Arc<Parts>,
    local: Arc<LocalView>,
    http: Option<http::Server>,
    admin: admin::Bound,
    config_file: Option<PathBuf>,
}

impl Gateway {
    /// Binds the sockets, opens the broker and loads every plugin that the configuration names.
    ///
    /// # Errors
    /// A port is taken, the broker's files cannot be used, or plugins cannot be loaded (all of those are named).
    pub async fn build(config: Arc<Config>, options: Options) -> Result<Self, Error> {
        if let Err(error) = http::raise_descriptor_limit() {
            tracing::warn!(%error, "The bound on open files stays as it is: it bounds connections, too.");
        }
        let http = match options.only {
            Some(Role::Groups) => None,
            _ => Some(http::Server::bind(config.http.listen).map_err(Error::failed)?),
        };
        let admin = admin::server::bind(config.admin.listen).map_err(Error::failed)?;
        let config_file = options.config_file.clone();
        let parts = Arc::new(Parts::load(config, options).await?);
        let local = Arc::new(LocalView::new(parts.clone()));
        Ok(Self { parts, local, http, admin, config_file })
    }

    /// Where it is reached.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            http: self.http.as_ref().map(http::Server::local_addr),
            admin: self.admin.address(),
            broker: check::describe(&self.parts.config().broker),
        }
    }

    /// What the admin port answers from.
    pub fn state(&self) -> admin::State {
        admin::State { broker: self.parts.broker.clone(), local: self.local.clone() }
    }

    /// Serves until `shutdown` resolves, then drains: answers what was accepted, finishes what is in flight, commits
    /// and leaves.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let state = self.state();
        let Self { parts, local, http, admin, config_file } = self;
        let admin = admin.serve(state).map_err(Error::failed)?;
        let watch = parts.plugins.watch().map_err(Error::failed)?;
        let starting = spawn({
            let parts = parts.clone();
            async move { parts.start_groups().await }
        });
        let following = spawn(reload::follow(parts.clone(), config_file));
        let pausing = spawn(pauses::follow(parts.clone()));
        let watching = spawn(parts.clone().keep_watch());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = http.map(|server| serve(server, &parts, stopped));

        shutdown.await;

        tracing::info!("Draining: nothing new is accepted.");
        let deadline = Instant::now() + DRAIN;
        local.drain();
        starting.abort();
        following.abort();
        pausing.abort();
        watching.abort();
        drop(watch);
        drop(stop);
        let served = async {
            if let Some(serving) = serving {
                serving.await.ok(); // it ends by its own deadline; a panic in it was logged
            }
        };
        tokio::join!(served, parts.stop_groups(deadline - CLOSE));
        parts.remember().await;
        parts.broker.close(deadline.saturating_duration_since(Instant::now())).await;
        drop(admin);
        tracing::info!("Drained.");
        Ok(())
    }
}

fn serve(server: http::Server, parts: &Parts, stopped: oneshot::Receiver<()>) -> JoinHandle<()> {
    let config = parts.config();
    let defaults = http::Limits::default();
    let connections = config.http.max_connections;
    let gateway = http::Gateway {
        producer: parts.producer.clone(),
        default_topic: parts.default_topic.clone(),
        limits: http::Limits {
            server: http::ServerLimits { connections, ..defaults.server },
            body: config.http.max_body,
            ..defaults
        },
        answers: parts.answers.clone(),
    };
    spawn(async move {
        let stop = async {
            stopped.await.ok(); // dropped or sent: stop
        };
        match server.run(gateway, stop).await {
            Ok(drained) if drained.cut_off > 0 => tracing::warn!(
                connections = drained.cut_off,
                "Connections of the data port did not end in time and were cut off."
            ),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "The data port cannot be served."),
        }
    })
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}
