//! What was given up on, as an operator sees it: parked lanes that outlive a kill and are given back in order, dead
//! letters that are listed and redriven once. The same steps on the embedded broker and on a real Kafka.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/gateway.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod gateway;
mod in_process;
#[path = "../support/kafka.rs"]
mod kafka;
mod parked;
mod plugin_test;
#[path = "../support/plugins.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod plugins;
mod redrive;
mod shop;
