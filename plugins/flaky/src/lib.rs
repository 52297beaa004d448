//! A handler that fails as its record says: for tests, and for trying what the gateway makes of a failure.
//!
//! The README beside this has the table of what a record can ask for.

wit_bindgen::generate!({ path: "../../wit", world: "message-handler" });

use std::{hint::black_box, net::TcpStream, thread, time::Duration};

use exports::keyway::plugin::handler::{Failure, Guest, Message, Outgoing};
use keyway::plugin::types::Retry;
use serde_json::Value;

struct Flaky;
export!(Flaky);

impl Guest for Flaky {
    fn handle(message: Message) -> Result<Vec<Outgoing>, Failure> {
        let order = match &message.value {
            Some(value) => serde_json::from_slice(value)
                .map_err(|error| Failure::Reject(format!("the value is not JSON: {error}")))?,
            None => Value::Null,
        };
        // The gateway counts the attempts, so that a handler needs no memory of its own for this.
        if number(&order, "times").is_some_and(|times| u64::from(message.attempt) > times) {
            return Ok(Vec::new());
        }
        obey(&order)
    }
}

fn obey(order: &Value) -> Result<Vec<Outgoing>, Failure> {
    let reason = || order["reason"].as_str().unwrap_or("told to").to_owned();
    match order["do"].as_str().unwrap_or("ok") {
        "ok" => Ok(Vec::new()),
        "reject" => Err(Failure::Reject(reason())),
        "retry" => {
            let after = number(order, "after").map(|after| after as u32);
            Err(Failure::Retry(Retry { reason: reason(), after }))
        }
        "sleep" => {
            thread::sleep(Duration::from_millis(number(order, "ms").unwrap_or(100)));
            Ok(Vec::new())
        }
        "connect" => {
            let to = order["to"].as_str().unwrap_or("127.0.0.1:80");
            let refused = |error| Failure::Reject(format!("cannot connect to {to}: {error}"));
            TcpStream::connect(to).map(|_| Vec::new()).map_err(refused)
        }
        "trap" => panic!("{}", reason()),
        "loop" => loop {
            black_box(());
        },
        "memory" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1u8; 1 << 20]));
            }
        }
        "emit" => Ok(emit(order)),
        other => Err(Failure::Reject(format!("cannot `{other}`"))),
    }
}

fn emit(order: &Value) -> Vec<Outgoing> {
    let value = vec![b'x'; number(order, "size").unwrap_or(1) as usize];
    let record = Outgoing {
        topic: order["topic"].as_str().map(str::to_owned),
        partition: None,
        timestamp: None,
        key: None,
        value: Some(value),
        headers: Vec::new(),
    };
    vec![record; number(order, "count").unwrap_or(1) as usize]
}

fn number(order: &Value, name: &str) -> Option<u64> {
    order[name].as_u64()
}
