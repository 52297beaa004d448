//! Connections: reuse, pipelining, deadlines, and clients that misbehave.

use std::time::Duration;

use keyway::http::{Limits, Server, ServerLimits};
use tokio::io::AsyncWriteExt;

use crate::{
    doubles::Script,
    harness::{Client, PATIENCE, Port, eventually, post, request},
};

const SHORT: Duration = Duration::from_millis(50);

fn limits(server: ServerLimits) -> Limits {
    Limits { server, ..Limits::default() }
}

/// Waits until a client is served: the only room there is has become free.
async fn served(port: &Port) -> Client {
    let attempts = async {
        loop {
            let mut client = port.connect().await;
            if client.post(r#"{"value":1}"#).await.status == 200 {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, attempts).await.expect("room for a client")
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let port = Port::start();
    let mut client = port.connect().await;
    for offset in 0..20 {
        assert_eq!(client.post(r#"{"value":1}"#).await.json()["offset"], offset);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_whatever_comes_of_each() {
    let port = Port::start();
    let mut client = port.connect().await;
    let large = format!(r#"{{"value":"{}"}}"#, "x".repeat(200_000));
    let requests = [
        post(r#"{"value":1}"#),
        post("{"),
        post(&large),
        request("GET /", "text/plain", "x"),
        post(r#"{"value":2}"#),
    ];
    for _ in 0..3 {
        client.send(requests.concat()).await;
        for status in [200, 400, 200, 404, 200] {
            assert_eq!(client.answer().await.status, status);
        }
    }
    assert_eq!(port.broker.records().len(), 9);
}

#[tokio::test]
async fn a_client_that_has_closed_its_half_still_gets_its_answers() {
    let port = Port::start();
    port.broker.follow(Script::Hold);
    let mut client = port.connect().await;
    client.send(post(r#"{"value":1}"#).repeat(2)).await;
    client.socket.shutdown().await.unwrap();
    eventually("the first record is with the broker", || port.broker.held() == 1).await;
    port.broker.release();
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.status, 200);
    client.ended().await;
}

#[tokio::test]
async fn a_client_that_asks_for_leave_to_send_is_given_it_only_where_its_body_is_wanted() {
    let port = Port::start();
    let mut client = port.connect().await;
    let head = |media_type| {
        let request = request("POST /send-message", media_type, r#"{"value":1}"#);
        request.replacen("\r\n", "\r\nexpect: 100-continue\r\n", 1).replace(r#"{"value":1}"#, "")
    };
    client.send(head("application/json")).await;
    assert_eq!(client.answer().await.status, 100);
    client.send(r#"{"value":1}"#).await;
    assert_eq!(client.answer().await.status, 200);
    client.send(head("application/xml")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (415, Some("close")));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let port = Port::start();
    let mut client = port.connect().await;
    client.send(format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(40_000))).await;
    assert_eq!(client.answer().await.status, 431);
}

#[tokio::test]
async fn a_head_that_trickles_is_cut_off() {
    let port = Port::with(limits(ServerLimits { head: SHORT, ..ServerLimits::default() }));
    let mut client = port.connect().await;
    assert_eq!(client.post(r#"{"value":1}"#).await.status, 200);
    let (mut reads, mut writes) = client.socket.into_split();
    let trickle = tokio::spawn(async move {
        // Until the server has had enough; its reset may come with any write.
        while writes.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut rest = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut reads, &mut rest);
    tokio::time::timeout(PATIENCE, read).await.expect("an end").ok();
    assert!(rest.is_empty());
    trickle.abort();
}

#[tokio::test]
async fn a_body_that_trickles_is_told_so_and_cut_off() {
    let port = Port::with(limits(ServerLimits { body: SHORT, ..ServerLimits::default() }));
    let mut client = port.connect().await;
    let request = post(r#"{"value":1}"#);
    client.send(&request[..request.len() - 1]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.problem().as_str()), (408, "slow-body"));
    assert_eq!(answer.header("connection"), Some("close"));
    client.ended().await;
    assert!(port.broker.records().is_empty());
}

#[tokio::test]
async fn an_idle_connection_ends_and_one_that_waits_for_its_answer_does_not() {
    let port = Port::with(limits(ServerLimits { idle: SHORT, ..ServerLimits::default() }));
    port.broker.follow(Script::Hold);
    let mut busy = port.connect().await;
    busy.send(post(r#"{"value":1}"#)).await;
    eventually("the record is with the broker", || port.broker.held() == 1).await;
    let (mut silent, mut idle) = (port.connect().await, port.connect().await);
    idle.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert_eq!(idle.answer().await.status, 404);
    silent.ended().await;
    idle.ended().await;
    port.broker.release();
    assert_eq!(busy.answer().await.status, 200);
    busy.ended().await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let port = Port::with(limits(ServerLimits { connections: 1, ..ServerLimits::default() }));
    let mut first = port.connect().await;
    assert_eq!(first.post(r#"{"value":1}"#).await.status, 200);
    let mut second = port.connect().await;
    let answer = second.post(r#"{"value":1}"#).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "too-many-connections"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    second.ended().await;
    drop(first);
    served(&port).await;
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_of_a_body_leaves_nothing_behind() {
    let server = ServerLimits { connections: 1, ..ServerLimits::default() };
    let port = Port::with(Limits { requests: 1, bytes: 100, server, ..Limits::default() });
    for _ in 0..3 {
        let mut client = served(&port).await;
        let request = post(&format!(r#"{{"value":"{}"}}"#, "x".repeat(80)));
        client.send(&request[..request.len() - 20]).await;
    }
    served(&port).await;
    assert!(port.broker.records().iter().all(|record| record.value.as_deref() == Some(b"1")));
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_is_cut_off() {
    let write = SHORT;
    let server = ServerLimits { connections: 1, write, ..ServerLimits::default() };
    let port = Port::with(limits(server));
    let mut client = port.connect().await;
    // The answer repeats the key: together they overflow whatever the sockets buffer.
    let request = post(&format!(r#"{{"value":1,"key":"{}"}}"#, "k".repeat(4 << 20)));
    let (mut _reads, mut writes) = client.socket.split();
    let flood = async { while writes.write_all(request.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood).await.expect("the end of the connection");
    served(&port).await;
}

#[tokio::test]
async fn any_service_can_be_served_within_the_same_bounds() {
    let router = axum::Router::new().route("/", axum::routing::get(|| async { "here" }));
    let service = hyper_util::service::TowerToHyperService::new(router);
    let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let mut client = Client::connect(server.local_addr()).await;
    let ask = async {
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        assert_eq!(client.answer().await.body, b"here");
    };
    server.serve(service, ServerLimits::default(), ask).await.unwrap();
    client.ended().await;
}
