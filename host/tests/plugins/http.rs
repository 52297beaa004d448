//! Outgoing HTTP of guests, against a server here.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use keyway::{
    config::{
        Allow, HttpHost, HttpNetwork, HttpOrigin, HttpTarget, Isolation, Limits, PluginUse, Source,
    },
    handler::{Failure, Handler, Outcome},
};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{
    fixture::{Fixture, delivery, emitted, handle, soon, until, using},
    hostile::variant,
    logs::Log,
};

/// A server on loopback: `/hello`, `/echo`, `/late` (once it is let go), `/never`, `/flood` (without an end).
struct Server {
    address: SocketAddr,
    figures: Arc<Figures>,
}

struct Figures {
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// Requests that are being answered.
    open: AtomicUsize,
    /// Closed where `/late` is to be answered.
    late: Semaphore,
}

/// Counts a request for as long as it is being answered.
struct Open(Arc<Figures>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let figures = Arc::new(Figures {
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            late: Semaphore::new(0),
        });
        let of_server = figures.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                of_server.connections.fetch_add(1, SeqCst);
                let figures = of_server.clone();
                let service = service_fn(move |request| answer(figures.clone(), request));
                let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(served);
            }
        });
        Self { address, figures }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The address as an entry of `allow.http`.
    fn allowed(&self) -> HttpTarget {
        origin(HttpHost::Address(self.address.ip()), self.address.port())
    }
}

async fn answer(
    figures: Arc<Figures>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    figures.requests.fetch_add(1, SeqCst);
    figures.open.fetch_add(1, SeqCst);
    let _open = Open(figures.clone());
    let path = request.uri().path().to_owned();
    let body = match &*path {
        "/echo" => Full::new(request.into_body().collect().await.unwrap().to_bytes()).boxed(),
        "/late" => {
            figures.late.acquire().await.expect_err("it is let go by closing it");
            Full::new(Bytes::from_static(b"late")).boxed()
        }
        "/never" => std::future::pending().await,
        "/flood" => {
            let chunk = || Ok(Frame::data(Bytes::from_static(&[b'x'; 64 << 10])));
            StreamBody::new(futures_util::stream::repeat_with(chunk)).boxed()
        }
        _ => Full::new(Bytes::from_static(b"hello")).boxed(),
    };
    Ok(Response::new(body))
}

fn origin(host: HttpHost, port: u16) -> HttpTarget {
    HttpTarget::Origin(HttpOrigin { secure: false, host, port })
}

fn allowing(targets: impl IntoIterator<Item = HttpTarget>) -> PluginUse {
    let http = targets.into_iter().collect();
    PluginUse { allow: Allow { http, ..Allow::default() }, ..using("probe") }
}

fn order(what: &str, url: &str) -> String {
    serde_json::json!({"do": what, "url": url}).to_string()
}

async fn get(handler: &Arc<dyn Handler>, url: &str) -> Outcome {
    handle(handler, &order("request", url)).await
}

/// What the guest was told in place of an answer.
fn refused(outcome: Outcome) -> String {
    let Outcome::Reject { reason } = outcome else { panic!("no error: {outcome:?}") };
    reason
}

#[tokio::test]
async fn a_request_to_an_allowed_origin_is_answered_and_its_connection_is_used_again() {
    let server = Server::start().await;
    let fixture = Fixture::new().with_guests(&["probe"]);
    let handler = fixture.handler(&allowing([server.allowed()])).await.unwrap();
    for _ in 0..3 {
        let outcome = get(&handler, &server.url("/hello")).await;
        assert_eq!(emitted(&outcome), ["200 hello"]);
    }
    let body = "y".repeat(100_000);
    let echo = serde_json::json!({"do": "request", "url": server.url("/echo"), "body": body});
    assert_eq!(emitted(&handle(&handler, &echo.to_string()).await), [format!("200 {body}")]);
    assert_eq!(server.figures.requests.load(SeqCst), 4);
    assert_eq!(server.figures.connections.load(SeqCst), 1);
}

#[tokio::test]
async fn a_request_to_anywhere_else_is_refused_and_the_log_says_what_to_write() {
    let log = Log::capture();
    let server = Server::start().await;
    let fixture = Fixture::new().with_guests(&["probe"]);
    let elsewhere = origin(HttpHost::Name("api.example.com".into()), 80);
    let handler = fixture
        .host
        .handler("group refused", &allowing([elsewhere]), None, Isolation::None, 1)
        .await
        .unwrap();
    let reason = refused(get(&handler, &server.url("/hello")).await);
    assert!(reason.contains("HttpRequestDenied"), "{reason}");
    assert_eq!(server.figures.connections.load(SeqCst), 0);
    let lines = log.of("group refused");
    let says = format!("put \"{}\" into `allow.http`", server.url(""));
    assert!(lines.iter().any(|line| line.contains(" WARN ") && line.contains(&says)), "{lines:?}");
}

#[tokio::test]
async fn a_shadow_sends_no_request_and_counts_nothing() {
    let server = Server::start().await;
    let fixture = Fixture::new().with_guests(&["probe"]);
    let handler = fixture.handler(&allowing([server.allowed()])).await.unwrap();
    let file = fixture.root().join("shadow.wasm");
    std::fs::write(&file, variant(&std::fs::read(fixture.file("probe")).unwrap(), 1)).unwrap();
    fixture.host.begin_shadow("probe", None, &Source::File(file)).await.unwrap();
    let outcome = get(&handler, &server.url("/hello")).await;
    assert_eq!(emitted(&outcome), ["200 hello"]);
    let difference = until("it is compared", || {
        fixture.status("probe").uses[0].shadow.as_ref()?.differences.first().cloned()
    });
    let difference = difference.await;
    assert_eq!(difference.serving, outcome);
    let reason = refused(difference.shadow.clone());
    assert!(reason.contains("HttpRequestDenied"), "{reason}");
    assert_eq!(server.figures.requests.load(SeqCst), 1, "the serving one's");
    assert_eq!(fixture.host.metrics().len(), 1, "of the use, not of its shadow");
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_refused_unless_that_is_named_too() {
    let log = Log::capture();
    let server = Server::start().await;
    let fixture = Fixture::new().with_guests(&["probe"]);
    // No name server is needed: the system's resolver takes this old way to write 127.0.0.1 for a name.
    let name = || origin(HttpHost::Name("127.1".into()), server.address.port());
    let url = format!("http://127.1:{}/hello", server.address.port());
    let host = &fixture.host;
    let handler =
        host.handler("group private", &allowing([name()]), None, Isolation::None, 1).await.unwrap();
    let reason = refused(get(&handler, &url).await);
    assert!(reason.contains("DestinationIpProhibited"), "{reason}");
    assert_eq!(server.figures.connections.load(SeqCst), 0);
    let lines = log.of("group private");
    assert!(
        lines.iter().any(|line| line.contains("put \"127.0.0.1\" into `allow.http`")),
        "{lines:?}"
    );

    let loopback = HttpTarget::Network(HttpNetwork { address: [127, 0, 0, 0].into(), prefix: 8 });
    let handler = fixture.handler(&allowing([name(), loopback])).await.unwrap();
    assert_eq!(emitted(&get(&handler, &url).await), ["200 hello"]);
}

#[tokio::test]
async fn what_a_server_sends_is_bounded() {
    let server = Server::start().await;
    let fixture = Fixture::new().with_guests(&["probe"]);
    let handler = fixture.handler(&allowing([server.allowed()])).await.unwrap();
    let reason = refused(get(&handler, &server.url("/flood")).await);
    assert!(reason.contains("body size exceeds limit: 16777216 bytes"), "{reason}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_called_that() {
    let fixture = Fixture::new().with_guests(&["probe"]);
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let local = origin(HttpHost::Address([127, 0, 0, 1].into()), port);
    let handler = fixture.handler(&allowing([local])).await.unwrap();
    let reason = refused(get(&handler, &format!("http://127.0.0.1:{port}/")).await);
    assert!(reason.contains("ConnectionRefused"), "{reason}");
}

#[tokio::test]
async fn a_request_ends_with_a_call_that_ran_too_long() {
    let server = Server::start().await;
    let fixture = Fixture::new().with_guests(&["probe"]);
    let limits = Limits { time: Duration::from_millis(300), ..Limits::default() };
    let plugin = PluginUse { limits, ..allowing([server.allowed()]) };
    let handler = fixture.handler(&plugin).await.unwrap();
    let outcome = get(&handler, &server.url("/never")).await;
    assert_eq!(outcome, Outcome::Failed(Failure::Timeout(limits.time)));
    let figures = &server.figures;
    until("the request has ended", || (figures.open.load(SeqCst) == 0).then_some(())).await;
    assert_eq!(figures.requests.load(SeqCst), 1);
}

#[tokio::test]
async fn a_request_ends_with_its_call_even_where_the_guest_keeps_it() {
    let server = Server::start().await;
    let fixture = Fixture::new().with_guests(&["probe"]);
    let plugin = allowing([server.allowed()]);
    let handler = fixture.host.handler("g", &plugin, None, Isolation::None, 1).await.unwrap();
    let kept = handle(&handler, &order("keep", &server.url("/never"))).await;
    assert_eq!(kept, Outcome::Handled(vec![]));
    let reason = refused(handle(&handler, r#"{"do": "take"}"#).await);
    assert!(reason.contains("ConnectionTerminated"), "{reason}");
    let figures = &server.figures;
    until("the request has ended", || (figures.open.load(SeqCst) == 0).then_some(())).await;
}

#[tokio::test]
async fn guests_that_wait_for_answers_hold_no_thread() {
    let server = Server::start().await;
    let fixture = Fixture::new().with_guests(&["probe"]);
    let limits = Limits { time: Duration::from_secs(60), ..Limits::default() };
    let plugin = PluginUse { limits, ..allowing([server.allowed()]) };
    let host = &fixture.host; // has two threads
    let handler =
        host.handler("g", &plugin, Some("out".into()), Isolation::None, 64).await.unwrap();
    let order = order("request", &server.url("/late"));
    let runs = (0..64).map(|offset| handler.handle(vec![delivery(offset, &order)]));
    let reports = tokio::spawn(join_all(runs));
    let figures = &server.figures;
    until("all of them wait at once", || (figures.open.load(SeqCst) == 64).then_some(())).await;
    figures.late.close();
    for report in soon(reports).await.unwrap() {
        assert_eq!(emitted(&report.outcomes[0]), ["200 late"]);
    }
}
