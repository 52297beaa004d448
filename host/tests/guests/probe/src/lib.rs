//! A handler that calls what the gateway grants, as its record says, and emits what came of it.

wit_bindgen::generate!({
    path: "../../../../wit",
    inline: "
        package test:probe;
        world probe {
            include keyway:plugin/message-handler@0.1.0;
            import keyway:plugin/metrics@0.1.0;
        }
    ",
    world: "test:probe/probe",
    generate_all,
});

use std::cell::RefCell;

use exports::keyway::plugin::handler::{Failure, Guest, Message, Outgoing};
use keyway::plugin::metrics;
use serde_json::Value;
use wasip2::http::{
    outgoing_handler,
    types::{
        ErrorCode, Fields, FutureIncomingResponse, IncomingBody, Method, OutgoingBody,
        OutgoingRequest, Scheme,
    },
};

struct Probe;
export!(Probe);

thread_local! {
    /// A request that is kept from one record to the next.
    static KEPT: RefCell<Option<FutureIncomingResponse>> = const { RefCell::new(None) };
}

impl Guest for Probe {
    fn handle(message: Message) -> Result<Vec<Outgoing>, Failure> {
        let order: Value = serde_json::from_slice(&message.value.unwrap_or_default())
            .map_err(|error| Failure::Reject(error.to_string()))?;
        let text = |name: &str| order[name].as_str().unwrap_or_default();
        match text("do") {
            "add" => metrics::add(text("name"), order["by"].as_u64().unwrap_or(1)),
            "observe" => {
                metrics::observe(text("name"), order["value"].as_f64().unwrap_or(f64::NAN))
            }
            "request" => {
                let answer = request(text("url"), text("body")).and_then(|sent| receive(&sent));
                return answer.map(emit).map_err(failure);
            }
            "keep" => {
                let sent = request(text("url"), "").map_err(failure)?;
                KEPT.with_borrow_mut(|kept| *kept = Some(sent));
            }
            "take" => {
                let sent = KEPT.take().ok_or(Failure::Reject("nothing is kept".into()))?;
                return receive(&sent).map(emit).map_err(failure);
            }
            "loop" => {
                metrics::add("loops", 1); // so that whoever waits for it knows that it has begun
                loop {
                    std::hint::black_box(());
                }
            }
            other => return Err(Failure::Reject(format!("cannot `{other}`"))),
        }
        Ok(Vec::new())
    }
}

fn failure(code: ErrorCode) -> Failure {
    Failure::Reject(format!("{code:?}"))
}

fn emit(value: Vec<u8>) -> Vec<Outgoing> {
    let (key, topic, partition, timestamp, headers) = (None, None, None, None, Vec::new());
    vec![Outgoing { topic, partition, timestamp, key, value: Some(value), headers }]
}

/// Begins a GET, or a POST with a body.
fn request(url: &str, body: &str) -> Result<FutureIncomingResponse, ErrorCode> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let request = OutgoingRequest::new(Fields::new());
    let method = if body.is_empty() { Method::Get } else { Method::Post };
    request.set_method(&method).expect("a method");
    let scheme = if scheme == "http" { Scheme::Http } else { Scheme::Https };
    request.set_scheme(Some(&scheme)).expect("a scheme");
    request.set_authority(Some(authority)).expect("an authority");
    request.set_path_with_query(Some(path)).expect("a path");
    let outgoing = request.body().expect("it has a body");
    let answer = outgoing_handler::handle(request, None)?;
    if !body.is_empty() {
        let stream = outgoing.write().expect("its stream");
        for chunk in body.as_bytes().chunks(4096) {
            stream.blocking_write_and_flush(chunk).expect("it is written");
        }
    }
    OutgoingBody::finish(outgoing, None)?;
    Ok(answer)
}

/// The status and the body.
fn receive(sent: &FutureIncomingResponse) -> Result<Vec<u8>, ErrorCode> {
    sent.subscribe().block();
    let response = sent.get().expect("it is there").expect("nobody took it")?;
    let mut text = format!("{} ", response.status()).into_bytes();
    let body = response.consume().expect("its body");
    let stream = body.stream().expect("its stream");
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(bytes) => text.extend(bytes),
            Err(wasip2::io::streams::StreamError::Closed) => break,
            Err(wasip2::io::streams::StreamError::LastOperationFailed(error)) => {
                let unknown = || ErrorCode::InternalError(Some(error.to_debug_string()));
                return Err(wasip2::http::types::http_error_code(&error).unwrap_or_else(unknown));
            }
        }
    }
    drop(stream);
    IncomingBody::finish(body);
    Ok(text)
}
