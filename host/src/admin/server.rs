//! The admin port's socket, thread and runtime.
//!
//! Binding is apart from serving, so that a port that is taken is an error before anything else has started. The
//! runtime is the thread's own: the data port may be at its limit and handlers may hold every other thread, probes
//! and the status page still answer.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    thread::{self, JoinHandle},
    time::Duration,
};

use hyper_util::service::TowerToHyperService;
use tokio::sync::oneshot;

use super::{State, api};
use crate::http::{BindError, Server, ServerLimits};

/// Where the admin port listens by default, and how many ports above it are tried when it is taken.
const DEFAULT_PORT: u16 = 8082;
const MORE_PORTS: u16 = 100;
/// Connections at one time: a few probes, a few scrapers, a few browsers.
const CONNECTIONS: usize = 128;
/// How long whoever asks at the end is waited for.
const DRAIN: Duration = Duration::from_secs(1);

/// A port that is bound and not served yet.
#[derive(Debug)]
pub struct Bound(Server);

/// A port that is served. Dropping it stops.
#[derive(Debug)]
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Binds `listen`, or without it 127.0.0.1:8082 or the next port that is free.
///
/// # Errors
/// The address that was given, or the whole range, cannot be bound.
pub fn bind(listen: Option<SocketAddr>) -> Result<Bound, BindError> {
    if let Some(address) = listen {
        return Server::bind(address).map(Bound);
    }
    let mut bound = Server::bind((Ipv4Addr::LOCALHOST, DEFAULT_PORT).into());
    for port in DEFAULT_PORT + 1..=DEFAULT_PORT + MORE_PORTS {
        match &bound {
            Err(error) if error.source.kind() == ErrorKind::AddrInUse => {
                bound = Server::bind((Ipv4Addr::LOCALHOST, port).into());
            }
            _ => break,
        }
    }
    bound.map(Bound)
}

impl Bound {
    /// Where it listens, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// Serves `state` on a thread of its own, until the answer is dropped.
    ///
    /// # Errors
    /// There is no thread or no runtime to be had.
    pub fn serve(self, state: State) -> io::Result<Running> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let service = TowerToHyperService::new(api::router(state, self.address()));
        let limits = ServerLimits { connections: CONNECTIONS, drain: DRAIN, ..Default::default() };
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || {
            // The other end is only ever dropped.
            let stopped = async { stopped.await.unwrap_or_default() };
            if let Err(error) = runtime.block_on(self.0.serve(service, limits, stopped)) {
                tracing::error!(%error, "The admin port is not served.");
            }
            // A question to the broker may still wait on a thread of the runtime; nobody waits for its answer.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("keyway-admin".into()).spawn(serve)?;
        Ok(Running { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("The admin port's thread had panicked.");
        }
    }
}
