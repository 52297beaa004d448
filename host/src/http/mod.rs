//! The data port: records come in over HTTP.
//!
//! `server`, `connection` and `stream` serve any service within bounds; the admin port stands on them too. The rest
//! is what is served here: `send_message` is the one route, `json` reads its records, and `problem` has everything
//! that can be wrong. The port knows how a record is written only as a [`Producer`](crate::produce::Producer).

mod answers;
mod body;
mod connection;
mod gateway;
mod json;
mod names;
mod problem;
mod send_message;
mod server;
mod stream;

pub use answers::Answers;
pub use gateway::{Gateway, Limits};
pub use json::{DEPTH as JSON_DEPTH, TooDeep, compact as compact_json, parse_record};
pub use problem::Code;
pub use server::{BindError, Drained, Server, ServerLimits, raise_descriptor_limit};
