//! The promise that a record handed to a broker resolves to: one end for the broker, one for whoever waits.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::{ProduceError, Produced};

/// The waiting end: resolves once the record is durable, or will not be.
#[derive(Debug)]
pub struct Acknowledgement(oneshot::Receiver<Result<Produced, ProduceError>>);

/// The broker's end. Dropping it unanswered resolves the other end to [`ProduceError::Indefinite`].
#[derive(Debug)]
pub struct Acknowledge(oneshot::Sender<Result<Produced, ProduceError>>);

impl Acknowledgement {
    /// Two connected ends.
    pub fn pair() -> (Acknowledge, Self) {
        let (sender, receiver) = oneshot::channel();
        (Acknowledge(sender), Self(receiver))
    }

    /// One that is resolved already: the record was not taken.
    pub fn failed(error: ProduceError) -> Self {
        let (acknowledge, acknowledgement) = Self::pair();
        acknowledge.send(Err(error));
        acknowledgement
    }
}

impl Acknowledge {
    /// Resolves the other end. Nobody waiting any more is no error: the record stays written.
    pub fn send(self, result: Result<Produced, ProduceError>) {
        self.0.send(result).ok();
    }
}

impl Future for Acknowledgement {
    type Output = Result<Produced, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| {
            answer.unwrap_or_else(|_closed| {
                Err(ProduceError::Indefinite { reason: "the broker was closed".into() })
            })
        })
    }
}
