//! `wasi:clocks/monotonic-clock` with waits that end on time: wasmtime-wasi's own would make a handler that waits for a
//! few milliseconds wait a third longer than it asked for.

mod timer;

use std::time::{Duration, Instant};

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::{
    WasiView, async_trait,
    clocks::WasiClocksView,
    p2::{
        DynPollable, Pollable,
        bindings::clocks::monotonic_clock::{self, Host},
        subscribe,
    },
};

use self::timer::{Timer, Wait};
use super::super::instance::State;

/// The waits of every guest of the process.
static TIMER: Timer = Timer::new();

/// Takes the place of wasmtime-wasi's, so that one has to be linked.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Host::now(&mut self.clocks())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Host::resolution(&mut self.clocks())
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = Host::now(self)?;
        self.subscribe_duration(when.saturating_sub(now))
    }

    fn subscribe_duration(&mut self, nanoseconds: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let until = Instant::now().checked_add(Duration::from_nanos(nanoseconds));
        let Some(until) = until.filter(|_| nanoseconds > 0) else {
            return self.clocks().subscribe_duration(nanoseconds); // one that only yields, or never ends
        };
        let table = self.ctx().table;
        let wait = table.push(TIMER.wait(until)?)?;
        subscribe(table, wait)
    }
}

#[async_trait]
impl Pollable for Wait {
    async fn ready(&mut self) {
        self.await;
    }
}
