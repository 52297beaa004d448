//! Replays: records that are in a topic, through a handler once more, into another topic.
//!
//! One partition after the other, each in the order of its offsets, without a group: nobody's offsets change, and what
//! members of a group do at the same time is not disturbed. All output goes to the one topic, whichever the handler names,
//! so that a replay never writes where the handler does in earnest.
//!
//! Invariant: a record is told as handled only when its output is durable.

mod plan;

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use self::plan::Plan;
use super::{Error, check, loading};
use crate::{
    admin::{
        replay::Request,
        snapshot::{Range, ReplayLine},
    },
    broker::{Broker, BrokerError, ProduceError},
    config::Config,
    dispatch::{Verdict, judge},
    handler::{Delivery, Outcome, RunReport},
    plugin::{Host, PluginError},
    produce::{Counted, Producer, SendError},
    record::{NewRecord, Place, Record, TopicPartition},
};

/// Records of one question to the broker, which gives fewer where they are large.
const FETCH: u64 = 10_000;
/// Records that are handled at one time.
const RUN: usize = 256;
/// Bytes of output that are handed over before their acknowledgements are waited for, each record counted with a little
/// more than it has: far less than fills the broker's queue, which the groups share.
const OPEN: usize = 1 << 20;
const OVERHEAD: usize = 256;

/// What a replay is done with.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) plugins: Host,
    pub(super) producer: Producer,
}

/// Replays where no gateway runs, with plugins loaded for it alone. See [`replay`].
pub async fn replay_alone(
    broker: Arc<dyn Broker>,
    config: Arc<Config>,
    request: Request,
    lines: mpsc::Sender<ReplayLine>,
) {
    match Means::alone(broker, &config).await {
        Ok(means) => replay(means, &config, request, lines).await,
        Err(error) => {
            let error = Some(error.to_string());
            let end = ReplayLine::End { handled: 0, written: 0, not_handled: 0, error };
            lines.send(end).await.ok(); // whoever is gone does not want to know
        }
    }
}

impl Means {
    pub(super) async fn alone(broker: Arc<dyn Broker>, config: &Config) -> Result<Self, Error> {
        let plugins = check::host(config)?;
        let (selectors, wrong) = loading::load_selectors(&plugins, config).await;
        if !wrong.is_empty() {
            return Err(Error::plugins(&wrong));
        }
        let producer = Producer::new(broker.clone(), selectors);
        Ok(Self { broker, plugins, producer })
    }
}

/// Does what `request` says and tells each step to `lines`, [`ReplayLine::End`] last. Ends early when nobody listens to
/// them any more.
pub(super) async fn replay(
    means: Means,
    config: &Config,
    request: Request,
    lines: mpsc::Sender<ReplayLine>,
) {
    let mut told = Told { lines, handled: 0, written: 0, not_handled: 0 };
    let result = match Plan::make(&means, config, &request).await {
        Ok(plan) => Replay { means, plan, request, told: &mut told }.run().await,
        Err(stop) => Err(stop),
    };
    let error = match result {
        Ok(()) => None,
        Err(Stop::Failed(reason)) => Some(reason),
        Err(Stop::NobodyListens) => {
            tracing::info!(handled = told.handled, "A replay was cut off.");
            return;
        }
    };
    let Told { lines, handled, written, not_handled } = told;
    let end = ReplayLine::End { handled, written, not_handled, error };
    lines.send(end).await.ok(); // whoever is gone does not want to know
}

/// Why it does not go on.
enum Stop {
    Failed(String),
    NobodyListens,
}

impl From<BrokerError> for Stop {
    fn from(error: BrokerError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<PluginError> for Stop {
    fn from(error: PluginError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What was told, and to whom.
struct Told {
    lines: mpsc::Sender<ReplayLine>,
    handled: u64,
    written: u64,
    not_handled: u64,
}

impl Told {
    async fn tell(&self, line: ReplayLine) -> Result<(), Stop> {
        self.lines.send(line).await.map_err(|_gone| Stop::NobodyListens)
    }
}

/// What one record's handling came to.
struct Output {
    records: u64,
    /// Empty in a dry run.
    sent: Vec<Result<Counted, SendError>>,
}

struct Replay<'a> {
    means: Means,
    plan: Plan,
    request: Request,
    told: &'a mut Told,
}

impl Replay<'_> {
    async fn run(mut self) -> Result<(), Stop> {
        let begin = ReplayLine::Begin {
            handler: self.plan.handler.generation().to_string(),
            into: self.plan.into.to_string(),
            ranges: self.plan.ranges.clone(),
        };
        self.told.tell(begin).await?;
        for range in std::mem::take(&mut self.plan.ranges) {
            self.partition(range).await?;
        }
        Ok(())
    }

    async fn partition(&mut self, Range { topic, partition, from, to }: Range) -> Result<(), Stop> {
        let at = TopicPartition::new(topic.as_str(), partition);
        let mut next = from;
        while next < to {
            let wanted = self.left().min(FETCH) as usize;
            if wanted == 0 {
                return Ok(());
            }
            let mut records = self.means.broker.records(&at, next, wanted).await?;
            records.retain(|record| record.offset < to);
            if records.is_empty() {
                return Ok(());
            }
            while let Some(last) = records.iter().take(RUN).next_back() {
                next = last.offset + 1;
                let behind = records.split_off(RUN.min(records.len()));
                self.handle(std::mem::replace(&mut records, behind)).await?;
                let (topic, handled, written) =
                    (topic.clone(), self.told.handled, self.told.written);
                let line = ReplayLine::Progress { topic, partition, next, handled, written };
                self.told.tell(line).await?;
            }
        }
        Ok(())
    }

    /// How many more records may be handled.
    fn left(&self) -> u64 {
        let done = self.told.handled + self.told.not_handled;
        self.request.limit.map_or(u64::MAX, |limit| limit.saturating_sub(done))
    }

    async fn handle(&mut self, records: Vec<Record>) -> Result<(), Stop> {
        let mut left: Vec<_> =
            records.into_iter().map(|record| Delivery { record, attempt: 1 }).collect();
        while !left.is_empty() {
            let RunReport { mut deliveries, outcomes, .. } = self.plan.handler.handle(left).await;
            left = deliveries.split_off(outcomes.len());
            let failed = self.write_all(deliveries.into_iter().zip(outcomes)).await?;
            match failed {
                None => {}
                Some((Delivery { record, attempt }, Verdict::Again { after, .. })) => {
                    self.wait(after).await?;
                    left.insert(0, Delivery { record, attempt: attempt + 1 });
                }
                Some((delivery, Verdict::GiveUp { reason })) => {
                    self.not_handled(delivery.record.place(), reason).await?;
                }
            }
        }
        Ok(())
    }

    /// Writes the output of records that were handled, and gives the record back that was not.
    async fn write_all(
        &mut self,
        run: impl Iterator<Item = (Delivery, Outcome)>,
    ) -> Result<Option<(Delivery, Verdict)>, Stop> {
        let (mut written, mut open) = (Vec::new(), 0);
        let mut failed = None;
        for (delivery, outcome) in run {
            let verdict = judge(&self.plan.retry, delivery.attempt, &outcome, fastrand::f64());
            failed = verdict.map(|verdict| (delivery.clone(), verdict));
            let Outcome::Handled(records) = outcome else { continue };
            let place = delivery.record.place();
            open += records.iter().map(|record| record.size() + OVERHEAD).sum::<usize>();
            written.push((place.clone(), self.write(&place, records).await?));
            if open >= OPEN {
                self.settle_all(&mut written).await?;
                open = 0;
            }
        }
        self.settle_all(&mut written).await?;
        Ok(failed)
    }

    async fn settle_all(&mut self, written: &mut Vec<(Place, Output)>) -> Result<(), Stop> {
        for (place, output) in written.drain(..) {
            self.settle(place, output).await?;
        }
        Ok(())
    }

    /// Hands one record's output over, or tells of it.
    async fn write(&self, source: &Place, records: Vec<NewRecord>) -> Result<Output, Stop> {
        let mut output = Output { records: records.len() as u64, sent: Vec::new() };
        for record in records {
            // A partition of another topic says nothing about this one.
            let partition = record.partition.filter(|_| record.topic == self.plan.into);
            let record = NewRecord { topic: self.plan.into.clone(), partition, ..record };
            if self.request.dry_run {
                let (source, record) = (source.to_string(), (&record).into());
                self.told.tell(ReplayLine::WouldWrite { source, record }).await?;
            } else {
                let sent = self.means.producer.send(record).await;
                output.sent.push(sent.map(|sent| sent.acknowledgement));
            }
        }
        Ok(output)
    }

    /// Waits until one record's output is durable. Records behind it may have written theirs already when it is not.
    async fn settle(&mut self, source: Place, output: Output) -> Result<(), Stop> {
        for sent in output.sent {
            let result = match sent {
                Ok(acknowledgement) => acknowledgement.await.map_err(SendError::from),
                Err(error) => Err(error),
            };
            match result {
                Ok(_) => {}
                Err(SendError::Produce(
                    error @ (ProduceError::Unavailable { .. } | ProduceError::Indefinite { .. }),
                )) => return Err(Stop::Failed(format!("at {source}: {error}"))),
                Err(error) => {
                    let reason = format!("its output was refused: {error}");
                    return self.not_handled(source, reason).await;
                }
            }
        }
        self.told.handled += 1;
        self.told.written += output.records;
        Ok(())
    }

    async fn not_handled(&mut self, record: Place, reason: String) -> Result<(), Stop> {
        self.told.not_handled += 1;
        let line = ReplayLine::NotHandled { record: record.to_string(), reason };
        self.told.tell(line).await?;
        if self.request.keep_going {
            return Ok(());
        }
        let Place { partition, offset } = record;
        Err(Stop::Failed(format!(
            "it stopped at {partition}@{offset}; --keep-going goes on behind such records, and --partition {} --from \
             {offset} begins there",
            partition.partition
        )))
    }

    /// Waits, unless nobody listens any more.
    async fn wait(&self, time: Duration) -> Result<(), Stop> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.told.lines.closed() => Err(Stop::NobodyListens),
        }
    }
}
