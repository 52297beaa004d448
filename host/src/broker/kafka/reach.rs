//! Whether Kafka can be reached, as the last sign of it says; and librdkafka's log lines as ours.
//!
//! Signs come from every client: an answer to a question, an acknowledgement, librdkafka's word that no broker is left.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rdkafka::config::RDKafkaLogLevel;

use crate::broker::Health;

/// What is known of the way to Kafka.
#[derive(Debug)]
pub(super) struct Reach(Mutex<State>);

#[derive(Debug)]
struct State {
    health: Health,
    /// Since when the producer has had no connection at all; `None` while it may have one.
    cut_since: Option<Instant>,
}

impl Reach {
    pub(super) fn new(bootstrap_servers: &str) -> Self {
        let health =
            Health::Unavailable(format!("no answer yet from Kafka at {bootstrap_servers}"));
        Self(Mutex::new(State { health, cut_since: None }))
    }

    pub(super) fn health(&self) -> Health {
        self.state().health.clone()
    }

    /// Kafka answered. Says whether that is news.
    pub(super) fn answered(&self) -> bool {
        let mut state = self.state();
        state.cut_since = None;
        std::mem::replace(&mut state.health, Health::Ready) != Health::Ready
    }

    /// Kafka did not answer. Says whether that is news.
    pub(super) fn silent(&self, reason: String) -> bool {
        let mut state = self.state();
        std::mem::replace(&mut state.health, Health::Unavailable(reason)) == Health::Ready
    }

    /// The producer has lost its last connection.
    pub(super) fn cut(&self) {
        self.state().cut_since = Some(Instant::now());
    }

    /// The producer got an acknowledgement: it has a connection.
    pub(super) fn acknowledged(&self) {
        self.state().cut_since = None;
    }

    /// Whether the producer has had no connection since before `moment`, so that what it was given then is unsent.
    pub(super) fn cut_since(&self, moment: Instant) -> bool {
        self.state().cut_since.is_some_and(|since| since <= moment)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log line of librdkafka. Its errors are about connections, which it mends by itself: nobody has to act on one.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(target: "librdkafka", facility, "{message}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_before_the_last_connection_went_may_have_been_sent() {
        let reach = Reach::new("k:9092");
        let before = Instant::now();
        assert!(!reach.cut_since(before));
        reach.cut();
        let after = Instant::now();
        assert!(!reach.cut_since(before) || before == after);
        assert!(reach.cut_since(after));
        reach.answered();
        assert!(!reach.cut_since(after));
    }

    #[test]
    fn only_a_change_is_news() {
        let reach = Reach::new("k:9092");
        assert!(!reach.silent("down".into()));
        assert!(reach.answered());
        assert!(!reach.answered());
        assert!(reach.silent("down".into()));
        assert_eq!(reach.health(), Health::Unavailable("down".into()));
    }
}
