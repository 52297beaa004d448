//! A handler that does nothing: what is left is what it costs to hand it a record.

wit_bindgen::generate!({ path: "../../wit", world: "message-handler" });

use exports::keyway::plugin::handler::{Failure, Guest, Message, Outgoing};

struct Noop;

impl Guest for Noop {
    fn handle(_message: Message) -> Result<Vec<Outgoing>, Failure> {
        Ok(Vec::new())
    }
}

export!(Noop);
