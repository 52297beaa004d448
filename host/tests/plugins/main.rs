//! The plugin host over real components: the examples, and hostile ones made of text.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/plugins.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod examples;

mod breaker;
mod builds;
mod cache;
mod calls;
mod canary;
mod corpus;
mod fixture;
mod generations;
mod guests;
mod hostile;
mod http;
mod inspect;
mod limits;
mod logs;
mod messaging;
mod metrics;
mod refusals;
mod reload;
mod selectors;
mod shadow;
mod together;
