//! The admin port's socket, thread and runtime.
//!
//! Binding is apart from serving, so that a port that is taken is an error before anything else has started. The
//! runtime is the thread's own, with one worker: the data port may be at its limit and handlers may hold every other
//! thread, probes and the status page still answer.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, oneshot},
};

use super::{State, api};

/// Where the admin port listens by default, and how many ports above it are tried when it is taken.
const DEFAULT_PORT: u16 = 8082;
const MORE_PORTS: u16 = 100;
/// Connections at one time; more wait to be accepted.
const CONNECTIONS: usize = 128;
/// How long a client may take to send the head of a request, and how long it may stay idle.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// How long to wait after an accept failed, which is when this process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin port cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("the admin port cannot listen on {address}: {source}")]
pub struct BindError {
    /// Where it was to listen.
    pub address: SocketAddr,
    /// Why it cannot.
    pub source: io::Error,
}

/// A port that is bound and not served yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

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
    let Some(address) = listen else { return bind_next_free() };
    bind_one(address).map_err(|source| BindError { address, source })
}

fn bind_next_free() -> Result<Bound, BindError> {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
    let mut last = bind_one(default);
    for port in DEFAULT_PORT + 1..=DEFAULT_PORT + MORE_PORTS {
        match &last {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                last = bind_one((Ipv4Addr::LOCALHOST, port).into());
            }
            _ => break,
        }
    }
    last.map_err(|source| BindError { address: default, source })
}

fn bind_one(address: SocketAddr) -> io::Result<Bound> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// Where it listens, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `state` on a thread of its own, until the answer is dropped.
    ///
    /// # Errors
    /// There is no thread or no runtime to be had.
    pub fn serve(self, state: State) -> io::Result<Running> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let router = api::router(state, self.address);
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(self.listener, router) => {}
                    _ = stopped => {}
                }
            });
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

async fn accept(listener: TcpListener, router: Router) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "The admin port cannot be served.");
            return;
        }
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _peer)) => {
                let connection = serve_connection(stream, router.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "The admin port could not accept a connection.");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "A connection to the admin port ended early.");
    }
}
