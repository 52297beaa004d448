//! What a gateway is made of, and the groups that run in it now.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::Instant;

use super::{
    Error, Options, Role, check,
    loading::{Loaded, load_groups, load_selectors},
    pauses::{PauseError, PauseFile},
};
use crate::{
    broker::{Broker, EnsuredTopic, TopicSpec, embedded::Embedded, kafka::Kafka},
    config::{self, Config, Group as GroupConfig},
    dispatch::{Group, GroupStatus, Scope},
    http,
    plugin::{Host, PluginError},
    produce::Producer,
};

/// The wait before a broker that did not answer is asked again for its topics.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How often it is written where generations of plugins began, and looked how records are shared out.
const WATCH: Duration = Duration::from_secs(1);

/// Everything that lives as long as the gateway.
pub(super) struct Parts {
    config: ArcSwap<Config>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) plugins: Host,
    pub(super) producer: Producer,
    pub(super) answers: Arc<http::Answers>,
    pauses: Arc<PauseFile>,
    /// What the data port takes for the topic of a record that names none.
    pub(super) default_topic: Arc<ArcSwapOption<Arc<str>>>,
    options: Options,
    /// Whether the broker has been seen to have every topic.
    has_topics: AtomicBool,
    groups: Mutex<Groups>,
}

/// Groups by their state of life.
#[derive(Default)]
struct Groups {
    /// Loaded, and waiting for the broker to have their topics.
    waiting: Vec<Loaded>,
    running: Vec<Arc<Group>>,
    /// No more are started.
    closed: bool,
}

/// Opens the broker that a configuration names. A Kafka that is down is opened all the same: its health says so.
///
/// # Errors
/// The embedded broker's files cannot be used, or librdkafka refuses its properties.
pub(super) fn open_broker(config: &config::Broker) -> Result<Arc<dyn Broker>, Error> {
    Ok(match config {
        config::Broker::Embedded { path, retention } => {
            Arc::new(Embedded::open(path, *retention).map_err(Error::failed)?)
        }
        config::Broker::Kafka { bootstrap_servers, properties, .. } => {
            Arc::new(Kafka::connect(bootstrap_servers, properties)?)
        }
    })
}

impl Parts {
    /// Opens the broker and loads every plugin in its role.
    ///
    /// # Errors
    /// The broker's files cannot be used, or plugins cannot be loaded: all of those are named.
    pub(super) async fn load(config: Arc<Config>, options: Options) -> Result<Self, Error> {
        let pauses = Arc::new(PauseFile::open(&config.broker).map_err(Error::failed)?);
        let broker = open_broker(&config.broker)?;
        let plugins = check::host_with_history(&config)?;
        let (selectors, mut wrong) = load_selectors(&plugins, &config).await;
        let groups = config.groups.iter().filter(|_| runs_groups(&options));
        let (waiting, more_wrong) = load_groups(&plugins, groups).await;
        wrong.extend(more_wrong);
        if !wrong.is_empty() {
            return Err(Error::plugins(&wrong));
        }
        Ok(Self {
            producer: Producer::new(broker.clone(), selectors),
            answers: Arc::default(),
            default_topic: Arc::new(ArcSwapOption::new(default_topic(&config))),
            config: ArcSwap::new(config),
            broker,
            plugins,
            pauses,
            options,
            has_topics: AtomicBool::new(false),
            groups: Mutex::new(Groups { waiting, ..Groups::default() }),
        })
    }

    pub(super) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Waits for the broker to have every topic, then starts the groups that wait for it.
    pub(super) async fn start_groups(&self) {
        self.ensure_topics().await;
        self.has_topics.store(true, Relaxed);
        let mut groups = self.lock();
        for loaded in std::mem::take(&mut groups.waiting) {
            self.start_group(&mut groups, loaded);
        }
    }

    fn start_group(&self, groups: &mut Groups, loaded: Loaded) {
        if !groups.closed {
            let Loaded { config, mut handler } = loaded;
            if let Some(wrap) = &self.options.wrap_handler {
                handler = wrap(&config.id, handler);
            }
            let pauses = self.pauses.of(&config.id);
            if !pauses.is_empty() {
                let what: Vec<_> = pauses.iter().map(|(scope, _)| scope.to_string()).collect();
                tracing::warn!(group = %config.id, paused = what.join(", "),
                    "A group begins paused, as operators left it; `keyway groups resume` lets it go on.");
            }
            let (broker, producer) = (self.broker.clone(), self.producer.clone());
            let group = Group::start(config, broker, producer, handler, pauses);
            groups.running.push(Arc::new(group));
        }
    }

    /// Drains every group, at the same time.
    pub(super) async fn stop_groups(&self, deadline: Instant) {
        let running = {
            let mut groups = self.lock();
            groups.closed = true;
            groups.running.clone()
        };
        futures_util::future::join_all(running.iter().map(|group| group.drain(deadline))).await;
    }

    /// Writes where generations began.
    pub(super) async fn remember(&self) {
        self.note_beginnings();
        self.plugins.remember().await;
    }

    /// Writes it again and again, and judges how records are shared out, until it is dropped.
    pub(super) async fn keep_watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(WATCH).await;
            self.remember().await;
            self.producer.judge().await;
        }
    }

    pub(super) fn group(&self, id: &str) -> Option<Arc<Group>> {
        let groups = self.lock();
        groups.running.iter().find(|group| &*group.config().id == id).cloned()
    }

    /// Whether this process runs the group, or will when the broker is there.
    pub(super) fn runs(&self, id: &str) -> bool {
        let groups = self.lock();
        groups.running.iter().any(|group| &*group.config().id == id)
            || groups.waiting.iter().any(|loaded| &*loaded.config.id == id)
    }

    /// Changes what is paused, or reads what another process has changed of it, and has every group follow. Even where
    /// the change cannot be remembered it is in force.
    pub(super) async fn change_pauses(
        &self,
        change: impl FnOnce(&PauseFile) -> Result<(), PauseError> + Send + 'static,
    ) -> Result<(), PauseError> {
        let pauses = self.pauses.clone();
        let changing = tokio::task::spawn_blocking(move || change(&pauses));
        let changed =
            changing.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        for group in &self.lock().running {
            group.set_pauses(self.pauses.of(&group.config().id));
        }
        changed
    }

    /// Lets partitions of a group go on that stand still by the policy `stop`.
    pub(super) fn restart_stopped(&self, id: &str, scope: &Scope) {
        if let Some(group) = self.group(id) {
            group.restart_stopped(scope);
        }
    }

    /// Has the plugins' history take note of where generations began. Never waits for the disk.
    pub(super) fn note_beginnings(&self) {
        let groups = self.lock();
        for group in &groups.running {
            self.plugins.note(group.take_beginnings());
        }
        self.plugins.note(self.producer.take_beginnings());
    }

    pub(super) fn statuses(&self) -> Vec<GroupStatus> {
        let groups = self.lock();
        groups.running.iter().map(|group| group.status()).collect()
    }

    /// Whether the broker has had every topic since the start.
    pub(super) fn has_topics(&self) -> bool {
        self.has_topics.load(Relaxed)
    }

    /// Groups that do not run yet, because the broker has not been reached.
    pub(super) fn waiting(&self) -> Vec<Arc<str>> {
        let groups = self.lock();
        groups.waiting.iter().map(|loaded| loaded.config.id.clone()).collect()
    }

    /// Has the broker create the topics that are missing, all at the same time, however long it takes to answer.
    async fn ensure_topics(&self) {
        let config = self.config();
        let ensuring = config.topics.iter().map(|topic| self.ensure_topic(spec(topic)));
        futures_util::future::join_all(ensuring).await;
    }

    async fn ensure_topic(&self, spec: TopicSpec) {
        let ensured = loop {
            match self.broker.ensure_topic(&spec).await {
                Ok(ensured) => break ensured,
                Err(error) => tracing::warn!(
                    topic = %spec.name, reason = %error,
                    "A topic could not be looked up; trying again."
                ),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        };
        match ensured {
            EnsuredTopic::Existed => {}
            EnsuredTopic::Created => {
                tracing::info!(topic = %spec.name, partitions = spec.partitions, "A topic was created.");
            }
            EnsuredTopic::Differs { partitions } => tracing::warn!(
                topic = %spec.name, configured = spec.partitions, partitions,
                "A topic has another number of partitions than configured; it is left as it is."
            ),
        }
    }

    /// Puts another configuration in force: what changed is stopped and started, the rest never notices.
    ///
    /// # Errors
    /// A section changed that can only change with a restart, or a plugin cannot be loaded. Nothing has changed then.
    pub(super) async fn apply(&self, config: Arc<Config>) -> Result<(), ApplyError> {
        let old = self.config();
        let sections = super::reload::needs_restart(&old, &config);
        if !sections.is_empty() {
            return Err(ApplyError::NeedsRestart(sections));
        }
        let (selectors, mut wrong) = load_selectors(&self.plugins, &config).await;
        let is_new =
            |group: &&GroupConfig| runs_groups(&self.options) && !old.groups.contains(group);
        let (loaded, more_wrong) =
            load_groups(&self.plugins, config.groups.iter().filter(is_new)).await;
        wrong.extend(more_wrong);
        if !wrong.is_empty() {
            return Err(ApplyError::Plugins(wrong));
        }
        self.config.store(config);
        self.ensure_topics().await;
        self.producer.set_selectors(selectors);
        self.default_topic.store(default_topic(&self.config()));
        self.exchange_groups(loaded).await;
        Ok(())
    }

    /// Drains the groups that are no longer configured as they run, then starts those that are new.
    async fn exchange_groups(&self, loaded: Vec<Loaded>) {
        let config = self.config();
        let leaving = {
            let mut groups = self.lock();
            let keeps = |group: &Arc<Group>| config.groups.contains(group.config());
            let (kept, leaving) = std::mem::take(&mut groups.running).into_iter().partition(keeps);
            groups.running = kept;
            groups.waiting.retain(|waiting| config.groups.contains(&waiting.config));
            leaving
        };
        let leaving: Vec<Arc<Group>> = leaving;
        let deadline = Instant::now() + super::DRAIN;
        futures_util::future::join_all(leaving.iter().map(|group| group.drain(deadline))).await;
        leaving.iter().for_each(|group| self.plugins.note(group.take_beginnings()));
        let mut groups = self.lock();
        loaded.into_iter().for_each(|loaded| self.start_group(&mut groups, loaded));
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().expect("nothing panics while it holds this lock")
    }
}

fn default_topic(config: &Config) -> Option<Arc<Arc<str>>> {
    config.http.default_topic.clone().map(Arc::new)
}

fn runs_groups(options: &Options) -> bool {
    options.only != Some(Role::Http)
}

/// Why a changed configuration was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error("{} cannot change while the gateway runs; restart it", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
    #[error("{}", super::lines(.0))]
    Plugins(Vec<PluginError>),
}

fn spec(topic: &config::Topic) -> TopicSpec {
    TopicSpec {
        name: topic.name.clone(),
        partitions: topic.partitions,
        replication_factor: Some(topic.replication_factor),
        keep_forever: false,
    }
}
