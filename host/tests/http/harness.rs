//! A running port, and a client that knows no more of HTTP than it must.

use std::{collections::HashMap, io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use keyway::{
    handler::Selector,
    http::{Drained, Gateway, Limits, Server},
    produce::Producer,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use crate::doubles::ScriptedBroker;

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running data port, with `my-topic` as its default topic.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    pub(crate) broker: Arc<ScriptedBroker>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<io::Result<Drained>>,
}

impl Port {
    pub(crate) fn start() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self::with_selectors(limits, HashMap::new())
    }

    pub(crate) fn with_selectors(
        limits: Limits,
        selectors: HashMap<Arc<str>, Arc<dyn Selector>>,
    ) -> Self {
        let broker = Arc::new(ScriptedBroker::default());
        let producer = Producer::new(broker.clone(), selectors);
        let gateway = Gateway {
            producer,
            default_topic: Arc::new(ArcSwapOption::from_pointee(Arc::from("my-topic"))),
            limits,
            answers: Arc::default(),
        };
        let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server.run(gateway, async {
            stopped.await.ok(); // a port that is dropped stops too
        }));
        Self { address, broker, stop: Some(stop), served }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Begins to shut down.
    pub(crate) fn stop(&mut self) {
        self.stop.take();
    }

    /// Waits for the end.
    pub(crate) async fn drained(mut self) -> Drained {
        self.stop();
        timeout(PATIENCE, self.served).await.expect("drained in time").unwrap().unwrap()
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) fn over(socket: TcpStream) -> Self {
        Self { socket, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a record as JSON and takes its answer.
    pub(crate) async fn post(&mut self, json: &str) -> Answer {
        self.send(post(json)).await;
        self.answer().await
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.next_answer().await.expect("an answer before the end of the connection")
    }

    /// The next answer, or `None` at the end of the connection.
    pub(crate) async fn next_answer(&mut self) -> Option<Answer> {
        let head_end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if !self.read_more().await {
                assert!(self.read.is_empty(), "a broken answer");
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..head_end + 4).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.read_more().await, "a broken body");
        }
        let body = self.read.drain(..length).collect();
        Some(Answer { status, headers, body })
    }

    /// Waits for the end of the connection, and that nothing comes before it.
    pub(crate) async fn ended(&mut self) {
        assert_eq!(self.next_answer().await, None);
    }

    async fn read_more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.socket.read_buf(&mut self.read)).await;
        match read.expect("something within the patience of a test") {
            Ok(length) => length > 0,
            Err(error) => panic!("the connection was reset: {error}"),
        }
    }
}

/// A request with a record as JSON.
pub(crate) fn post(json: &str) -> String {
    request("POST /send-message", "application/json", json)
}

/// A request with a body.
pub(crate) fn request(line: &str, media_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nhost: test\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// An answer, read whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Checks that it is a problem document, and gives its code.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let document = self.json();
        let code = document["code"].as_str().unwrap().to_owned();
        assert_eq!(document["type"], format!("urn:keyway:problem:{code}"));
        assert_eq!(document["status"], self.status);
        for member in ["title", "detail"] {
            assert!(!document[member].as_str().unwrap().is_empty(), "{document}");
        }
        code
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
