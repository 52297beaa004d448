//! `wasi:clocks/monotonic-clock` with waits that end on time. wasmtime-wasi's own use the runtime's timer, which counts
//! whole milliseconds and rounds up: a handler that waits for a few of them would wait a third longer than it asked for.

use std::time::{Duration, Instant};

use futures_timer::Delay;
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

use super::super::instance::State;

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
        let wait = table.push(Wait { until })?;
        subscribe(table, wait)
    }
}

struct Wait {
    until: Instant,
}

#[async_trait]
impl Pollable for Wait {
    async fn ready(&mut self) {
        let left = self.until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            Delay::new(left).await;
        }
    }
}
