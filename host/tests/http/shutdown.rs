//! The end of a port: nothing more is accepted, what was accepted is answered.

use std::{
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use keyway::{
    http::{Drained, Gateway, Limits, Server, ServerLimits},
    produce::Producer,
};

use crate::{
    doubles::{Script, ScriptedBroker},
    harness::{Port, eventually, post},
};

const SHORT: Duration = Duration::from_millis(20);

#[tokio::test]
async fn what_was_accepted_is_answered_and_idle_connections_end_at_once() {
    let mut port = Port::start();
    port.broker.follow(Script::Hold);
    let (mut silent, mut idle, mut busy) =
        (port.connect().await, port.connect().await, port.connect().await);
    idle.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert_eq!(idle.answer().await.status, 404);
    busy.send(post(r#"{"value":1}"#)).await;
    eventually("the record is with the broker", || port.broker.held() == 1).await;
    port.stop();
    silent.ended().await;
    idle.ended().await;
    port.broker.release();
    let answer = busy.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    busy.ended().await;
    drop(busy); // as clients do that are told so; the port would wait a while for it
    let address = port.address;
    assert_eq!(port.drained().await, Drained { cut_off: 0 });
    assert!(std::net::TcpStream::connect(address).is_err(), "it accepts no more");
}

#[tokio::test]
async fn a_body_that_is_on_its_way_may_still_arrive() {
    let mut port = Port::start();
    let (mut idle, mut client) = (port.connect().await, port.connect().await);
    let request = post(r#"{"value":1}"#);
    let (sent, rest) = request.split_at(request.len() - 4);
    client.send(format!("{}{sent}", post(r#"{"value":0}"#))).await;
    assert_eq!(client.answer().await.status, 200);
    port.stop();
    idle.ended().await;
    client.send(rest).await;
    assert_eq!(client.answer().await.status, 200);
    drop(client);
    let broker = port.broker.clone();
    assert_eq!(port.drained().await, Drained { cut_off: 0 });
    assert_eq!(broker.records().len(), 2);
}

#[tokio::test]
async fn what_is_unanswered_at_the_deadline_is_cut_off_and_counted() {
    let server = ServerLimits { drain: SHORT, ..ServerLimits::default() };
    let port = Port::with(Limits { server, ..Limits::default() });
    port.broker.follow(Script::Hold);
    let mut client = port.connect().await;
    client.send(post(r#"{"value":1}"#)).await;
    eventually("the record is with the broker", || port.broker.held() == 1).await;
    assert_eq!(port.drained().await, Drained { cut_off: 1 });
}

#[tokio::test]
async fn a_request_that_waits_in_the_backlog_is_answered() {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let mut clients: Vec<_> =
        (0..8).map(|_| std::net::TcpStream::connect(server.local_addr()).unwrap()).collect();
    for client in &mut clients {
        client.write_all(post(r#"{"value":1}"#).as_bytes()).unwrap();
    }
    let gateway = Gateway {
        producer: Producer::new(Arc::<ScriptedBroker>::default(), Default::default()),
        default_topic: Arc::new(ArcSwapOption::from_pointee(Arc::from("my-topic"))),
        answers: Arc::default(),
        limits: Limits {
            server: ServerLimits { linger: SHORT, ..ServerLimits::default() },
            ..Limits::default()
        },
    };
    // Told to stop before it has accepted anyone.
    let drained = server.run(gateway, std::future::ready(())).await.unwrap();
    assert_eq!(drained, Drained { cut_off: 0 });
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

#[test]
fn an_address_that_cannot_be_had_is_named_with_the_cause() {
    let taken = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let error = Server::bind(taken.local_addr()).unwrap_err().to_string();
    let address = taken.local_addr();
    assert!(
        error.starts_with(&format!("cannot listen on {address}: Address already in use")),
        "{error}"
    );
    assert!(error.ends_with("choose another port"), "{error}");
}
