//! Keyway: a gateway in front of Apache Kafka whose keying and record handling are WebAssembly components.

pub mod admin;
pub mod app;
pub mod broker;
pub mod cli;
pub mod config;
pub mod dispatch;
pub mod handler;
pub mod http;
pub mod plugin;
pub mod produce;
pub mod record;
pub mod telemetry;
