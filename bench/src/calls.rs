//! What the call of a handler costs with everything that Keyway holds around it, beside the same call on bare Wasmtime.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use keyway::{
    config::{Allow, Isolation, Limits, PluginUse},
    handler::{Delivery, Handler, Outcome},
    plugin::{Host, HostSettings},
    record::Record,
};
use tokio::runtime::Runtime;
use wasmtime::{
    Config, Engine, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::{
    error::{Error, Result},
    gateway::build_plugin,
    statistics::Spread,
};

mod bindings {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]

    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package keyway:bench;
            world guest {
                export keyway:plugin/handler@0.1.0;
                export keyway:plugin/selector@0.1.0;
            }
        ",
        ownership: Borrowing { duplicate_if_necessary: true },
        exports: { default: async },
    });
}

use bindings::{exports::keyway::plugin::handler, keyway::plugin::types::Message};

/// Records of one run.
const RUN: usize = 256;
/// Bytes of a record's value.
const VALUE: usize = 1024;

pub(crate) fn measure(rounds: usize, time: Duration) -> Result<()> {
    let component = build_plugin("bench/noop")?;
    let runtime = Runtime::new()?;
    let (mut bare, mut warm) = (Vec::new(), Vec::new());
    let (mut fresh, mut on_two) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(runtime.block_on(bare_call(&component, time))?);
        let keyway = |isolation, threads| {
            runtime.block_on(keyway_call(&component, isolation, threads, time))
        };
        warm.push(keyway(Isolation::None, 1)?);
        fresh.push(keyway(Isolation::Record, 1)?);
        on_two.push(keyway(Isolation::Record, 2)?);
    }
    let beyond = bare.iter().zip(&warm).map(|(bare, warm)| (warm - bare) * 1000.0);
    let gain = fresh.iter().zip(&on_two).map(|(one, two)| one / two);
    println!("warm call on bare wasmtime, us: {}", Spread::of(bare.iter().copied()));
    println!("the same in Keyway: {}", Spread::of(warm.iter().copied()));
    println!("what Keyway adds, ns: {}", Spread::of(beyond));
    println!("a fresh instance for each record, us: {}", Spread::of(fresh.iter().copied()));
    println!("gain of a second thread: {}", Spread::of(gain));
    Ok(())
}

struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// One instance, and nothing else that is not needed to call it.
async fn bare_call(component: &Path, time: Duration) -> Result<f64> {
    let mut config = Config::new();
    config.concurrency_support(false); // as in Keyway
    let engine = Engine::new(&config)?;
    let component = Component::from_file(&engine, component)?;
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    let guest = Guest { wasi: WasiCtx::builder().build(), table: ResourceTable::new() };
    let mut store = Store::new(&engine, guest);
    let code = linker.instantiate_pre(&component)?;
    let instance = code.instantiate_async(&mut store).await?;
    let handler = handler::GuestIndices::new(&code)?.load(&mut store, &instance)?;
    let value = vec![b'x'; VALUE];
    let (begin, mut records) = (Instant::now(), 0);
    while begin.elapsed() < time {
        for offset in 0..RUN as u64 {
            let message = Message {
                topic: "bench",
                partition: 0,
                offset,
                timestamp: Some(1_700_000_000_000),
                key: Some(b"key"),
                value: Some(&value),
                headers: &[],
                attempt: 1,
            };
            if handler.call_handle(&mut store, message).await?.is_err() {
                return Err("it fails".into());
            }
        }
        records += RUN;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / records as f64)
}

/// A handler of a host with so many threads, and two runs for each of them on their way, as a busy group has: so none waits
/// for the next.
async fn keyway_call(
    component: &Path,
    isolation: Isolation,
    threads: usize,
    time: Duration,
) -> Result<f64> {
    let directory = tempfile::tempdir()?;
    std::fs::copy(component, directory.path().join("noop.wasm"))?;
    let host = Host::new(HostSettings {
        directory: directory.path().into(),
        cache_directory: directory.path().join("cache"),
        history_directory: None,
        threads,
    })?;
    let plugin = PluginUse {
        plugin: "noop".into(),
        config: [].into(),
        limits: Limits::default(),
        allow: Allow::default(),
    };
    let handler = host.handler("group bench", &plugin, None, isolation, 2 * threads).await?;
    handled(&handler, records()).await?; // so that everything is warm
    let begin = Instant::now();
    let runs = (0..2 * threads).map(|_| async {
        let (mut run, mut runs) = (records(), 0);
        while begin.elapsed() < time {
            run = handled(&handler, run).await?;
            runs += 1;
        }
        Ok::<_, Error>(runs)
    });
    let runs: usize = futures_util::future::try_join_all(runs).await?.into_iter().sum();
    Ok(begin.elapsed().as_secs_f64() * 1e6 / (runs * RUN) as f64)
}

fn records() -> Vec<Delivery> {
    let record = |offset| Record {
        topic: "bench".into(),
        partition: 0,
        offset,
        timestamp: Some(1_700_000_000_000),
        key: Some("key".into()),
        value: Some(vec![b'x'; VALUE].into()),
        headers: Vec::new(),
    };
    (0..RUN as u64).map(|offset| Delivery { record: record(offset), attempt: 1 }).collect()
}

/// Has all of a run handled, and gives its records back.
async fn handled(handler: &Arc<dyn Handler>, run: Vec<Delivery>) -> Result<Vec<Delivery>> {
    let (mut done, mut rest) = (Vec::new(), run);
    loop {
        let mut report = handler.handle(rest).await;
        if report.outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Handled(_))) {
            return Err(format!("it fails: {:?}", report.outcomes.last()).into());
        }
        rest = report.deliveries.split_off(report.outcomes.len());
        if done.is_empty() && rest.is_empty() {
            return Ok(report.deliveries);
        }
        done.append(&mut report.deliveries);
        if rest.is_empty() {
            return Ok(done);
        }
    }
}
