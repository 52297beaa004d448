//! The one engine of the process, its clock, and its room for instances.
//!
//! An engine owns the pool that instances live in, so there is one however many hosts there are. The pool is address
//! space until it is used. Callers keep within it by [`Room`]: running out would be an error in the middle of a call.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::limits::TABLE_ELEMENTS;

/// How long a guest runs before it lets others run on its thread.
pub(super) const TICK: Duration = Duration::from_millis(5);
/// Instances that may be in a call at once, over all uses together. A guest that waits is in a call. Each takes some ten
/// of the memory mappings of which Linux gives a process 65,530.
pub(super) const COMMON: usize = 4096;
/// Instances in calls that a use has to itself beside those, so that guests who wait in one use, however many, leave
/// room for every other.
pub(super) const OWN: usize = 8;
/// Uses that have instances to themselves; any further one has the common room alone.
const OWNERS: usize = 64;
/// Instances that may be kept for the next call.
const IDLE: usize = 512;

/// The process's engine.
pub(super) struct Engine {
    wasmtime: wasmtime::Engine,
    room: Room,
}

/// The room in the engine's pool for instances.
struct Room {
    common: Semaphore,
    owners: AtomicUsize,
    idle: AtomicUsize,
}

/// An instance's right to be kept.
pub(super) struct IdleSlot(Arc<Engine>);

/// One use's share of the room: what it has to itself, and its way to the rest.
pub(super) struct Share {
    engine: Arc<Engine>,
    own: Option<Semaphore>,
}

impl Engine {
    /// The engine of this process; made when there is none.
    pub(super) fn shared() -> wasmtime::Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Engine>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = shared.upgrade() {
            return Ok(engine);
        }
        let wasmtime = pooling().or_else(|error| {
            tracing::warn!(%error, "Instances cost more: there is no address space for a pool of them.");
            wasmtime::Engine::new(&settings())
        })?;
        start_clock(&wasmtime)?;
        let (owners, idle) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let room = Room { common: Semaphore::new(COMMON), owners, idle };
        let engine = Arc::new(Self { wasmtime, room });
        *shared = Arc::downgrade(&engine);
        Ok(engine)
    }

    /// The engine itself.
    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    /// The share of one more use.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        let own = take_one(&self.room.owners, OWNERS).then(|| Semaphore::new(OWN));
        Share { engine: self.clone(), own }
    }

    /// Room for an instance that is kept; `None` when there is none left.
    pub(super) fn idle_slot(self: &Arc<Self>) -> Option<IdleSlot> {
        take_one(&self.room.idle, IDLE).then(|| IdleSlot(self.clone()))
    }
}

/// Counts one more, unless there are as many as there may be.
fn take_one(count: &AtomicUsize, most: usize) -> bool {
    let one_more = |count| (count < most).then_some(count + 1);
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok()
}

impl Drop for IdleSlot {
    fn drop(&mut self) {
        self.0.room.idle.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Share {
    /// Waits for room for an instance that is in a call.
    pub(super) async fn activate(&self) -> SemaphorePermit<'_> {
        let common = self.engine.room.common.acquire();
        let permit = match &self.own {
            None => common.await,
            Some(own) => tokio::select! {
                biased;
                permit = own.acquire() => permit,
                permit = common => permit,
            },
        };
        permit.expect("the semaphores are never closed")
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.own.is_some() {
            self.engine.room.owners.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Instances come from a pool: a fresh one costs microseconds, and with kept pages and PAGEMAP_SCAN no page fault.
fn pooling() -> wasmtime::Result<wasmtime::Engine> {
    let instances = (COMMON + OWN * OWNERS + IDLE) as u32;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(8 * instances)
        .total_memories(2 * instances)
        .total_tables(4 * instances)
        .total_stacks(instances)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(2 << 20)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    wasmtime::Engine::new(settings().allocation_strategy(InstanceAllocationStrategy::Pooling(pool)))
}

fn settings() -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false) // no WASI 0.3 here, and without it a call costs a third
        .epoch_interruption(true);
    config
}

/// The clock is a thread of its own, so that it ticks when every other thread is busy. It ends with the engine.
fn start_clock(engine: &wasmtime::Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    let tick = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    };
    thread::Builder::new().name("keyway-epoch".into()).spawn(tick).map(drop)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_use_that_takes_all_the_common_room_leaves_every_other_its_own() {
        let engine = Engine::shared().unwrap();
        let (greedy, modest) = (engine.share(), engine.share());
        let taken: Vec<_> =
            std::iter::from_fn(|| greedy.activate().now_or_never()).take(2 * COMMON).collect();
        assert!(taken.len() <= COMMON + OWN);
        let own: Vec<_> = std::iter::from_fn(|| modest.activate().now_or_never()).collect();
        assert_eq!(own.len(), OWN);
        drop(taken);
        assert!(greedy.activate().now_or_never().is_some());
    }
}
