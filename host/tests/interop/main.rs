//! Whether a group can move between Keyway and Confluent's Parallel Consumer, asked of that library itself: the maps of
//! finished offsets that the one writes and the other reads, and groups that go from one to the other on a real Kafka.
//!
//! Needs a JDK, and Maven where the library is not there yet; without, the tests skip as those on a real Kafka do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod handover;
mod java;
mod maps;
#[path = "../support/kafka.rs"]
mod support;
