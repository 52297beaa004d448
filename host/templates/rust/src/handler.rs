//! A handler that greets: every value goes to the group's `output-topic` with a greeting before it.

// Everything that `wit/world.wit` names becomes Rust.
wit_bindgen::generate!({ world: "plugin", generate_all });

use exports::keyway::plugin::handler::{Failure, Guest, Message, Outgoing};
use wasi::{
    config::store,
    logging::logging::{Level, log},
};

struct Plugin;
export!(Plugin);

impl Guest for Plugin {
    fn handle(message: Message) -> Result<Vec<Outgoing>, Failure> {
        // `handler = { plugin = "my-plugin", config = { greeting = "hello" } }` in keyway.toml
        let greeting = store::get("greeting").ok().flatten().unwrap_or_else(|| "hello".into());
        let Some(value) = message.value else {
            // This record can never be handled; `Failure::Retry` would have it handled again later.
            return Err(Failure::Reject("the record has no value".into()));
        };
        let record = format!("{}/{}@{}", message.topic, message.partition, message.offset);
        log(Level::Info, "", &format!("greeting {record}"));
        Ok(vec![Outgoing {
            topic: None,     // the group's `output-topic`
            partition: None, // as the key decides
            timestamp: message.timestamp,
            key: message.key,
            value: Some([greeting.as_bytes(), b", ", &value].concat()),
            headers: message.headers,
        }])
    }
}
