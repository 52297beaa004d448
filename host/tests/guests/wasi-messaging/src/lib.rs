//! A handler built for WASI's messaging, which sends as its message says.

wit_bindgen::generate!({
    path: "../../../../wit",
    inline: "
        package test:wasi-messaging;
        world guest {
            include wasi:messaging/messaging-core@0.2.0-draft;
            import wasi:messaging/request-reply@0.2.0-draft;
        }
    ",
    world: "test:wasi-messaging/guest",
    generate_all,
});

use exports::wasi::messaging::incoming_handler::Guest;
use serde_json::Value;
use wasi::messaging::{
    producer,
    request_reply::{self, RequestOptions},
    types::{Client, Error, Message},
};

struct Handler;
export!(Handler);

impl Guest for Handler {
    fn handle(message: Message) -> Result<(), Error> {
        let client = Client::connect("any")?;
        let topic = message.topic().unwrap_or_default();
        let data = message.data();
        if data.is_empty() {
            return send(&client, "out", format!("{topic} had nothing").into_bytes());
        }
        let order: Value =
            serde_json::from_slice(&data).map_err(|error| Error::Other(error.to_string()))?;
        let to = order["subject"].as_str().unwrap_or("out");
        for number in 0..order["publish"].as_u64().unwrap_or(0) {
            let size = order["size"].as_u64().unwrap_or(0) as usize;
            let mut data = format!("{topic} {number}").into_bytes();
            data.resize(data.len().max(size), b'.');
            send(&client, to, data)?;
        }
        match order["then"].as_str() {
            Some("trap") => panic!("told to"),
            Some("fail") => Err(Error::Other("told to".into())),
            Some("timeout") => Err(Error::Timeout),
            Some("request") => {
                let options = RequestOptions::new();
                options.set_timeout_ms(1000);
                request_reply::request(&client, to, &message, Some(options)).map(drop)
            }
            Some("reply") => request_reply::reply(&message, Message::new(b"answer")),
            Some("describe") => {
                let said = format!("{:?} {:?}", message.content_type(), message.metadata());
                send(&client, "out", said.into_bytes())
            }
            Some("forward") => {
                message.set_content_type("text/plain");
                message.add_metadata("a", "new");
                message.remove_metadata("b");
                message.set_data(b"changed");
                producer::send(&client, "out", message)
            }
            Some("hoard") => loop {
                core::mem::forget(Message::new(&data));
            },
            _ => client.disconnect(),
        }
    }
}

fn send(client: &Client, topic: &str, data: Vec<u8>) -> Result<(), Error> {
    producer::send(client, topic, Message::new(&data))
}
