//! The files of `docker-compose/`, held to what they promise without a Docker engine: parsed by the library that
//! `docker compose` itself uses, and their Keyway services run as processes, by their very commands, on a real Kafka.

#[path = "../support/gateway.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod gateway;
#[path = "../support/kafka.rs"]
mod kafka;
#[path = "../support/plugins.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod plugins;
mod project;

use std::{
    env, fs,
    io::{self, Write},
    process::Command,
};

use gateway::{Gateway, wait_until, working_directory};
use kafka::Kind;
use project::{Image, Project, Service, repository};
use serde_json::json;

/// Reads a compose file, or leaves the test with one line that says why it cannot.
macro_rules! read {
    ($file:expr, $profiles:expr) => {
        match Project::read($file, $profiles) {
            Ok(project) => project,
            Err(why) => return skip(&why),
        }
    };
}

#[test]
fn plain_up_gives_kafka_in_kraft_mode() {
    let dev = read!("dev.docker-compose.yml", &[]);
    assert_eq!(dev.names(), ["kafka", "kafka-ui"]);
    let kafka = &dev.services["kafka"];
    assert!(kafka.image.starts_with("apache/kafka:4.3."), "{}", kafka.image);
    assert_eq!(kafka.environment["KAFKA_PROCESS_ROLES"], "broker,controller");
    assert!(dev.services["kafka-ui"].image.starts_with("ghcr.io/kafbat/kafka-ui:"));
}

#[test]
fn the_profile_zookeeper_gives_the_tutorials_three_instead() {
    let dev = read!("dev.docker-compose.yml", &["zookeeper"]);
    assert_eq!(dev.names(), ["kafka-ui", "kafka-with-zookeeper", "zookeeper"]);
    assert!(dev.services["kafka-with-zookeeper"].image.starts_with("confluentinc/cp-kafka:7.9."));
    assert!(dev.services["zookeeper"].image.starts_with("confluentinc/cp-zookeeper:7.9."));
    assert!(dev.services["kafka-with-zookeeper"].depends_on.contains_key("zookeeper"));
}

#[test]
fn either_kafka_is_reached_by_the_same_names() {
    for (profile, name) in [("kraft", "kafka"), ("zookeeper", "kafka-with-zookeeper")] {
        let dev = read!("dev.docker-compose.yml", &[profile]);
        let kafka = &dev.services[name];
        assert!(kafka.aliases().contains(&"kafka"), "{name}");
        assert_eq!(
            kafka.environment["KAFKA_ADVERTISED_LISTENERS"],
            "INSIDE://kafka:29092,OUTSIDE://localhost:9092",
            "{name}"
        );
        assert_eq!(kafka.published(), [(9092, "9092")], "{name}");
        assert_eq!(
            dev.services["kafka-ui"].environment["KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS"],
            "kafka:29092",
            "{name}"
        );
    }
}

#[test]
fn the_practice_joins_the_network_that_the_kafka_made() {
    let dev = read!("dev.docker-compose.yml", &[]);
    let practice = read!("practice2.docker-compose.yml", &[]);
    assert_eq!(practice.networks["default"].name, dev.networks["default"].name);
    assert!(practice.networks["default"].external && !dev.networks["default"].external);
}

#[test]
fn the_practice_is_one_producer_and_four_consumers_with_the_tutorials_variables() {
    let practice = read!("practice2.docker-compose.yml", &[]);
    assert_eq!(
        practice.names(),
        ["consumer-1", "consumer-2", "consumer-3", "consumer-4", "producer"]
    );
    let topic = [
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:29092"),
        ("KAFKA_REPLICATION_FACTOR", "1"),
        ("KAFKA_TOPIC", "my-topic"),
        ("KAFKA_TOPIC_PARTITIONS", "3"),
    ];
    for (name, service) in &practice.services {
        let mut environment = service.environment.clone();
        let group = environment.remove("KAFKA_CONSUMER_GROUP_ID");
        let command = service.command.as_deref().expect("a command");
        if name == "producer" {
            assert_eq!((command, group), (&["run", "--only", "http"].map(str::to_owned)[..], None));
            assert!(service.published().contains(&(8081, "8081")));
        } else {
            assert_eq!(command, ["run", "--only", "groups"], "{name}");
            assert_eq!(group.as_deref(), Some("my-topic-group-1"), "{name}");
        }
        assert!(
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(topic),
            "{name}"
        );
        assert_eq!(service.entrypoint, None, "the image says what is run");
    }
}

#[test]
fn the_image_runs_keyway_and_asks_whether_it_is_ready() {
    let practice = read!("practice2.docker-compose.yml", &[]);
    let image = image(&practice.services["producer"]);
    assert_eq!(image.entrypoint, ["keyway"]);
    assert_eq!(image.command, ["run"]);
    let published: Vec<String> = practice.services["producer"]
        .ports
        .iter()
        .map(|port| format!("0.0.0.0:{}", port.target))
        .collect();
    let listening: Vec<&String> = ["KEYWAY__HTTP__LISTEN", "KEYWAY__ADMIN__LISTEN"]
        .iter()
        .map(|name| &image.environment[*name])
        .collect();
    assert_eq!(listening, published.iter().collect::<Vec<_>>());
    assert!(image.health_check.last().is_some_and(|script| script.contains("/ready")));
}

#[test]
fn the_services_of_the_practice_do_what_the_tutorial_says() {
    let practice = read!("practice2.docker-compose.yml", &[]);
    let Some(kafka) = kafka::shared(Kind::Kraft) else { return };
    let configuration =
        fs::read_to_string(repository().join("keyway.toml")).expect("the image has it too");
    let directory = working_directory(&configuration);
    plugins::install("print", &directory.path().join("plugins"), "print");
    let running = |name: &str| start(&practice.services[name], kafka, &directory);

    let producer = running("producer");
    let consumers = ["consumer-1", "consumer-2", "consumer-3", "consumer-4"].map(running);
    let group = format!("/api/v1/groups/{}", here("my-topic-group-1"));
    wait_until("three consumers are active and one is inactive", || {
        let (status, shown) = producer.get(&group);
        let count = |state: &str| {
            let members = shown["members"].as_array().into_iter().flatten();
            members.filter(|member| member["state"] == state).count()
        };
        if (count("active"), count("inactive")) == (3, 1) {
            Ok(())
        } else {
            Err(format!("{status} {shown}"))
        }
    });

    let value = format!("hello from {}", std::process::id());
    let (status, answer) = producer.send(&json!({ "value": value }));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["topic"], here("my-topic"));
    wait_until("a consumer handles the record", || {
        let handled = consumers.iter().any(|consumer| consumer.said(&value));
        if handled { Ok(()) } else { Err(consumers.iter().map(Gateway::tail).collect()) }
    });
    assert!(is_healthy(&practice.services["producer"], &producer));
}

/// Runs a service's own command as the image would, in its environment, but for what differs on this machine: where
/// Kafka is, which ports are free, and names that nobody else uses.
fn start(service: &Service, kafka: &str, directory: &tempfile::TempDir) -> Gateway {
    let image = image(service);
    let mut environment = image.environment;
    environment.extend(service.environment.clone());
    for (name, value) in &mut environment {
        match name.as_str() {
            "KAFKA_BOOTSTRAP_SERVERS" => *value = kafka.to_owned(),
            "KAFKA_TOPIC" | "KAFKA_CONSUMER_GROUP_ID" => *value = here(value),
            "KEYWAY__HTTP__LISTEN" | "KEYWAY__ADMIN__LISTEN" => *value = "127.0.0.1:0".to_owned(),
            _ => {}
        }
    }
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let command = service.command.as_ref().unwrap_or(&image.command);
    let arguments: Vec<&str> =
        image.entrypoint[1..].iter().chain(command).map(String::as_str).collect();
    Gateway::start(directory.path(), &arguments, &environment)
}

/// Runs the image's health check against a process on another port.
fn is_healthy(service: &Service, gateway: &Gateway) -> bool {
    let check = image(service).health_check;
    let arguments = check[1..]
        .iter()
        .map(|argument| argument.replace("8082", &gateway.admin().port().to_string()));
    Command::new(&check[0]).args(arguments).status().expect("bash is here too").success()
}

fn image(service: &Service) -> Image {
    let build = service.build.as_ref().expect("it is built from here");
    Image::read(&build.context.join(&build.dockerfile))
}

/// A name that no other run has used.
fn here(name: &str) -> String {
    format!("{name}-compose-{}", std::process::id())
}

fn skip(why: &str) {
    assert!(
        env::var_os("KEYWAY_TEST_REQUIRE_KAFKA").is_none_or(|value| value != "1"),
        "must not skip: {why}"
    );
    // Not by a macro: what those print is shown only for tests that fail.
    io::stderr().write_all(format!("SKIPPED tests of the compose files: {why}\n").as_bytes()).ok();
}
