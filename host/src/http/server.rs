//! A listener, its bounds, and its end: the serving part, whatever is served.
//!
//! Owns the socket that listens, the tasks of its connections, and the order of shutting down: nothing more is
//! accepted, what was accepted is answered, and what is not done at the deadline is cut off and counted. One
//! connection's life is in [`connection`](super::connection), its deadlines are in [`stream`](super::stream).
//!
//! Invariant: there are never more than [`ServerLimits::connections`] connections, nor one without a deadline.

use std::{
    error::Error,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use hyper::{Request, Response, body::Body, body::Incoming, service::Service};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet, time::timeout};

use super::{
    connection::{self, Drain},
    problem::{Code, Problem},
};

/// Connections that may wait to be accepted; the system may bound it further (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;
/// Connections beyond the bound that are told so at one time. Past that they are closed without a word.
const REFUSALS: usize = 128;
/// How long accepting rests when the system has no descriptor or memory for one more connection.
const STARVED: Duration = Duration::from_millis(100);
/// What a server bears. All of it is per connection but [`connections`](Self::connections) and
/// [`drain`](Self::drain).
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at one time; one more is answered 503 and closed.
    pub connections: usize,
    /// Bytes of a request's line and headers together (431 beyond). At most 100 headers, besides.
    pub head_bytes: usize,
    /// From the first byte of a request to the end of its head.
    pub head: Duration,
    /// From the end of a request's head to the end of its body.
    pub body: Duration,
    /// Without a request. Longer than clients and balancers keep theirs (60 to 90 s), so that it is they who close.
    pub idle: Duration,
    /// Without the client taking a byte of an answer.
    pub write: Duration,
    /// How long bytes are still taken, and thrown away, after an answer that closes the connection: closing at
    /// once would reset it, and the client might never see that answer.
    pub linger: Duration,
    /// From the beginning of shutting down until what is unanswered is cut off.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            head_bytes: 32 << 10,
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            write: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            drain: Duration::from_secs(20),
        }
    }
}

/// A socket that listens. Connections wait in its backlog until [`Server::serve`] takes them.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// Why a server could not listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", hint(.source))]
pub struct BindError {
    /// The address that was given.
    pub address: SocketAddr,
    /// The cause.
    pub source: io::Error,
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "; end the process that listens there, or choose another port",
        io::ErrorKind::AddrNotAvailable => "; choose an address that this machine has",
        io::ErrorKind::PermissionDenied => "; choose a port from 1024 on",
        _ => "",
    }
}

/// Raises this process's bound on open files as far as the system lets it, and returns it. Each connection takes one,
/// and many systems begin with 1,024.
///
/// # Errors
/// When the system refuses.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off at the deadline, with whatever they still waited for.
    pub cut_off: usize,
}

impl Server {
    /// Listens on `listen`; port 0 takes a free one. Needs no runtime.
    ///
    /// # Errors
    /// When the address cannot be had: it is named with the cause and what would do.
    pub fn bind(listen: SocketAddr) -> Result<Self, BindError> {
        let bind = || {
            let listener = TcpListener::bind(listen)?;
            // The standard library's backlog of 128 overflows when some thousand clients connect at once.
            rustix::net::listen(&listener, BACKLOG)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind().map_err(|source| BindError { address: listen, source })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves `service` (a clone of it for each connection) until `shutdown` resolves, then drains: who is connected
    /// by then and has sent a request is answered, with `connection: close`.
    ///
    /// # Errors
    /// When the listener cannot be registered with the runtime.
    pub async fn serve<S, B>(
        self,
        service: S,
        limits: ServerLimits,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<Drained>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let mut listener = Listener {
            socket: tokio::net::TcpListener::from_std(self.listener)?,
            address: self.address,
            starved: false,
        };
        let mut connections = Connections {
            served: JoinSet::new(),
            refused: JoinSet::new(),
            drain: Arc::default(),
            service,
            limits,
        };
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                socket = listener.accept() => connections.open(socket),
                Some(_) = connections.served.join_next() => {}
                Some(_) = connections.refused.join_next() => {}
                () = &mut shutdown => break,
            }
        }
        connections.drain.begin();
        for socket in listener.close() {
            connections.open(socket);
        }
        Ok(connections.drain().await)
    }
}

struct Listener {
    socket: tokio::net::TcpListener,
    address: SocketAddr,
    /// Whether the last attempt found the system out of descriptors or memory, which is logged once.
    starved: bool,
}

impl Listener {
    async fn accept(&mut self) -> TcpStream {
        loop {
            match self.socket.accept().await {
                Ok((socket, _)) => {
                    if std::mem::take(&mut self.starved) {
                        tracing::info!(address = %self.address, "Connections are accepted again.");
                    }
                    return socket;
                }
                // The client gave up while it waited in the backlog.
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.starved, true) {
                        tracing::error!(
                            address = %self.address, %error,
                            "No connection can be accepted for now; if it is for want of descriptors, raise the limit on open files."
                        );
                    }
                    tokio::time::sleep(STARVED).await;
                }
            }
        }
    }

    /// Listens no more, and gives those who wait in the backlog: as far as they know they have been accepted, and
    /// they may have sent a request.
    fn close(self) -> Vec<TcpStream> {
        let open = |socket: std::net::TcpStream| {
            socket.set_nonblocking(true)?;
            TcpStream::from_std(socket)
        };
        let Ok(listener) = self.socket.into_std() else { return Vec::new() };
        let waiting = listener.incoming().map_while(Result::ok).take(BACKLOG as usize);
        waiting.filter_map(|socket| open(socket).ok()).collect()
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

struct Connections<S> {
    served: JoinSet<()>,
    refused: JoinSet<()>,
    drain: Arc<Drain>,
    service: S,
    limits: ServerLimits,
}

impl<S, B> Connections<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    fn open(&mut self, socket: TcpStream) {
        while self.served.try_join_next().is_some() {}
        if self.served.len() < self.limits.connections {
            let (service, drain) = (self.service.clone(), self.drain.clone());
            self.served.spawn(connection::serve(socket, service, self.limits, drain));
        } else if self.refused.len() < REFUSALS {
            self.refused.spawn(refuse(socket, self.limits.linger));
        }
    }

    async fn drain(mut self) -> Drained {
        let all_done = async { while self.served.join_next().await.is_some() {} };
        let in_time = timeout(self.limits.drain, all_done).await.is_ok();
        let cut_off = if in_time { 0 } else { self.served.len() };
        self.served.shutdown().await;
        Drained { cut_off }
    }
}

/// What a connection beyond the bound is told, in full: there is no hyper on it.
fn refusal() -> Vec<u8> {
    let detail = "as many connections as are allowed are open already";
    let body = Problem::new(Code::TooManyConnections, detail).document();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// Says that there are too many, and stays until the client has closed: see [`ServerLimits::linger`].
async fn refuse(mut socket: TcpStream, linger: Duration) {
    let refuse = async {
        socket.write_all(&refusal()).await?;
        socket.shutdown().await?;
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await
    };
    // Whether a client that is turned away hears of it is its own affair.
    timeout(linger, refuse).await.ok();
}
