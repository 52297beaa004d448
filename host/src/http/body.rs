//! Bodies, read whole and within bounds: bytes of one, and bytes of all that are in flight.

use std::{
    error::Error,
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::problem::{Code, Problem};

/// What is in flight: requests, and the bytes of their bodies.
#[derive(Debug)]
pub(super) struct Load {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    most_requests: usize,
    most_bytes: usize,
}

impl Load {
    pub(super) fn new(most_requests: usize, most_bytes: usize) -> Self {
        let (requests, bytes) = Default::default();
        Self { requests, bytes, most_requests, most_bytes }
    }

    /// Lets one more request in, until the ticket is dropped.
    pub(super) fn admit(&self) -> Result<Ticket<'_>, Problem> {
        let ticket = Ticket { load: self, bytes: 0 };
        if self.requests.fetch_add(1, Ordering::Relaxed) < self.most_requests {
            return Ok(ticket);
        }
        let detail =
            format!("{} requests are in flight, as many as are allowed", self.most_requests);
        Err(Problem::new(Code::Busy, detail).limit(self.most_requests))
    }
}

/// One request's part of a [`Load`].
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    load: &'a Load,
    bytes: usize,
}

impl Ticket<'_> {
    fn take(&mut self, bytes: usize) -> Result<(), Problem> {
        self.bytes += bytes;
        let most = self.load.most_bytes;
        if self.load.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= most {
            return Ok(());
        }
        let detail =
            format!("the bodies in flight have {most} bytes together, as many as are allowed");
        Err(Problem::new(Code::Busy, detail).limit(most))
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.load.requests.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Reads a body of `limit` bytes at most. Its time is bounded by the connection.
pub(super) async fn read(
    body: &mut Incoming,
    limit: usize,
    ticket: &mut Ticket<'_>,
) -> Result<Bytes, Problem> {
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        let detail = format!("the body is {announced} bytes, more than the {limit} that are taken");
        return Err(Problem::new(Code::BodyTooLarge, detail).limit(limit));
    }
    let mut whole = Bytes::new(); // most bodies come in one piece, which need not be copied
    let mut parts = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        ticket.take(data.len())?;
        if whole.len() + parts.len() + data.len() > limit {
            let detail = format!("the body is more than the {limit} bytes that are taken");
            return Err(Problem::new(Code::BodyTooLarge, detail).limit(limit));
        }
        if whole.is_empty() && parts.is_empty() {
            whole = data;
        } else {
            parts.extend_from_slice(&std::mem::take(&mut whole));
            parts.extend_from_slice(&data);
        }
    }
    Ok(if parts.is_empty() { whole } else { parts.freeze() })
}

/// Reads what is left of a body, up to `limit` bytes, so that the connection can go on to the next request. Whether
/// it can.
pub(super) async fn discard(body: &mut Incoming, limit: usize) -> bool {
    if body.size_hint().lower() > limit as u64 {
        return false;
    }
    let mut left = limit;
    while let Some(frame) = body.frame().await {
        let length = frame.map(|frame| frame.data_ref().map_or(0, Bytes::len));
        match length.ok().and_then(|length| left.checked_sub(length)) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}

fn broken(error: hyper::Error) -> Problem {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut) {
            return Problem::new(Code::SlowBody, "the body did not arrive in time");
        }
        cause = error.source();
    }
    Problem::new(Code::IncompleteBody, format!("the body broke off: {error}"))
}
