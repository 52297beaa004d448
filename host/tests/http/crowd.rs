//! More connections than one process's limits let a test hold beside the server: the clients are a process of their
//! own, this test binary again.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use keyway::http::raise_descriptor_limit;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{PATIENCE, Port, post};

const CROWD: u64 = 10_000;
/// Descriptors for everything but the connections: the other tests of this process run at the same time.
const BESIDES: u64 = 500;
const ADDRESS: &str = "KEYWAY_TEST_CROWD_ADDRESS";
const SIZE: &str = "KEYWAY_TEST_CROWD_SIZE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_are_borne() {
    let size = CROWD.min(raise_descriptor_limit().unwrap().saturating_sub(BESIDES));
    if size < CROWD {
        eprintln!("only {size} connections: the limit on open files allows no more");
    }
    let port = Port::start();
    let mut crowd = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crowd::the_crowd", "--nocapture"])
        .env(ADDRESS, port.address.to_string())
        .env(SIZE, size.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let hold = crowd.stdin.take().unwrap();
    let mut said = BufReader::new(crowd.stdout.take().unwrap()).lines().map_while(Result::ok);
    let told = tokio::task::spawn_blocking(move || {
        let here = said.any(|line| line.contains("the crowd is here"));
        (here, said)
    });
    let told = tokio::time::timeout(2 * PATIENCE, told).await.expect("a crowd in time");
    let (here, _said) = told.unwrap(); // kept: a test cannot say how it ended when nobody listens
    assert!(here, "the crowd broke up");
    assert_eq!(port.connect().await.post(r#"{"value":1}"#).await.status, 200);
    drop(hold);
    assert!(tokio::task::spawn_blocking(move || crowd.wait()).await.unwrap().unwrap().success());
}

/// Not a test by itself: what [`ten_thousand_idle_connections_are_borne`] runs as another process.
#[test]
fn the_crowd() {
    let (Ok(address), Ok(size)) = (std::env::var(ADDRESS), std::env::var(SIZE)) else { return };
    raise_descriptor_limit().unwrap();
    let mut connections: Vec<_> =
        (0..size.parse::<u64>().unwrap()).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for connection in connections.iter_mut().step_by(500) {
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.write_all(post(r#"{"value":1}"#).as_bytes()).unwrap();
        let mut status = [0; 12];
        connection.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    println!("\nthe crowd is here");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    for connection in connections.iter_mut().skip(1).step_by(500) {
        connection.set_nonblocking(true).unwrap();
        let open =
            connection.read(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(open, "an idle connection was closed");
    }
}

const STARVED: &str = "KEYWAY_TEST_STARVED";

#[test]
fn a_process_without_descriptors_accepts_again_when_there_are_some() {
    let starved = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crowd::a_starved_process", "--nocapture"])
        .env(STARVED, "1")
        .status();
    assert!(starved.unwrap().success());
}

/// Not a test by itself: its limit would starve the other tests, so it runs as another process.
#[tokio::test]
async fn a_starved_process() {
    if std::env::var(STARVED).is_err() {
        return;
    }
    let port = Port::start();
    port.connect().await.post(r#"{"value":1}"#).await;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..limit }).unwrap();
    let mut clients = Vec::new();
    while let Ok(client) = TcpStream::connect(port.address) {
        clients.push(client);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The last of them have no descriptor on the server's side until others have gone.
    let last = clients.pop().unwrap();
    clients.truncate(2);
    last.set_nonblocking(true).unwrap();
    let mut last = crate::harness::Client::over(tokio::net::TcpStream::from_std(last).unwrap());
    assert_eq!(last.post(r#"{"value":1}"#).await.status, 200);
}
