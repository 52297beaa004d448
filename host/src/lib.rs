//! Keyway: a gateway in front of Apache Kafka whose keying and record handling are WebAssembly components.
//!
//! # The map
//! - [`app`] builds the gateway, runs it and drains it; the only module that knows all the others
//! - [`config`] turns `keyway.toml` and the environment into types that cannot be wrong
//! - [`record`], [`handler`]: the vocabulary that everyone shares
//! - [`letter`]: how a record that was given up on is kept, and read back
//! - [`broker`]: the port to whatever keeps the records, and its two implementations, Kafka and the embedded one
//! - [`produce`]: the produce path, key selector first, broker second
//! - [`dispatch`]: one group's life, from assigned partitions to handled records and committed offsets
//! - [`plugin`]: WebAssembly components as handlers and key selectors, and their exchange while they serve
//! - [`http`]: the data port, [`admin`]: the admin port with API, metrics and page
//! - [`cli`]: the commands, [`telemetry`]: what is logged and how
//! - `file`: small files that several processes write, `flaw`: what tests break on purpose
//!
//! `tests/architecture` holds who may use whom.
//!
//! # Words
//! Kafka's own: record, key, value, headers, topic, partition, offset, consumer group, member, assignment, rebalance,
//! committed offset, lag, tombstone. Ours: a **plugin** is a component file; a **handler** processes records, a **key
//! selector** decides key or partition; a **generation** is one loaded version of a plugin, known by the SHA-256 of its
//! bytes; a **lane** is the queue of records that must be handled in order; a **dead letter** is a record given up on,
//! kept with its cause. A member with no partition is **inactive**.
//!
//! # Invariants
//! 1. A 2xx answer is given only after the broker has the record.
//! 2. Records of one lane are handled one at a time, in offset order.
//! 3. The committed offset never passes a record that is neither handled, dead-lettered, parked nor dropped by policy.
//! 4. A revoked partition is neither handled nor committed after its revocation is acknowledged.
//! 5. A plugin that traps, loops or eats memory harms no other plugin, group or request.
//! 6. A failed swap changes nothing.
//! 7. Every queue is bounded; a full one pushes back.
//! 8. Killed at any moment and started again, nothing acknowledged is lost, and under `exactly-once` nothing is emitted
//!    twice to a reader of what is committed.

pub mod admin;
pub mod app;
pub mod broker;
pub mod cli;
pub mod config;
pub mod dispatch;
mod file;
mod flaw;
pub mod handler;
pub mod http;
pub mod letter;
pub mod plugin;
pub mod produce;
pub mod record;
pub mod telemetry;
