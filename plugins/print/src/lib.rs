//! A handler that logs every record and emits nothing: the smallest plugin that shows something.

wit_bindgen::generate!({
    path: "../../wit",
    // What the plugin is (`include`) and what it wants from the gateway (`import`).
    inline: "
        package example:print;
        world print {
            include keyway:plugin/message-handler@0.1.0;
            import wasi:logging/logging@0.1.0-draft;
            import wasi:config/store@0.2.0-rc.1;
        }
    ",
    generate_all,
});

use exports::keyway::plugin::handler::{Failure, Guest, Message, Outgoing};
use wasi::{
    config::store,
    logging::logging::{Level, log},
};

struct Print;
export!(Print);

impl Guest for Print {
    fn handle(message: Message) -> Result<Vec<Outgoing>, Failure> {
        // A key that is not configured is `Ok(None)`; the gateway's store never fails.
        let prefix = store::get("prefix").ok().flatten().unwrap_or_else(|| "got".into());
        log(Level::Info, "", &format!("{prefix} {}", describe(&message)));
        Ok(Vec::new())
    }
}

/// `my-topic/0@42 key=k value=v`. An absent key is left out, and an absent value is a tombstone.
fn describe(message: &Message) -> String {
    let mut line = format!("{}/{}@{}", message.topic, message.partition, message.offset);
    if let Some(key) = &message.key {
        line += &format!(" key={}", String::from_utf8_lossy(key));
    }
    match &message.value {
        Some(value) => line += &format!(" value={}", String::from_utf8_lossy(value)),
        None => line += " (tombstone)",
    }
    line
}
