//! A gateway that is killed with SIGKILL at random moments under load, again and again, loses nothing it
//! acknowledged and handles nothing out of order; under exactly-once, nothing is written twice either.
//!
//! Every round kills the process while clients send. After the last one it is left to finish; then what the clients
//! were told is held against what the source topic keeps and what the handler emitted.

#[path = "../support/gateway.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod gateway;
mod history;
#[path = "../support/kafka.rs"]
mod kafka;
#[path = "../support/plugins.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod plugins;

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use gateway::{Gateway, wait_until, working_directory};
use history::{Acknowledged, History};
use kafka::Kind;
use serde_json::{Value, json};

/// Clients that send at the same time, each one record after the other and with a key of its own.
const CLIENTS: usize = 6;

#[test]
fn a_gateway_killed_fifty_times_on_the_embedded_broker_loses_nothing_and_keeps_the_order() {
    survive(EMBEDDED, &Names::new("source"), Delivery::AtLeastOnce, 50);
}

#[test]
fn a_gateway_killed_twenty_times_on_the_embedded_broker_writes_every_output_once_and_in_order() {
    survive(EMBEDDED, &Names::new("source"), Delivery::ExactlyOnce, 20);
}

#[test]
fn a_gateway_killed_ten_times_on_kafka_loses_nothing_and_keeps_the_order() {
    let Some(kafka) = kafka::shared(Kind::Kraft) else { return };
    let names = Names::new(&format!("crash-{}", std::process::id()));
    survive(&on(kafka), &names, Delivery::AtLeastOnce, 10);
}

#[test]
fn a_gateway_killed_five_times_on_kafka_writes_every_output_once_and_in_order() {
    let Some(kafka) = kafka::shared(Kind::Kraft) else { return };
    let names = Names::new(&format!("crash-once-{}", std::process::id()));
    survive(&on(kafka), &names, Delivery::ExactlyOnce, 5);
}

const EMBEDDED: &str = "kind = \"embedded\"\npath = \"data\"";

fn on(kafka: &str) -> String {
    format!("kind = \"kafka\"\nbootstrap-servers = \"{kafka}\"")
}

/// What the group promises.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

/// What a run calls its topics.
struct Names {
    source: String,
    output: String,
}

impl Names {
    fn new(source: &str) -> Self {
        Self { source: source.into(), output: format!("{source}-out") }
    }
}

fn survive(broker: &str, names: &Names, delivery: Delivery, kills: usize) {
    let directory = working_directory(&configuration(broker, names, delivery));
    plugins::install("uppercase", &directory.path().join("plugins"), "uppercase");
    let mut history = History::default();
    let mut random = fastrand::Rng::with_seed(kills as u64);
    for round in 0..kills {
        let gateway = start(directory.path(), names);
        let alive = Duration::from_millis(random.u64(20..400));
        history.extend(load_until_killed(gateway, round, alive));
    }
    let acknowledged = history.len();
    assert!(
        acknowledged > kills,
        "only {acknowledged} records were acknowledged: this shows nothing"
    );
    let gateway = start(directory.path(), names);
    wait_until("every record is handled and committed", || {
        let (_, group) = gateway.get(&format!("/api/v1/groups/{}-group", names.source));
        let partitions = group["partitions"].as_array().cloned().unwrap_or_default();
        let done =
            partitions.len() == 3 && partitions.iter().all(|partition| partition["lag"] == 0);
        done.then_some(()).ok_or_else(|| format!("{group:#}\n{}", gateway.tail()))
    });
    history.check(&gateway, &names.source, &names.output, delivery == Delivery::ExactlyOnce);
}

fn configuration(broker: &str, names: &Names, delivery: Delivery) -> String {
    let Names { source, output } = names;
    let delivery = match delivery {
        Delivery::AtLeastOnce => "at-least-once",
        Delivery::ExactlyOnce => "exactly-once",
    };
    // A static member takes its place again at once; without that the group waits for the session to expire.
    format!(
        r#"
[broker]
{broker}
[http]
default-topic = "{source}"
[[topics]]
name = "{source}"
partitions = 3
[[topics]]
name = "{output}"
partitions = 3
[[groups]]
id = "{source}-group"
topics = ["{source}"]
consumers = 2
instance-id = "crash"
handler = {{ plugin = "uppercase" }}
delivery = "{delivery}"
output-topic = "{output}"
"#
    )
}

/// Starts it and waits until its members have joined, so that a kill finds records in their hands.
fn start(directory: &Path, names: &Names) -> Gateway {
    let gateway = Gateway::start(directory, &["run"], &[]);
    wait_until("both members have joined", || {
        let (_, group) = gateway.get(&format!("/api/v1/groups/{}-group", names.source));
        let ours = format!(":{}", gateway.id());
        let joined = |member: &&Value| {
            member["process"].as_str().is_some_and(|process| process.ends_with(&ours))
                && member["id"].is_string()
                && member["state"] != "rebalancing"
        };
        let count = group["members"].as_array().into_iter().flatten().filter(joined).count();
        if count == 2 { Ok(()) } else { Err(format!("{group:#}\n{}", gateway.tail())) }
    });
    gateway
}

/// Sends from every client until the process is killed; returns what was acknowledged.
fn load_until_killed(gateway: Gateway, round: usize, alive: Duration) -> Vec<Acknowledged> {
    let stop = AtomicBool::new(false);
    let (gateway_ref, stop_ref) = (&gateway, &stop);
    let acknowledged = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || send_until(gateway_ref, round, client, stop_ref)))
            .collect();
        thread::sleep(alive); // the moment of the kill is the test's random input
        gateway.signal("KILL");
        stop.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .flat_map(|client| client.join().expect("a client does not panic"))
            .collect()
    });
    drop(gateway);
    acknowledged
}

fn send_until(
    gateway: &Gateway,
    round: usize,
    client: usize,
    stop: &AtomicBool,
) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("id-{round}-{client}-{number}");
        let (status, answer) =
            gateway.send(&json!({"key": format!("client-{client}"), "value": id}));
        if status == 200 {
            let place =
                |name: &str| answer[name].as_u64().expect("the answer says where the record is");
            acknowledged.push(Acknowledged {
                partition: place("partition"),
                offset: place("offset"),
                id,
            });
        }
    }
    acknowledged
}
