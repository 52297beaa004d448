//! A socket that waits for nothing without a deadline, and that ends without losing its last answer.
//!
//! What it waits for is known from the connection's [`Phase`]; each has its own limit in [`ServerLimits`]. A deadline
//! that passes is an error of kind `TimedOut` to whoever reads or writes, except between requests: there it is the
//! end of the stream, as if the client had closed.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::net::RecvFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    connection::{Exchange, Moment, Phase},
    server::ServerLimits,
};

pub(super) struct Stream {
    socket: TcpStream,
    limits: ServerLimits,
    exchange: Arc<Exchange>,
    reading: Timer,
    /// The moment that `reading` is set for.
    reading_for: Option<Moment>,
    writing: Timer,
    write_blocked: bool,
    shut_down: bool,
}

impl Stream {
    pub(super) fn new(socket: TcpStream, limits: ServerLimits, exchange: Arc<Exchange>) -> Self {
        Self {
            socket,
            limits,
            exchange,
            reading: Timer(None),
            reading_for: None,
            writing: Timer(None),
            write_blocked: false,
            shut_down: false,
        }
    }

    /// Nothing has arrived: how long may it be like that?
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moment = self.exchange.now();
        let phase = moment.phase();
        if phase == Phase::Idle && self.exchange.drain.has_begun() && !has_bytes(&self.socket) {
            return Poll::Ready(Ok(()));
        }
        if self.reading_for != Some(moment) {
            self.reading_for = Some(moment);
            self.reading.set(match phase {
                Phase::Idle => self.limits.idle,
                Phase::Head => self.limits.head,
                Phase::Busy => self.limits.body,
                Phase::Closing => self.limits.linger,
            });
        }
        ready!(self.reading.poll(context));
        Poll::Ready(if phase == Phase::Idle { Ok(()) } else { Err(timed_out("reading")) })
    }

    /// Fails a write that has been blocked for too long.
    fn within_limit<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_blocked = false;
            return written;
        }
        if !std::mem::replace(&mut self.write_blocked, true) {
            self.writing.set(self.limits.write);
        }
        ready!(self.writing.poll(context));
        Poll::Ready(Err(timed_out("writing")))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if read.is_pending() {
            return self.poll_patience(context);
        }
        if buffer.filled().len() > before && self.exchange.now().phase() == Phase::Idle {
            self.exchange.enter(Phase::Head);
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.within_limit(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.within_limit(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    /// Closes the sending half, then takes what still comes until the client has closed too: a socket that is
    /// closed with bytes unread resets the connection, and with it the answer that the client has not read yet.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut_down {
            ready!(Pin::new(&mut self.socket).poll_shutdown(context))?;
            self.shut_down = true;
            let linger = self.limits.linger;
            self.reading.set(linger);
        }
        // A head that hyper refused is a last answer too. Any other end leaves nothing that could be lost.
        if !matches!(self.exchange.now().phase(), Phase::Closing | Phase::Head) {
            return Poll::Ready(Ok(()));
        }
        // Asked before reading: a client that sends without a pause never lets the reads below wait.
        while self.reading.poll(context).is_pending() {
            let mut scratch = [0; 4096];
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Whether bytes have arrived that nobody has read: asked of the system, since the runtime learns of them later.
pub(super) fn has_bytes(socket: &TcpStream) -> bool {
    let mut byte = [0];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    rustix::net::recv(socket, &mut byte[..], flags).is_ok_and(|(length, _)| length > 0)
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} took the client too long"))
}

/// A timer that is made when it is first needed, and then kept.
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn set(&mut self, after: Duration) {
        let deadline = Instant::now() + after;
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.0 = Some(Box::pin(sleep_until(deadline))),
        }
    }

    /// Ready once the deadline has passed; one that was never set does not pass.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Pending, |sleep| sleep.as_mut().poll(context))
    }
}
