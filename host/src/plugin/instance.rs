//! Instances: the one place where a store is made, and the calls into it.
//!
//! A call is bounded by wall time from outside: a busy guest yields each tick of the engine's epoch, a waiting one is
//! pending anyway, and either way the timer can end it. A guest that was ended, that trapped or that broke a rule is in
//! no known state: the caller throws the instance away.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::{runtime, task::unconstrained, time::sleep_until};
use wasmtime::{
    Store, Trap, UpdateDeadline, WasmBacktrace,
    component::{ResourceTable, ResourceTableError},
};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_config::WasiConfigVariables;

use super::{
    bindings::{
        exports::keyway::plugin::{handler, selector},
        keyway::plugin::types,
        wasmcloud::messaging::types::BrokerMessageParam,
    },
    capability::{
        config,
        http::{Http, Outgoing},
        logging::{PluginLog, cut},
        messaging::{Published, wasi},
        metrics::PluginMetrics,
        stdio::Stream,
    },
    component::{Component, HandlerGuest},
    limits::{HANDLES, Limiter, RANDOM_BYTES},
    output, shadow,
};
use crate::{
    config::{Allow, Limits, PluginUse},
    handler::{Delivery, Failure, Outcome, Target},
    record::{Arena, Header, NewRecord},
};

/// Ticks of the engine's clock for which a guest runs before it yields.
const SLICE: u64 = 1;
/// Bytes of a reason that a guest gives; it goes into headers and answers.
const REASON: usize = 4 << 10;

/// What is the same for all instances of one use of a plugin.
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) allow: Allow,
    pub(super) output_topic: Option<Arc<str>>,
    pub(super) variables: Arc<WasiConfigVariables>,
    pub(super) log: PluginLog,
    /// What is configured, without the values.
    pub(super) config_keys: Vec<String>,
    /// A shadow has none.
    pub(super) metrics: Option<PluginMetrics>,
    pub(super) http: Outgoing,
}

impl Settings {
    /// The settings of `plugin` as `owner` uses it, with `network` for its outgoing HTTP.
    pub(super) fn new(
        owner: &str,
        plugin: &PluginUse,
        output_topic: Option<Arc<str>>,
        network: runtime::Handle,
    ) -> Self {
        Self {
            limits: plugin.limits,
            allow: plugin.allow.clone(),
            output_topic,
            variables: config::variables(plugin).into(),
            log: PluginLog::new(plugin.plugin.clone(), owner),
            config_keys: plugin.config.keys().map(ToString::to_string).collect(),
            metrics: Some(PluginMetrics::new(plugin.plugin.clone(), owner)),
            http: Outgoing::new(&plugin.allow.http, network),
        }
    }

    /// The same for a shadow of `owner`'s use: nothing of what it does gets out but lines on the log, which say whose they
    /// are; and it has more time, since it gets the processor last.
    pub(super) fn of_shadow(&self, owner: &str) -> Self {
        let time = self.limits.time * shadow::PATIENCE;
        Self {
            limits: Limits { time, ..self.limits },
            allow: self.allow.clone(),
            output_topic: self.output_topic.clone(),
            variables: self.variables.clone(),
            log: self.log.of(format!("shadow of {owner}")),
            config_keys: self.config_keys.clone(),
            metrics: None,
            http: Outgoing::of_shadow(),
        }
    }

    /// The settings of `plugin` for a look at what it would do, of which nothing gets out but lines on the log.
    pub(super) fn of_preview(owner: &str, plugin: &PluginUse, network: runtime::Handle) -> Self {
        let (metrics, http) = (None, Outgoing::of_shadow());
        Self { metrics, http, ..Self::new(owner, plugin, None, network) }
    }

    /// When a call that begins now has to have ended.
    fn deadline(&self, now: Instant) -> Instant {
        now + self.limits.time
    }

    /// Bytes that one call may hand over to the host, which holds them until they are judged: what may be emitted,
    /// and something for the records around it. Without this bound a list of a million times the same slice of the
    /// guest's memory would become a million copies.
    fn hand_over(&self) -> usize {
        let Limits { emit, emit_bytes, .. } = self.limits;
        usize::try_from(emit_bytes.saturating_add(emit.saturating_mul(512)).saturating_add(1 << 20))
            .unwrap_or(usize::MAX)
    }
}

/// What a store holds beside the guest.
pub(super) struct State {
    pub(super) settings: Arc<Settings>,
    pub(super) limiter: Limiter,
    wasi: WasiCtx,
    pub(super) http: Http,
    pub(super) table: ResourceTable,
    /// What the call under way has published; `None`: it is none that may.
    pub(super) published: Option<Published>,
    /// Where what calls emit is kept.
    pub(super) arena: Arena,
    stderr: Stream,
}

impl State {
    /// WASI is there, with nothing in it: language runtimes want it, plugins have no use for it.
    fn new(settings: Arc<Settings>) -> Self {
        let stderr = Stream::new(settings.clone(), tracing::Level::WARN);
        let stdout = Stream::new(settings.clone(), tracing::Level::INFO);
        let wasi = WasiCtx::builder()
            .stdout(stdout)
            .stderr(stderr.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES)
            .build();
        let limiter = Limiter::new(settings.limits.memory);
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let http = Http::new(settings.clone());
        let arena = Arena::default();
        Self { settings, limiter, wasi, http, table, published: None, arena, stderr }
    }

    /// What happened in the calls before is not blamed for the end of this one.
    fn begin(&mut self) {
        self.limiter.forget();
        self.stderr.take_tail();
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// One instance of one generation, for one use.
pub(super) struct Instance {
    store: Store<State>,
    handler: Option<HandlerGuest>,
    selector: Option<selector::Guest>,
}

impl Instance {
    /// Makes an instance and calls its `init`, both within the time limit of one call.
    pub(super) async fn new(
        component: &Component,
        settings: &Arc<Settings>,
    ) -> Result<Self, Failure> {
        let mut store = Store::new(component.engine(), State::new(settings.clone()));
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(settings.hand_over());
        store.set_max_component_handles(HANDLES);
        store.set_epoch_deadline(SLICE);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(SLICE)));
        let started = within(settings.deadline(Instant::now()), component.start(&mut store)).await;
        store.data_mut().http.end_call();
        match started.map_err(|ended| ended.failure(store.data_mut()))? {
            Ok(guests) => Ok(Self { store, handler: guests.handler, selector: guests.selector }),
            Err(reason) => Err(Failure::Instance(format!("init: {}", cut(&reason, REASON)))),
        }
    }

    /// Bytes of its memory: the linear, which never shrinks, and what the host holds for it.
    pub(super) fn memory(&self) -> u64 {
        self.store.data().limiter.used()
    }

    /// Handles one record, in a call that begins `now`. After [`Outcome::Failed`] the instance must not be used again.
    pub(super) async fn handle(&mut self, delivery: &Delivery, now: Instant) -> Outcome {
        let outcome = match &self.handler {
            Some(HandlerGuest::Keyway(guest)) => {
                handle(&mut self.store, guest, delivery, now).await
            }
            Some(HandlerGuest::Wasi(guest)) => {
                publishing(&mut self.store, now, async |store| {
                    let message = store.data_mut().message(&delivery.record)?;
                    Ok(guest.call_handle(store, message).await?.map_err(wasi::words))
                })
                .await
            }
            Some(HandlerGuest::WasmCloud(guest)) => {
                let record = &delivery.record;
                let message = BrokerMessageParam {
                    subject: &record.topic,
                    body: record.value.as_deref().unwrap_or_default(),
                    reply_to: None,
                };
                publishing(&mut self.store, now, async |store| {
                    guest.call_handle_message(store, message).await
                })
                .await
            }
            None => Err(Failure::Instance("it is no handler".into())),
        };
        outcome.unwrap_or_else(Outcome::Failed)
    }

    /// Decides where `candidate` goes; the inner error is the selector's own. After an outer one the instance must not
    /// be used again.
    pub(super) async fn select(
        &mut self,
        candidate: &NewRecord,
        partitions: u32,
    ) -> Result<Result<Target, String>, Failure> {
        let Some(guest) = &self.selector else {
            return Err(Failure::Instance("it is no selector".into()));
        };
        let headers = headers(&candidate.headers);
        let candidate = types::Candidate {
            topic: &candidate.topic,
            timestamp: candidate.timestamp,
            key: candidate.key.as_deref(),
            value: candidate.value.as_deref(),
            headers: &headers,
        };
        let answer = call(&mut self.store, Instant::now(), async |store| {
            guest.call_select(store, candidate, partitions).await
        })
        .await?;
        Ok(match answer {
            Ok(types::Target::Spread) => Ok(Target::Spread),
            Ok(types::Target::Key(key)) => Ok(Target::Key(key.into())),
            Ok(types::Target::Partition(partition)) => Ok(Target::Partition(partition)),
            Err(reason) => Err(cut(&reason, REASON).into_owned()),
        })
    }
}

async fn handle(
    store: &mut Store<State>,
    guest: &handler::Guest,
    delivery: &Delivery,
    now: Instant,
) -> Result<Outcome, Failure> {
    let record = &delivery.record;
    let headers = headers(&record.headers);
    let message = types::Message {
        topic: &record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
        attempt: delivery.attempt,
    };
    Ok(match call(store, now, async |store| guest.call_handle(store, message).await).await? {
        Ok(emitted) => {
            let State { settings, arena, .. } = store.data_mut();
            let Settings { limits, allow, output_topic, .. } = &**settings;
            Outcome::Handled(output::records(emitted, limits, allow, output_topic.as_ref(), arena)?)
        }
        Err(types::Failure::Reject(reason)) => {
            Outcome::Reject { reason: cut(&reason, REASON).into_owned() }
        }
        Err(types::Failure::Retry(retry)) => Outcome::Retry {
            reason: cut(&retry.reason, REASON).into_owned(),
            after: retry.after.map(|after| Duration::from_millis(after.into())),
        },
    })
}

/// Handles a record by the interface of another host, where an error is taken for the one that loses nothing.
async fn publishing(
    store: &mut Store<State>,
    now: Instant,
    handle: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<Result<(), String>>,
) -> Result<Outcome, Failure> {
    store.data_mut().published = Some(Published::default());
    let answer = call(store, now, handle).await;
    let published = store.data_mut().published.take().unwrap_or_default();
    Ok(match answer? {
        Ok(()) => Outcome::Handled(published.into_records()),
        Err(reason) => Outcome::Retry { reason: cut(&reason, REASON).into_owned(), after: None },
    })
}

fn headers(headers: &[Header]) -> Vec<types::HeaderParam<'_>> {
    headers
        .iter()
        .map(|header| types::HeaderParam { key: &header.key, value: header.value.as_deref() })
        .collect()
}

/// One call within its time limit.
async fn call<T>(
    store: &mut Store<State>,
    now: Instant,
    call: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<T>,
) -> Result<T, Failure> {
    let deadline = store.data().settings.deadline(now);
    store.set_epoch_deadline(SLICE);
    store.data_mut().begin();
    let result = within(deadline, call(store)).await;
    store.data_mut().http.end_call();
    result.map_err(|ended| ended.failure(store.data_mut()))
}

/// How a call ended that gave no answer.
enum Ended {
    Timeout,
    Error(wasmtime::Error),
}

/// What comes of `call`, unless it has to wait beyond its deadline. Most calls never wait, and need no timer.
async fn within<T>(
    deadline: Instant,
    call: impl Future<Output = wasmtime::Result<T>>,
) -> Result<T, Ended> {
    let mut call = pin!(call);
    let mut timer = pin!(None);
    poll_fn(|context| {
        if let Poll::Ready(result) = call.as_mut().poll(context) {
            return Poll::Ready(result.map_err(Ended::Error));
        }
        if timer.is_none() {
            timer.set(Some(unconstrained(sleep_until(deadline.into()))));
        }
        let timer = timer.as_mut().as_pin_mut().expect("it was just set");
        timer.poll(context).map(|()| Err(Ended::Timeout))
    })
    .await
}

impl Ended {
    fn failure(self, state: &mut State) -> Failure {
        let limits = &state.settings.limits;
        let error = match self {
            Self::Timeout => return Failure::Timeout(limits.time),
            Self::Error(error) => match state.limiter.refused() {
                Some(refused) => return refused.clone(),
                None => error,
            },
        };
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure.clone();
        }
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return Failure::Trap(format!("it exited with code {code}"));
        }
        let cause = error.root_cause().to_string();
        // The engine's own types for what follows are private.
        if cause.ends_with("store handle limit exceeded")
            || matches!(error.downcast_ref(), Some(ResourceTableError::Full))
        {
            return Failure::Held { what: "handles of the gateway's", limit: HANDLES as u64 };
        }
        if cause.starts_with("too much data is being copied") {
            let most = state.settings.hand_over() as u64;
            // Stopped within its own code, it called the gateway; else it had returned what it emits.
            let is_call = error.downcast_ref::<WasmBacktrace>().is_some();
            if is_call && state.published.is_none() {
                return Failure::Held { what: "bytes in one call of the gateway", limit: most };
            }
            // It emitted at least that much.
            return Failure::Emit { unit: "bytes", given: most, limit: limits.emit_bytes };
        }
        let cause = match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string().trim_start_matches("wasm trap: ").to_owned(),
            None => cause,
        };
        match state.stderr.take_tail() {
            said if said.is_empty() => Failure::Trap(cause),
            said => Failure::Trap(format!("{cause}; it said: {said}")),
        }
    }
}
