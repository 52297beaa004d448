//! The thread that looks at the cluster: on its own every few seconds, and at once when somebody waits to know a topic.
//! Each look refreshes the [`Directory`] and says whether Kafka can be reached.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    config::{ClientConfig, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult},
};

use super::{
    directory::{Directory, Topics},
    error,
    producer::Producer,
    reach::{self, Reach},
    wake::{Served, Wakeup},
};

/// Between two looks that nobody asked for: while Kafka answers, and while it does not.
const CALM: Duration = Duration::from_secs(10);
const ANXIOUS: Duration = Duration::from_millis(500);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The least time between two looks, however many ask: this, and four times what the last one took.
const BREATH: Duration = Duration::from_millis(10);

/// A client for questions. It joins no group.
pub(super) type Observing = BaseConsumer<ObserverContext>;

/// The looking thread.
pub(super) struct Observer {
    pub(super) client: Arc<Observing>,
    /// Makes it look now.
    pub(super) wakeup: Arc<Wakeup>,
    closing: Arc<AtomicBool>,
}

impl Observer {
    /// Makes the client and starts its thread, which ends some time after [`Observer::stop`].
    pub(super) fn start(
        config: &ClientConfig,
        directory: Arc<Directory>,
        producer: Arc<Producer>,
        reach: Arc<Reach>,
    ) -> KafkaResult<(Self, JoinHandle<()>)> {
        let wakeup = Arc::new(Wakeup::default());
        let mut client: Observing = config.create_with_context(ObserverContext::default())?;
        let nonempty = Arc::clone(&wakeup);
        client.set_nonempty_callback(move || nonempty.wake());
        let client = Arc::new(client);
        let closing = Arc::new(AtomicBool::new(false));
        let servers = config.get("bootstrap.servers").unwrap_or_default().to_owned();
        let looking = Looking {
            client: Arc::clone(&client),
            directory,
            producer,
            reach,
            servers,
            wakeup: Arc::clone(&wakeup),
            closing: Arc::clone(&closing),
        };
        let thread = thread::Builder::new()
            .name("kafka-observer".into())
            .spawn(move || looking.run())
            .expect("a process that has just started can start a thread");
        Ok((Self { client, wakeup, closing }, thread))
    }

    /// Somebody waits: look now.
    pub(super) fn look(&self) {
        self.wakeup.wake();
    }

    pub(super) fn stop(&self) {
        self.closing.store(true, Relaxed);
        self.wakeup.wake();
    }
}

struct Looking {
    client: Arc<Observing>,
    directory: Arc<Directory>,
    producer: Arc<Producer>,
    reach: Arc<Reach>,
    servers: String,
    wakeup: Arc<Wakeup>,
    closing: Arc<AtomicBool>,
}

impl Looking {
    fn run(self) {
        self.wakeup.is_here();
        let (mut due, mut earliest) = (Instant::now(), Instant::now());
        while !self.closing.load(Relaxed) {
            while self.client.poll(Duration::ZERO).is_some() || self.client.context().0.take() {}
            let now = Instant::now();
            let next = if self.directory.waiters() > 0 { earliest } else { due };
            if now < next {
                thread::park_timeout(next - now);
                continue;
            }
            let pause = if self.look() { CALM } else { ANXIOUS };
            due = Instant::now() + pause;
            earliest = Instant::now() + BREATH + now.elapsed() * 4;
        }
    }

    /// One look. Says whether Kafka answered.
    fn look(&self) -> bool {
        let asked = self.directory.waiters();
        let look = topics(&self.client).map_err(|error| {
            format!("Kafka at {} does not answer: {}", self.servers, error::text(&error))
        });
        let answered = look.is_ok();
        match &look {
            Ok(topics) if self.reach.answered() => {
                tracing::info!(servers = self.servers, topics = topics.len(), "Kafka answers.");
            }
            Err(reason) if self.reach.silent(reason.clone()) => {
                tracing::warn!(servers = self.servers, reason, "Kafka does not answer any more.");
            }
            _ => {}
        }
        self.directory.settle(asked, look, |ready| self.producer.send(ready));
        answered
    }
}

fn topics(client: &Observing) -> KafkaResult<Topics> {
    let metadata = client.fetch_metadata(None, PATIENCE)?;
    let known = metadata.topics().iter().filter(|topic| !topic.partitions().is_empty());
    Ok(known.map(|topic| (topic.name().into(), topic.partitions().len() as u32)).collect())
}

/// Notes that events were served.
#[derive(Default)]
pub(super) struct ObserverContext(Served);

impl ClientContext for ObserverContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.set();
        reach::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.set();
        tracing::debug!(%error, reason, "The Kafka observer reports an error.");
    }
}

impl ConsumerContext for ObserverContext {}
