//! The files of `docker-compose/`, held to what they promise without a Docker engine: parsed by the library that
//! `docker compose` itself uses, and their Keyway services run as processes, by their very commands, on a real Kafka.

mod project;

use project::{Image, Project, repository};

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
    let build = practice.services["producer"].build.as_ref().expect("it is built from here");
    assert_eq!(build.context, repository());
    let image = Image::read(&build.context.join(&build.dockerfile));
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

#[expect(clippy::print_stderr, reason = "a test that skips says so")]
fn skip(why: &str) {
    assert!(std::env::var_os("KEYWAY_TEST_REQUIRE_KAFKA").is_none(), "must not skip here: {why}");
    eprintln!("skipped: {why}");
}
