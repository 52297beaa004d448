//! One connection's life: hyper between a [`Stream`] that keeps the deadlines and a service that marks the phases.
//!
//! Neither hyper's own timer nor its graceful shutdown is used. Its one timeout covers the wait for a request and
//! the arrival of its head alike, and none covers bodies; its shutdown closes an idle connection without looking for
//! a request that has arrived. Both want to know no more than in which [`Phase`] the connection is.

use std::{
    error::Error,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::Notify, time::sleep};

use super::{
    server::ServerLimits,
    stream::{Stream, has_bytes},
};

/// hyper's buffer for what it has read and not yet handed on. Its own default is 400 KiB, for each connection.
const READ_BUFFER: usize = 64 << 10;

/// The beginning of the end, for all connections of a server.
#[derive(Debug, Default)]
pub(super) struct Drain {
    begun: AtomicBool,
    notify: Notify,
}

impl Drain {
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    async fn begun(&self) {
        let mut notified = pin!(self.notify.notified());
        notified.as_mut().enable();
        if !self.has_begun() {
            notified.await;
        }
    }
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing of another request has arrived.
    Idle,
    /// A request's head arrives.
    Head,
    /// The service has the request: its body arrives, or its answer is made.
    Busy,
    /// The last answer said that it is the last.
    Closing,
}

/// The phase of one connection, as its stream and its service tell it each other. Only that connection's task uses
/// it; atomic because the task moves between threads.
#[derive(Debug)]
pub(super) struct Exchange {
    /// How often the phase has changed, and in the lowest two bits the phase.
    moment: AtomicU64,
    pub(super) drain: Arc<Drain>,
}

/// A phase, told apart from the same phase of another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(u64);

impl Moment {
    pub(super) fn phase(self) -> Phase {
        [Phase::Idle, Phase::Head, Phase::Busy, Phase::Closing][(self.0 & 3) as usize]
    }
}

impl Exchange {
    pub(super) fn new(drain: Arc<Drain>) -> Self {
        Self { moment: AtomicU64::new(Phase::Idle as u64), drain }
    }

    pub(super) fn now(&self) -> Moment {
        Moment(self.moment.load(Ordering::Relaxed))
    }

    pub(super) fn enter(&self, phase: Phase) {
        let count = (self.now().0 >> 2).wrapping_add(1);
        self.moment.store(count << 2 | phase as u64, Ordering::Relaxed);
    }

    /// Marks the end of a request, and closes the connection with it where the answer or the server wants that.
    fn answer<B>(&self, response: &mut Response<B>) {
        if self.drain.has_begun() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let closes = response.headers().get(CONNECTION).is_some_and(|value| value == "close");
        self.enter(if closes { Phase::Closing } else { Phase::Idle });
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<S, B>(
    socket: TcpStream,
    service: S,
    limits: ServerLimits,
    drain: Arc<Drain>,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    // hyper takes its buffers, 16 KiB, when it is first polled: one that never says a word is to cost nothing.
    // Peeked, since a new socket counts as readable until somebody has looked.
    let mut byte = [0];
    let speaks = tokio::select! {
        peeked = socket.peek(&mut byte) => peeked.is_ok_and(|length| length > 0),
        () = drain.begun() => has_bytes(&socket),
        () = sleep(limits.idle) => false,
    };
    if !speaks || socket.set_nodelay(true).is_err() {
        return;
    }
    let exchange = Arc::new(Exchange::new(drain.clone()));
    let stream = Stream::new(socket, limits, exchange.clone());
    let service = service_fn(move |request| {
        exchange.enter(Phase::Busy);
        let exchange = exchange.clone();
        let answer = service.call(request);
        async move {
            let mut response = answer.await?;
            exchange.answer(&mut response);
            Ok::<_, S::Error>(response)
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(limits.head_bytes)
        .max_buf_size(READ_BUFFER)
        // A client may close its half after its request and still wants the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    // Polled once and then only kept: it has to wake this task, so that an idle stream sees that the end has begun.
    // Polled with every event of the connection it would take a lock that all connections share.
    let mut wake = pin!(drain.notify.notified());
    let (Poll::Pending | Poll::Ready(())) = futures_util::poll!(wake.as_mut());
    if let Err(error) = connection.await {
        tracing::debug!(%error, "A connection broke off.");
    }
}
