//! The data port: records come in over HTTP.

mod connection;
mod server;
mod stream;

pub use server::{BindError, Drained, Server, ServerLimits};
