//! A shadow: another generation that is run on the records that the serving one has handled. What it makes of them is
//! compared (`comparison`) and thrown away.
//!
//! It has an instance and a thread of its own, which gets the processor when nothing else wants it, and nothing of what
//! it does leaves it: it may send no HTTP request, and its metrics are nobody's.
//!
//! Invariant: whoever serves never waits for it. It is given copies of what has been handled as long as there is room for
//! them; what comes when there is none is shed, and counted.

mod comparison;

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Instant, SystemTime},
};

use tokio::{
    runtime,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use self::comparison::Tally;
use super::{
    rollout::Candidate,
    status::ShadowStatus,
    usage::{Turn, Usage},
};
use crate::handler::{Delivery, Generation, Outcome};

pub use self::comparison::{Comparisons, Difference};

/// Records that may wait for a shadow.
const RECORDS: usize = 1024;
/// Bytes that those, and what the serving generation made of them, may have.
const BYTES: usize = 32 << 20;
/// What a record counts beside its bytes.
const OVERHEAD: usize = 256;
/// Times as long as the serving generation's that a call may take: the wall's clock goes on while others have the processor.
pub(super) const PATIENCE: u32 = 10;

/// A generation that runs in the shadow of the one that serves.
pub(super) struct Shadow {
    pub(super) candidate: Candidate,
    since: SystemTime,
    room: Room,
    queue: mpsc::Sender<Work>,
    tally: Arc<Mutex<Tally>>,
    shed: AtomicU64,
}

/// What may still wait.
struct Room {
    records: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// Records and what the serving generation made of them; and the room that they take.
struct Work {
    handled: Vec<(Delivery, Outcome)>,
    _room: [OwnedSemaphorePermit; 2],
}

impl Shadow {
    /// A shadow with an instance of its own, which `usage` has, on a thread that ends with the shadow.
    pub(super) fn start(candidate: Candidate, usage: Arc<Usage>) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_time().build()?;
        let (queue, waiting) = mpsc::channel(RECORDS); // none of what is in it is empty: always room enough
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let compared = tally.clone();
        thread::Builder::new().name("keyway-shadow".into()).spawn(move || {
            step_back();
            runtime.block_on(compare(usage, waiting, &compared));
        })?;
        let [records, bytes] = [RECORDS, BYTES].map(|room| Arc::new(Semaphore::new(room)));
        Ok(Self {
            candidate,
            since: SystemTime::now(),
            room: Room { records, bytes },
            queue,
            tally,
            shed: AtomicU64::new(0),
        })
    }

    /// The generation that is tried.
    pub(super) fn generation(&self) -> &Generation {
        &self.candidate.component.generation
    }

    /// Has it try its hand at records, with what the serving generation made of each, if there is room. Never waits.
    pub(super) fn offer<'a>(
        &self,
        handled: impl Iterator<Item = (&'a Delivery, &'a Outcome)> + Clone,
    ) {
        if handled.clone().next().is_none() {
            return;
        }
        let queued = self.room.take(handled.clone()).and_then(|room| {
            let handled =
                handled.clone().map(|(delivery, outcome)| (delivery.clone(), outcome.clone()));
            self.queue.try_send(Work { handled: handled.collect(), _room: room }).ok()
        });
        if queued.is_none() {
            self.shed.fetch_add(handled.count() as u64, Relaxed);
        }
    }

    /// What is to be seen of it.
    pub(super) fn status(&self) -> ShadowStatus {
        let tally = lock(&self.tally);
        ShadowStatus {
            generation: self.generation().clone(),
            since: self.since,
            compared: tally.counts,
            shed: self.shed.load(Relaxed),
            differences: tally.differences.clone(),
        }
    }
}

impl Room {
    fn take<'a>(
        &self,
        handled: impl Iterator<Item = (&'a Delivery, &'a Outcome)>,
    ) -> Option<[OwnedSemaphorePermit; 2]> {
        let (records, bytes) = handled.fold((0, 0), |(records, bytes), (delivery, outcome)| {
            (records + 1, bytes + OVERHEAD + delivery.record.size() + size(outcome))
        });
        let records = self.records.clone().try_acquire_many_owned(records).ok()?;
        let bytes = u32::try_from(bytes).ok()?;
        Some([records, self.bytes.clone().try_acquire_many_owned(bytes).ok()?])
    }
}

fn size(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Handled(records) => records.iter().map(|record| OVERHEAD + record.size()).sum(),
        Outcome::Retry { reason, .. } | Outcome::Reject { reason } => reason.len(),
        Outcome::Failed(_) => OVERHEAD,
    }
}

/// Runs what waits until the shadow is gone.
async fn compare(usage: Arc<Usage>, mut waiting: mpsc::Receiver<Work>, tally: &Mutex<Tally>) {
    while let Some(work) = waiting.recv().await {
        let turn = usage.turn().await;
        let mut instance = None;
        for (delivery, serving) in &work.handled {
            if waiting.is_closed() {
                return;
            }
            let shadow = attempt(&turn, &mut instance, delivery).await;
            lock(tally).add(delivery, serving, &shadow);
        }
        turn.put_back(instance);
    }
}

async fn attempt(
    turn: &Turn<'_>,
    instance: &mut Option<super::instance::Instance>,
    delivery: &Delivery,
) -> Outcome {
    let outcome = match turn.ready(instance).await {
        Ok(instance) => instance.handle(delivery, Instant::now()).await,
        Err(failure) => Outcome::Failed(failure),
    };
    if !turn.reuses() || matches!(outcome, Outcome::Failed(_)) {
        *instance = None;
    }
    outcome
}

/// Lets every other thread have the processor first.
fn step_back() {
    // Where a thread has no priority of its own, this would be the whole process's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::warn!(%error, "A shadow runs with the priority of everything else.");
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
