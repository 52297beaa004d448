//! A handler built for wasmCloud's messaging, which publishes as its message says.

wit_bindgen::generate!({
    path: "../../../../wit",
    inline: "
        package test:wasmcloud;
        world guest {
            import wasmcloud:messaging/consumer@0.2.0;
            export wasmcloud:messaging/handler@0.2.0;
        }
    ",
    world: "test:wasmcloud/guest",
    generate_all,
});

use exports::wasmcloud::messaging::handler::Guest;
use serde_json::Value;
use wasmcloud::messaging::{consumer, types::BrokerMessage};

struct Handler;
export!(Handler);

impl Guest for Handler {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        if message.body.is_empty() {
            return publish("out", format!("{} had nothing", message.subject).into_bytes(), None);
        }
        let order: Value =
            serde_json::from_slice(&message.body).map_err(|error| error.to_string())?;
        let subject = order["subject"].as_str().unwrap_or("out");
        for number in 0..order["publish"].as_u64().unwrap_or(0) {
            let size = order["size"].as_u64().unwrap_or(0) as usize;
            let mut body = format!("{} {number}", message.subject).into_bytes();
            body.resize(body.len().max(size), b'.');
            publish(subject, body, order["reply-to"].as_str())?;
        }
        match order["then"].as_str() {
            Some("trap") => panic!("told to"),
            Some("fail") => Err("told to".into()),
            Some("request") => consumer::request(subject, b"", 1000).map(|_| ()),
            _ => Ok(()),
        }
    }
}

fn publish(subject: &str, body: Vec<u8>, reply_to: Option<&str>) -> Result<(), String> {
    let (subject, reply_to) = (subject.to_owned(), reply_to.map(str::to_owned));
    consumer::publish(&BrokerMessage { subject, body, reply_to })
}
