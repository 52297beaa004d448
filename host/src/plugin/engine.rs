//! The one engine of the process, its clock, and its room for instances.
//!
//! An engine owns the pool that instances live in, so there is one however many hosts there are. The pool is address
//! space until it is used. Callers keep within it by [`Slots`]: running out would be an error in the middle of a call.

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
/// Instances that may be in a call at once.
pub(super) const ACTIVE: usize = 512;
/// Instances that may be kept for the next call.
const IDLE: usize = 512;

/// The process's engine.
pub(super) struct Engine {
    wasmtime: wasmtime::Engine,
    slots: Slots,
}

/// The room in the engine's pool: at most [`ACTIVE`] instances in calls and [`IDLE`] kept.
struct Slots {
    active: Semaphore,
    idle: AtomicUsize,
}

/// An instance's right to be kept.
pub(super) struct IdleSlot(Arc<Engine>);

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
        let slots = Slots { active: Semaphore::new(ACTIVE), idle: AtomicUsize::new(0) };
        let engine = Arc::new(Self { wasmtime, slots });
        *shared = Arc::downgrade(&engine);
        Ok(engine)
    }

    /// The engine itself.
    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    /// Waits for room for an instance that is in a call.
    pub(super) async fn activate(&self) -> SemaphorePermit<'_> {
        self.slots.active.acquire().await.expect("the semaphore is never closed")
    }

    /// Room for an instance that is kept; `None` when there is none left.
    pub(super) fn idle_slot(self: &Arc<Self>) -> Option<IdleSlot> {
        let taken = self.slots.idle.fetch_update(Ordering::AcqRel, Ordering::Acquire, |idle| {
            (idle < IDLE).then_some(idle + 1)
        });
        taken.is_ok().then(|| IdleSlot(self.clone()))
    }
}

impl Drop for IdleSlot {
    fn drop(&mut self) {
        self.0.slots.idle.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Instances come from a pool: a fresh one costs microseconds, and with kept pages and PAGEMAP_SCAN no page fault.
fn pooling() -> wasmtime::Result<wasmtime::Engine> {
    let instances = (ACTIVE + IDLE) as u32;
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
