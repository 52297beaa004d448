//! Members that join, leave and are killed in quick succession: every record is handled, in order, none by a member that
//! does not have its partition, and nothing is committed but by the one that has.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod audit;
mod churn;
mod cut_off;
#[path = "../support/gateway.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod gateway;
#[path = "../support/kafka.rs"]
mod kafka;
#[path = "../support/plugins.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod plugins;
mod relay;
