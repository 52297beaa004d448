//! Sends a guest's requests, each by a task of its own on the host's network thread.
//!
//! A use of a plugin has its own connections, so that what one use may reach helps no other. The task owns the request
//! and the answer: the guest gets one frame of the body after the other, and when the task is ended the rest is gone.

use std::{
    error::Error as StdError,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{
    Request, Response, Uri,
    body::{Body, Frame, Incoming},
};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;
use tokio::{
    runtime,
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::policy::{Policy, Refusal};

/// How long looking a name up, connecting and TLS may take together.
const CONNECT: Duration = Duration::from_secs(10);
/// Requests of one use at once; more wait, within the time of their calls.
const REQUESTS: usize = 128;
/// Connections to one host that are kept, and how long.
const IDLE: (usize, Duration) = (16, Duration::from_secs(60));
/// Bytes of one body, each way.
const BODY: usize = 16 << 20;
/// Bytes of a response's headers.
const HEADERS: usize = 64 << 10;
/// Longer than any call.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

type BoxError = Box<dyn StdError + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Connections =
    legacy::Client<Timely<HttpsConnector<HttpConnector<Resolver>>>, Limited<WasiBody>>;

/// The client of one use of a plugin.
pub(super) struct Client {
    policy: Arc<Policy>,
    connections: Connections,
    slots: Arc<Semaphore>,
    network: runtime::Handle,
}

/// Told what was refused.
pub(super) type Refused = Arc<dyn Fn(&Refusal) + Send + Sync>;

impl Client {
    /// A client for what `policy` lets through, whose tasks run on `network`.
    pub(super) fn new(policy: Policy, network: runtime::Handle) -> Self {
        Self::with_tls(policy, network, tls())
    }

    fn with_tls(policy: Policy, network: runtime::Handle, tls: ClientConfig) -> Self {
        let policy = Arc::new(policy);
        let mut http = HttpConnector::new_with_resolver(Resolver(policy.clone()));
        http.enforce_http(false);
        http.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let connections = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE.0)
            .pool_idle_timeout(IDLE.1)
            .http1_max_buf_size(HEADERS)
            .build(Timely(https));
        Self { policy, connections, slots: Arc::new(Semaphore::new(REQUESTS)), network }
    }

    /// Sends a request, unless the policy is against it. It ends with `ends`, and when nobody waits for it any more.
    pub(super) fn send(
        &self,
        request: Request<WasiBody>,
        options: RequestOptions,
        ends: CancellationToken,
        refused: Refused,
    ) -> Result<impl Future<Output = Result<Response<WasiBody>, Error>> + use<>, Refusal> {
        self.policy.request(request.method(), request.uri())?;
        let exchange = Exchange {
            connections: self.connections.clone(),
            slots: self.slots.clone(),
            options,
            refused,
        };
        let (answer, answered) = oneshot::channel();
        self.network.spawn(async move {
            tokio::select! {
                biased;
                () = ends.cancelled() => {}
                () = exchange.run(request, answer) => {}
            }
        });
        Ok(async move { answered.await.unwrap_or(Err(Error::ConnectionTerminated)) })
    }
}

/// One request and its answer.
struct Exchange {
    connections: Connections,
    slots: Arc<Semaphore>,
    options: RequestOptions,
    refused: Refused,
}

impl Exchange {
    async fn run(
        self,
        request: Request<WasiBody>,
        mut answer: oneshot::Sender<Result<Response<WasiBody>, Error>>,
    ) {
        let exchange = async {
            let slot = self.slots.acquire().await.expect("the semaphore is never closed");
            (self.respond(request).await, slot)
        };
        let (response, _slot) = tokio::select! {
            exchanged = exchange => exchanged,
            () = answer.closed() => return,
        };
        match response {
            Err(error) => {
                answer.send(Err(error)).ok(); // nobody waits for it any more
            }
            Ok(response) => {
                let (head, body) = response.into_parts();
                let (frames, received) = mpsc::channel(1);
                let received = Received { frames: received, ended: false }.boxed_unsync();
                if answer.send(Ok(Response::from_parts(head, received))).is_ok() {
                    self.receive(body, frames).await;
                }
            }
        }
    }

    async fn respond(&self, request: Request<WasiBody>) -> Result<Response<Incoming>, Error> {
        let RequestOptions { connect_timeout, first_byte_timeout, .. } = self.options;
        // Connections are shared, so the guest's bound on connecting is one on the wait for the answer.
        let first_byte = first_byte_timeout.unwrap_or(FOREVER);
        let time = connect_timeout.unwrap_or(CONNECT).saturating_add(first_byte).min(FOREVER);
        let request = request.map(|body| Limited::new(body, BODY));
        match timeout(time, self.connections.request(request)).await {
            Err(_) => Err(Error::ConnectionReadTimeout),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                if let Some(refusal) = cause(&error) {
                    (self.refused)(refusal);
                }
                Err(failure(&error))
            }
        }
    }

    /// Hands the body over, frame by frame, each when the one before is taken.
    async fn receive(&self, mut body: Incoming, frames: mpsc::Sender<Next>) {
        let between_bytes = self.options.between_bytes_timeout.unwrap_or(FOREVER);
        let mut left = BODY;
        loop {
            let next = tokio::select! {
                next = timeout(between_bytes, body.frame()) => next,
                () = frames.closed() => return,
            };
            let next = match next {
                Err(_) => Some(Err(Error::ConnectionReadTimeout)),
                Ok(None) => None,
                Ok(Some(Err(error))) => Some(Err(failure(&error))),
                Ok(Some(Ok(frame))) => {
                    let taken = frame.data_ref().map_or(0, Bytes::len);
                    match left.checked_sub(taken) {
                        Some(rest) => {
                            left = rest;
                            Some(Ok(frame))
                        }
                        None => Some(Err(Error::HttpResponseBodySize(Some(BODY as u64)))),
                    }
                }
            };
            let last = !matches!(next, Some(Ok(_)));
            if frames.send(next).await.is_err() || last {
                return;
            }
        }
    }
}

/// A frame, an error that ends the body, or its end.
type Next = Option<Result<Frame<Bytes>, Error>>;

/// A body as its task hands it over. Without a word of its end it has been cut off.
struct Received {
    frames: mpsc::Receiver<Next>,
    ended: bool,
}

impl Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = match ready!(self.frames.poll_recv(context)) {
            Some(next) => next,
            None => Some(Err(Error::ConnectionTerminated)),
        };
        self.ended = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }
}

/// Looks names up and leaves out the addresses that may not be reached.
#[derive(Clone)]
struct Resolver(Arc<Policy>);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let policy = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (mut allowed, mut refusal) = (Vec::new(), None);
            for address in found {
                match policy.address(name.as_str(), address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(refused) => refusal = Some(refused),
                }
            }
            match refusal {
                Some(refusal) if allowed.is_empty() => Err(refusal.into()),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}

/// A connector that takes no longer than [`CONNECT`], whatever it waits for.
#[derive(Clone)]
struct Timely<S>(S);

impl<S> Service<Uri> for Timely<S>
where
    S: Service<Uri, Error = BoxError, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connected = self.0.call(uri);
        Box::pin(async move {
            timeout(CONNECT, connected)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        })
    }
}

/// What this machine trusts, read once.
fn tls() -> ClientConfig {
    static TLS: OnceLock<ClientConfig> = OnceLock::new();
    let read = || {
        builder().with_native_roots().map(|trusting| trusting.with_no_client_auth()).unwrap_or_else(|error| {
            tracing::warn!(
                %error, "No plugin can reach https: this machine has no certificates of authorities (ca-certificates)."
            );
            builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
        })
    };
    TLS.get_or_init(read).clone()
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the versions")
}

/// What the guest is told.
fn failure(error: &(dyn StdError + 'static)) -> Error {
    if let Some(refusal) = cause::<Refusal>(error) {
        return refusal.clone().into();
    }
    if cause::<LengthLimitError>(error).is_some() {
        return Error::HttpRequestBodySize(Some(BODY as u64));
    }
    match cause(error) {
        Some(rustls::Error::InvalidCertificate(_)) => return Error::TlsCertificateError,
        Some(_) => return Error::TlsProtocolError,
        None => {}
    }
    if let Some(error) = cause::<hyper::Error>(error)
        && (error.is_incomplete_message() || error.is_closed())
    {
        return Error::ConnectionTerminated;
    }
    match cause::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => Error::ConnectionRefused,
        Some(io::ErrorKind::TimedOut) => Error::ConnectionTimeout,
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            Error::ConnectionTerminated
        }
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            Error::DestinationUnavailable
        }
        _ => Error::InternalError(Some(words(error))),
    }
}

/// The first of an error's causes that is of this type.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    causes(error).find_map(|error| error.downcast_ref())
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    // What an I/O error was made of is not its source.
    let next = |error: &&'a (dyn StdError + 'static)| {
        let error: &'a (dyn StdError + 'static) = *error;
        match error.downcast_ref().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    };
    std::iter::successors(Some(error), next)
}

/// All of an error's causes on one line.
fn words(error: &(dyn StdError + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
