//! One use of a plugin: its settings, its instances, and its share of the room for them.
//!
//! Instances are kept by generation. Whoever takes a turn holds the generation it began with until it ends; the kept
//! instances of an older generation go as soon as nobody uses them, and its code with the last of them.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    canary::Canary,
    component::Component,
    engine::{COMMON, Engine, IdleSlot, OWN, Share},
    entry::Plugin,
    instance::{Instance, Settings},
    shadow::Shadow,
    status::{Role, UseStatus},
};
use crate::{
    config::Isolation,
    handler::{Failure, Generation},
};

/// A plugin in a role.
pub(super) struct Usage {
    pub(super) plugin: Arc<Plugin>,
    /// Whose use it is, as messages call it.
    pub(super) owner: String,
    pub(super) role: Role,
    pub(super) settings: Arc<Settings>,
    engine: Arc<Engine>,
    share: Share,
    isolation: Isolation,
    turns: Semaphore,
    max_instances: usize,
    instances: ArcSwap<Instances>,
    /// It stays with its generation, whichever serves.
    is_pinned: bool,
    canary: ArcSwapOption<Canary>,
    shadow: ArcSwapOption<Shadow>,
    calls: AtomicU64,
    failures: AtomicU64,
}

/// The instances of one generation that wait for their next call.
struct Instances {
    component: Arc<Component>,
    idle: Mutex<Vec<(Instance, IdleSlot)>>,
}

/// The right to run one call, or one run of calls, on one generation.
pub(super) struct Turn<'a> {
    usage: &'a Usage,
    instances: Arc<Instances>,
    _turn: SemaphorePermit<'a>,
    _active: SemaphorePermit<'a>,
}

impl Usage {
    /// A use of `plugin`, which serves `component` now, with at most `max_instances` calls at once.
    pub(super) fn new(
        (plugin, component): (Arc<Plugin>, Arc<Component>),
        (owner, role): (String, Role),
        settings: Arc<Settings>,
        engine: Arc<Engine>,
        isolation: Isolation,
        max_instances: usize,
    ) -> Self {
        let max_instances = max_instances.clamp(1, COMMON + OWN);
        Self {
            plugin,
            owner,
            role,
            settings,
            share: engine.share(),
            engine,
            isolation,
            turns: Semaphore::new(max_instances),
            max_instances,
            instances: ArcSwap::from_pointee(Instances::of(component)),
            is_pinned: false,
            canary: ArcSwapOption::empty(),
            shadow: ArcSwapOption::empty(),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// The same use with another generation, which it stays with whichever serves.
    pub(super) fn pinned(&self, component: Arc<Component>) -> Self {
        self.pinned_with(component, self.settings.clone(), self.max_instances)
    }

    /// The same again, with one instance, of which nothing gets out.
    pub(super) fn shadowed(&self, component: Arc<Component>) -> Self {
        let settings = Arc::new(self.settings.of_shadow(&self.owner));
        self.pinned_with(component, settings, 1)
    }

    fn pinned_with(
        &self,
        component: Arc<Component>,
        settings: Arc<Settings>,
        max_instances: usize,
    ) -> Self {
        let pinned = Self::new(
            (self.plugin.clone(), component),
            (self.owner.clone(), self.role),
            settings,
            self.engine.clone(),
            self.isolation,
            max_instances,
        );
        pinned.pin()
    }

    /// Stays with its generation from now on, whichever serves.
    pub(super) fn pin(mut self) -> Self {
        self.is_pinned = true;
        self
    }

    /// The generation that is tried beside the one that serves.
    pub(super) fn canary(&self) -> Option<Arc<Canary>> {
        self.canary.load_full()
    }

    /// Begins to try a generation, or ends it.
    pub(super) fn set_canary(&self, canary: Option<Arc<Canary>>) {
        self.canary.store(canary);
    }

    /// The generation that runs on its records and is compared.
    pub(super) fn shadow(&self) -> Option<Arc<Shadow>> {
        self.shadow.load_full()
    }

    /// Begins to run a generation beside the one that serves, or ends it.
    pub(super) fn set_shadow(&self, shadow: Option<Arc<Shadow>>) {
        self.shadow.store(shadow);
    }

    /// Waits for a turn. The generation is the one that serves when the turn comes.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let active = self.share.activate().await;
        Turn { usage: self, instances: self.serving(), _turn: turn, _active: active }
    }

    /// The generation that serves.
    pub(super) fn generation(&self) -> Generation {
        self.serving().component.generation.clone()
    }

    /// What is to be seen of it.
    pub(super) fn status(&self) -> UseStatus {
        let at_work = self.max_instances - self.turns.available_permits();
        UseStatus {
            owner: self.owner.clone(),
            role: self.role,
            config: self.settings.config_keys.clone(),
            instances: self.instances.load().lock().len() + at_work,
            calls: self.calls.load(Relaxed),
            failures: self.failures.load(Relaxed),
            canary: self.canary().map(|canary| canary.status()),
            shadow: self.shadow().map(|shadow| shadow.status()),
        }
    }

    /// Makes the first instance of `component` for this use, which proves that it can be: `init` is called.
    pub(super) async fn prove(&self, component: &Component) -> Result<Instance, Failure> {
        let _active = self.share.activate().await;
        Instance::new(component, &self.settings).await
    }

    /// Goes over to `component`, with an instance of it that is ready.
    pub(super) fn adopt(&self, component: Arc<Component>, ready: Instance) {
        let instances = Instances::of(component);
        if self.isolation == Isolation::None
            && let Some(slot) = self.engine.idle_slot()
        {
            instances.lock().push((ready, slot));
        }
        self.instances.store(Arc::new(instances));
    }

    /// The plugin's own word counts: an exchange happens there, for all uses at once, and `adopt` only follows.
    fn serving(&self) -> Arc<Instances> {
        let instances = self.instances.load_full();
        if self.is_pinned {
            return instances;
        }
        match self.plugin.serving() {
            Some(component) if !Arc::ptr_eq(&component, &instances.component) => {
                let instances = Arc::new(Instances::of(component));
                self.instances.store(instances.clone());
                instances
            }
            _ => instances,
        }
    }
}

impl Instances {
    fn of(component: Arc<Component>) -> Self {
        Self { component, idle: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Instance, IdleSlot)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// The generation of this turn.
    pub(super) fn generation(&self) -> Generation {
        self.instances.component.generation.clone()
    }

    /// Goes over to the generation that serves now. Says whether that is another one: then instances of the turn so far
    /// are of no use any more.
    pub(super) fn goes_over(&mut self) -> bool {
        let serving = self.usage.serving();
        let other = !Arc::ptr_eq(&serving, &self.instances);
        self.instances = serving;
        other
    }

    /// An instance that is ready, or a fresh one.
    pub(super) async fn instance(&self) -> Result<Instance, Failure> {
        let kept = self.instances.lock().pop();
        match kept {
            Some((instance, _slot)) => Ok(instance),
            None => self.fresh().await,
        }
    }

    /// A fresh instance.
    pub(super) async fn fresh(&self) -> Result<Instance, Failure> {
        Instance::new(&self.instances.component, &self.usage.settings).await
    }

    /// The instance in hand, or one to go on with.
    pub(super) async fn ready<'a>(
        &self,
        instance: &'a mut Option<Instance>,
    ) -> Result<&'a mut Instance, Failure> {
        if instance.is_none() {
            *instance = Some(self.instance().await?);
        }
        Ok(instance.as_mut().expect("it was just put there"))
    }

    /// Gives back the instance in hand.
    pub(super) fn put_back(&self, instance: Option<Instance>) {
        if let Some(instance) = instance {
            self.give_back(instance);
        }
    }

    /// Gives an instance back whose last call ended well. One that is not needed any more is dropped.
    pub(super) fn give_back(&self, instance: Instance) {
        if self.keeps()
            && let Some(slot) = self.usage.engine.idle_slot()
        {
            self.instances.lock().push((instance, slot));
        }
    }

    /// Counts calls that have ended, of which the last may have failed.
    pub(super) fn count(&self, calls: usize, failed: bool) {
        self.usage.calls.fetch_add(calls as u64, Relaxed);
        if failed {
            self.usage.failures.fetch_add(1, Relaxed);
        }
    }

    /// Whether an instance may serve more than one record.
    pub(super) fn reuses(&self) -> bool {
        self.usage.isolation == Isolation::None
    }

    fn keeps(&self) -> bool {
        self.reuses() && Arc::ptr_eq(&self.instances, &self.usage.instances.load())
    }
}
