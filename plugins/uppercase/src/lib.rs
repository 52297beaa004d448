//! A handler that emits every record with its value in upper case, to the group's `output-topic`.

wit_bindgen::generate!({ path: "../../wit", world: "message-handler" });

use exports::keyway::plugin::handler::{Failure, Guest, Message, Outgoing};

struct Uppercase;
export!(Uppercase);

impl Guest for Uppercase {
    fn handle(message: Message) -> Result<Vec<Outgoing>, Failure> {
        let value = message.value.map(uppercase).transpose()?;
        Ok(vec![Outgoing {
            topic: None,     // the group's `output-topic`
            partition: None, // as the key decides
            timestamp: message.timestamp,
            key: message.key,
            value, // a tombstone stays one
            headers: message.headers,
        }])
    }
}

fn uppercase(value: Vec<u8>) -> Result<Vec<u8>, Failure> {
    match String::from_utf8(value) {
        Ok(text) => Ok(text.to_uppercase().into_bytes()),
        // Trying again would not help, so this is no `retry`: what becomes of the record is the operator's decision.
        Err(error) => {
            Err(Failure::Reject(format!("the value is not UTF-8: {}", error.utf8_error())))
        }
    }
}
