//! A handler that says on the log when it begins and when it ends each record, and fails some of them: what the checker
//! knows of handling, it knows from here.
//!
//! It emits what it was given, to the output topic and the partition of the same number. How long it takes and whether it
//! fails follow from the configuration, the record's value and the attempt alone, so every process decides alike.

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package keyway:checker;
        world witness {
            include keyway:plugin/message-handler@0.1.0;
            import wasi:logging/logging@0.1.0-draft;
            import wasi:config/store@0.2.0-rc.1;
        }
    ",
    generate_all,
});

use std::{thread, time::Duration};

use exports::keyway::plugin::handler::{Failure, Guest, Message, Outgoing};
use keyway::plugin::types::Retry;
use wasi::{
    config::store,
    logging::logging::{Level, log},
};

struct Witness;
export!(Witness);

impl Guest for Witness {
    fn handle(message: Message) -> Result<Vec<Outgoing>, Failure> {
        let place = format!("{}@{} {}", message.partition, message.offset, message.attempt);
        log(Level::Info, "", &format!("began {place}"));
        let value = message.value.unwrap_or_default();
        let record = hash(&value, 0);
        let attempt = hash(&value, message.attempt);
        let wait = number("wait");
        thread::sleep(Duration::from_millis(wait / 2 + attempt / 100 % (wait + 1)));
        let (how, result) = if record % 100 < number("reject") {
            ("reject", Err(Failure::Reject("it is one of those".into())))
        } else if attempt % 100 < number("retry") {
            let retry = Retry { reason: "not at this attempt".into(), after: None };
            ("retry", Err(Failure::Retry(retry)))
        } else {
            let emitted = Outgoing {
                topic: None,
                partition: Some(message.partition),
                timestamp: None,
                key: message.key,
                value: Some(value),
                headers: Vec::new(),
            };
            ("ok", Ok(vec![emitted]))
        };
        log(Level::Info, "", &format!("ended {place} {how}"));
        result
    }
}

/// A number of the configuration, 0 where it is not there.
fn number(name: &str) -> u64 {
    let text = store::get(name).ok().flatten();
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// FNV-1a, with a last stir so that values that differ in their end differ in all of it.
fn hash(value: &[u8], attempt: u32) -> u64 {
    let bytes = value.iter().copied().chain(attempt.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}
