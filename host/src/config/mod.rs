//! The configuration, as types that cannot be wrong.
//!
//! A value of [`Config`] has been checked whole: every reference leads somewhere, every number is in its range. How it
//! is read and what is said of mistakes is in the files beside this one; the rest of the gateway sees only what is here. Plain data: no socket, no broker and no plugin is touched.
//!
//! The way of a file: `load` reads it, `document` is its tree with the place of every value, `environment` and
//! `tutorial` lay the environment over that, `sections`, `broker` and `groups` walk it with the typed readers of `read`,
//! `references` checks what names what, and `report` gathers all that is wrong.

mod broker;
mod document;
mod environment;
mod error;
mod groups;
mod http_target;
mod kafka_properties;
mod load;
mod names;
mod read;
mod references;
mod report;
mod sections;
mod trials;
mod tutorial;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

pub use error::{ConfigError, ConfigErrors, Place};
pub use http_target::{HttpHost, HttpNetwork, HttpOrigin, HttpTarget};
pub use load::{BUILT_IN, FILE, Loaded};
pub use names::{DEAD_LETTERS, PARKED};
pub use trials::{Canary, Source, Terms};

/// Everything that `keyway.toml` and the environment say.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[broker]`
    pub broker: Broker,
    /// `[http]`
    pub http: Http,
    /// `[admin]`
    pub admin: Admin,
    /// `[plugins]`
    pub plugins: Plugins,
    /// `[[topics]]`, and the output topics that those do not name; names are unique.
    pub topics: Vec<Topic>,
    /// `[[groups]]`, ids are unique.
    pub groups: Vec<Group>,
}

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broker {
    /// In a file on this machine.
    Embedded {
        /// The directory that holds it; made when missing.
        path: PathBuf,
        /// How long records stay.
        retention: Retention,
    },
    /// On Apache Kafka, or whatever speaks its protocol.
    Kafka {
        /// The directory of what this gateway has to remember itself; made when it has.
        path: PathBuf,
        /// `HOST:PORT`, several with commas.
        bootstrap_servers: String,
        /// Properties for librdkafka, as they are; those that would break a promise are refused.
        properties: BTreeMap<String, String>,
    },
}

/// How long a member may be silent, or hold what is revoked, before it is taken for dead, unless the configuration says
/// otherwise: as Kafka has it.
pub const SESSION: Duration = Duration::from_secs(45);

/// When the embedded broker lets records go; the first bound that is reached counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Age, from when the record was written, whatever its timestamp; `None`: no bound.
    pub time: Option<Duration>,
    /// Bytes of one partition's records; `None`: no bound.
    pub bytes: Option<u64>,
}

/// The data port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The topic of a record that names none.
    pub default_topic: Option<Arc<str>>,
    /// Bytes of one body, from 1 KiB to 64 MiB.
    pub max_body: usize,
    /// Connections at one time, from 1 to 1,000,000.
    pub max_connections: usize,
}

/// The admin port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens; `None`: 127.0.0.1:8082, or the next free port where that is taken.
    pub listen: Option<SocketAddr>,
}

/// Where plugins are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugins {
    /// The directory that holds the `.wasm` files. It may not exist yet.
    pub directory: PathBuf,
}

/// A plugin in a role, with what it is told there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginUse {
    /// Its name: the file name without `.wasm`.
    pub plugin: Arc<str>,
    /// What `wasi:config/store` gives it, every value as text.
    pub config: BTreeMap<String, String>,
    /// What it may use up.
    pub limits: Limits,
    /// What it may reach.
    pub allow: Allow,
}

/// A topic that is created when it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions it is created with, at least 1.
    pub partitions: u32,
    /// Copies of each partition, at least 1.
    pub replication_factor: u16,
    /// What decides keys and partitions of its records.
    pub key_selector: Option<PluginUse>,
}

/// A consumer group and its handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: Arc<str>,
    /// The topics it reads, at least one.
    pub topics: Vec<Arc<str>>,
    /// How many members this process runs, at least 1.
    pub consumers: u32,
    /// What handles its records.
    pub handler: PluginUse,
    /// A generation of the handler that is tried with a share of its records.
    pub canary: Option<Canary>,
    /// One that is run on its records and compared, and whose output is thrown away.
    pub shadow: Option<Source>,
    /// Where a handler's records go that name no topic.
    pub output_topic: Option<Arc<str>>,
    /// What is handled in order.
    pub ordering: Ordering,
    /// Where a partition without a committed offset begins.
    pub start: Start,
    /// Whether output and offsets are committed together.
    pub delivery: Delivery,
    /// Records that a member has handled at once, from 1 to 16,384: calls of the handler, not what waits for its output to be
    /// acknowledged.
    pub max_in_flight: usize,
    /// How long what is in flight of a revoked partition may take to end; shorter than a member's session.
    pub drain: Duration,
    /// How a failed record is tried again.
    pub retry: Retry,
    /// What becomes of a record that is given up on.
    pub on_reject: OnReject,
    /// Where such records go; `None`: SOURCE.dead-letters.
    pub dead_letter_topic: Option<Arc<str>>,
    /// Whether instances are kept between records.
    pub isolation: Isolation,
    /// Static membership: members are INSTANCE-ID-0, INSTANCE-ID-1 and so on.
    pub instance_id: Option<Arc<str>>,
}

impl Group {
    /// Where dead letters about records of the topic `source` go.
    pub fn dead_letter_topic_of(&self, source: &str) -> Arc<str> {
        match &self.dead_letter_topic {
            Some(topic) => topic.clone(),
            None => format!("{source}{DEAD_LETTERS}").into(),
        }
    }

    /// Where parked records go.
    pub fn parked_topic(&self) -> Arc<str> {
        format!("{}{PARKED}", self.id).into()
    }
}

/// Where a partition without a committed offset begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is there.
    Earliest,
    /// At the next record to come.
    Latest,
}

/// Which records of a group wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Those of one partition.
    Partition,
    /// Those of one partition with the same key.
    Key,
    /// None.
    None,
}

/// What a failure may leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A record may be handled again whose output is written already.
    AtLeastOnce,
    /// What is emitted, dead letters, and offsets are committed in one transaction, so that to readers of what is
    /// committed a record's output is there once.
    ExactlyOnce,
}

/// How a failed record is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often it is handled in all, at least 1.
    pub attempts: u32,
    /// The longest wait before the second attempt; doubled for each further one, the actual wait is random below it.
    pub backoff: Duration,
    /// The bound on that.
    pub max_backoff: Duration,
}

/// What becomes of a record that is given up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReject {
    /// Written to the dead-letter topic.
    DeadLetter,
    /// Written to the group's topic of parked records, and all that come behind it in its lane too, unhandled, until
    /// the lane is given back.
    Park,
    /// Counted, logged, gone.
    Drop,
    /// The partition is paused there.
    Stop,
}

/// Whether instances of a handler are kept between records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// They are.
    None,
    /// Each record gets a fresh one.
    Record,
}

/// What one instance, or one call, of a plugin may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory of one instance.
    pub memory: u64,
    /// How long one call may take.
    pub time: Duration,
    /// Records that one call may emit.
    pub emit: u64,
    /// Bytes that the records of one call may have together.
    pub emit_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 64 << 20, time: Duration::from_secs(3), emit: 1000, emit_bytes: 8 << 20 }
    }
}

/// What a plugin may reach beyond what every plugin may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Topics it may emit to by name; a group's `output-topic` is among them.
    pub topics: BTreeSet<Arc<str>>,
    /// What its outgoing HTTP may reach.
    pub http: BTreeSet<HttpTarget>,
}
