//! What each librdkafka client is told: Keyway's defaults, then the operator's properties, then what Keyway's promises
//! rest on, so that no property can break one. Pure; which properties an operator may give at all is `config`'s matter.

use std::collections::BTreeMap;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use crate::broker::MemberSpec;

/// How long a record may wait to be acknowledged, in milliseconds, unless `message.timeout.ms` says otherwise.
const PRODUCE_DEADLINE_MS: &str = "10000";

/// How long a transaction may stay open, in milliseconds, unless `transaction.timeout.ms` says otherwise. It is written in
/// one go, so that what takes longer is a broker in trouble: this is above the time in which a leader is replaced. And
/// it is how long readers wait behind a transaction whose writer was killed: far below the 45 s after which its group
/// takes a silent member for dead, so that the next owner of its partitions does not wait for it as well.
const TRANSACTION_TIMEOUT_MS: &str = "15000";

/// The records one `fetch` may leave waiting in a member for each of its partitions, in KiB. Measured together with
/// [`FETCH_BYTES`]: with four times as much of both consuming is as fast and takes twice the memory, and with a quarter of this
/// and half of that it is slower.
const PREFETCH_KIB: &str = "4096";
/// The bytes of a partition that one `fetch` asks for; a larger record comes all the same.
const FETCH_BYTES: &str = "1048576";

/// How long a `fetch` without records waits at the broker, in milliseconds. librdkafka has one under way with each broker, so
/// a partition that could be fetched meanwhile waits as long for the quiet ones: one that was just assigned, or one that
/// comes faster than [`PREFETCH_KIB`] in this time. With 500, which is librdkafka's own, a busy partition beside two quiet
/// ones gave 76,000 records a second in place of 540,000. A tenth of it costs the broker 0.2 % of a processor for each
/// member that idles; 20 would cost it twice that for a fifth more.
const FETCH_WAIT_MS: &str = "50";

/// Makes the configurations of all clients of one broker.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    bootstrap_servers: String,
    properties: BTreeMap<String, String>,
}

impl Settings {
    pub(super) fn new(bootstrap_servers: &str, properties: &BTreeMap<String, String>) -> Self {
        Self { bootstrap_servers: bootstrap_servers.into(), properties: properties.clone() }
    }

    /// For the client that writes.
    pub(super) fn producer(&self, process: &str) -> ClientConfig {
        let mut config = self.common(&[
            // Requests in flight form the batch: a record never waits for others to come.
            ("linger.ms", "0"),
            // Records without a key stay together within a batch, and every batch goes somewhere else.
            ("sticky.partitioning.linger.ms", "1"),
            ("message.timeout.ms", PRODUCE_DEADLINE_MS),
            // Refusing what is too large is left to the broker, whose limit is the one that counts.
            ("message.max.bytes", "16777216"),
            ("queue.buffering.max.messages", "100000"),
            ("queue.buffering.max.kbytes", "131072"),
        ]);
        self.keep(&mut config, |name| !is_consumer_only(name));
        if self.properties.contains_key("delivery.timeout.ms") {
            config.remove("message.timeout.ms"); // the same property by its other name
        }
        config
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("allow.auto.create.topics", "false")
            .set("client.id", client_id(process, "producer"));
        config
    }

    /// For the client that writes transactions in the name of `id`.
    pub(super) fn transactional(&self, id: &str, client_id: &str) -> ClientConfig {
        let mut config = self.producer("");
        for name in ["message.timeout.ms", "delivery.timeout.ms"] {
            config.remove(name); // librdkafka gives records as long as the transaction, and refuses longer
        }
        if !self.properties.contains_key("transaction.timeout.ms") {
            config.set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
        }
        config.set("transactional.id", id).set("client.id", client_id);
        config
    }

    /// For questions about the cluster, and for looking at records. Joins no group and commits nothing.
    pub(super) fn observer(&self, process: &str) -> ClientConfig {
        let mut config = self.common(&[]);
        self.keep(&mut config, |name| !is_producer_only(name) && !is_membership(name));
        config
            .set("allow.auto.create.topics", "false")
            .set("enable.auto.commit", "false")
            .set("client.id", client_id(process, "observer"));
        config
    }

    /// For a member's place in its group: joining, heartbeats, commits. It fetches nothing.
    pub(super) fn membership(&self, spec: &MemberSpec, client_id: &str) -> ClientConfig {
        let mut config = self.common(&[
            ("topic.metadata.refresh.interval.ms", "10000"),
            // A member learns from it that the group is shared out anew, and partitions that are nobody's wait for the last
            // to have learnt it: the default of 3 s is a pause of 3 s.
            ("heartbeat.interval.ms", "500"),
        ]);
        self.keep(&mut config, |name| !is_producer_only(name));
        config
            .set("group.id", spec.group.as_ref())
            .set("client.id", client_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("allow.auto.create.topics", "false");
        if let Some(id) = &spec.instance_id {
            config.set("group.instance.id", id);
        }
        if self.properties.get("group.protocol").is_some_and(|protocol| protocol == "consumer") {
            for refused in CLASSIC_ONLY {
                config.remove(refused);
            }
        } else {
            config.set("partition.assignment.strategy", "cooperative-sticky");
        }
        config
    }

    /// For fetching a member's records. It joins nothing; librdkafka wants a group's name of whoever assigns himself.
    pub(super) fn fetcher(&self, spec: &MemberSpec, client_id: &str) -> ClientConfig {
        let mut config = self.common(&[
            // A full queue is looked at again after this; the default of a second is a pause of a second.
            ("fetch.queue.backoff.ms", "2"),
            ("queued.max.messages.kbytes", PREFETCH_KIB),
            ("fetch.message.max.bytes", FETCH_BYTES),
            ("fetch.wait.max.ms", FETCH_WAIT_MS),
        ]);
        self.keep(&mut config, |name| !is_producer_only(name) && !is_membership(name));
        config
            .set("group.id", spec.group.as_ref())
            .set("client.id", format!("{client_id}.fetch"))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("allow.auto.create.topics", "false")
            // Where a group begins is decided by explicit offsets; this is for a position whose records retention has
            // taken away, and going on with the oldest that are left loses the least.
            .set("auto.offset.reset", "earliest");
        config
    }

    fn common(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers);
        config.set("log.connection.close", "false");
        // Else a small request now and then waits 40 ms for the acknowledgement of the one before it.
        config.set("socket.nagle.disable", "true");
        config.set("reconnect.backoff.max.ms", "1000"); // a broker that is back is found within a second
        let debug = self.properties.contains_key("debug");
        config.set_log_level(if debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        config
    }

    fn keep(&self, config: &mut ClientConfig, wanted: impl Fn(&str) -> bool) {
        for (name, value) in self.properties.iter().filter(|(name, _)| wanted(name)) {
            config.set(name, value);
        }
    }
}

/// How the clients of one process are told apart in a broker's logs and in groups: `keyway@HOST:PID/WHAT`.
pub(super) fn client_id(process: &str, what: &str) -> String {
    format!("keyway@{process}/{what}")
}

/// The process in a client id that [`client_id`] made.
pub(super) fn process_of(client_id: &str) -> Option<&str> {
    client_id.strip_prefix("keyway@")?.rsplit_once('/').map(|(process, _what)| process)
}

/// What librdkafka refuses together with `group.protocol=consumer`: there the broker decides it.
const CLASSIC_ONLY: [&str; 4] = [
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
    "group.protocol.type",
];

/// Properties that only a consumer has. librdkafka would log a warning for each at every other client.
fn is_consumer_only(name: &str) -> bool {
    is_membership(name)
        || name.starts_with("fetch.")
        || name.starts_with("queued.")
        || name.starts_with("auto.offset")
        || ["isolation.level", "check.crcs", "enable.partition.eof", "max.partition.fetch.bytes"]
            .contains(&name)
}

fn is_membership(name: &str) -> bool {
    name.starts_with("group.")
        || name.starts_with("enable.auto.")
        || CLASSIC_ONLY.contains(&name)
        || ["max.poll.interval.ms", "auto.commit.interval.ms"].contains(&name)
}

/// Properties that only a producer has.
fn is_producer_only(name: &str) -> bool {
    name.starts_with("queue.buffering.")
        || name.starts_with("compression.")
        || name.starts_with("batch.")
        || name.starts_with("retr")
        || [
            "linger.ms",
            "acks",
            "request.required.acks",
            "request.timeout.ms",
            "message.timeout.ms",
            "delivery.timeout.ms",
            "message.send.max.retries",
            "sticky.partitioning.linger.ms",
            "partitioner",
            "enable.idempotence",
            "enable.gapless.guarantee",
            "transactional.id",
            "transaction.timeout.ms",
        ]
        .contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Start;

    fn settings(properties: &[(&str, &str)]) -> Settings {
        let properties =
            properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Settings::new("localhost:9092", &properties)
    }

    fn spec() -> MemberSpec {
        MemberSpec {
            group: "g".into(),
            topics: vec!["t".into()],
            start: Start::Earliest,
            index: 0,
            instance_id: None,
        }
    }

    #[test]
    fn a_property_wins_over_a_default_but_not_over_a_promise() {
        let settings =
            settings(&[("linger.ms", "7"), ("acks", "1"), ("enable.idempotence", "false")]);
        let producer = settings.producer("h:1");
        assert_eq!(producer.get("linger.ms"), Some("7"));
        assert_eq!(producer.get("acks"), Some("all"));
        assert_eq!(producer.get("enable.idempotence"), Some("true"));
    }

    #[test]
    fn a_transactions_records_have_as_long_as_the_transaction() {
        let settings = settings(&[("delivery.timeout.ms", "60000")]);
        let config = settings.transactional("t", "c");
        assert_eq!(config.get("transactional.id"), Some("t"));
        assert_eq!(config.get("transaction.timeout.ms"), Some(TRANSACTION_TIMEOUT_MS));
        assert_eq!(config.get("delivery.timeout.ms").or(config.get("message.timeout.ms")), None);
        assert_eq!(config.get("acks"), Some("all"));
    }

    #[test]
    fn each_client_gets_only_the_properties_it_has() {
        let settings = settings(&[
            ("compression.type", "zstd"),
            ("fetch.wait.max.ms", "9"),
            ("security.protocol", "ssl"),
        ]);
        let (producer, member) = (settings.producer("h:1"), settings.fetcher(&spec(), "c"));
        assert_eq!(producer.get("compression.type"), Some("zstd"));
        assert_eq!(producer.get("fetch.wait.max.ms"), None);
        assert_eq!(member.get("compression.type"), None);
        assert_eq!(member.get("fetch.wait.max.ms"), Some("9"));
        for config in [producer, member, settings.observer("h:1")] {
            assert_eq!(config.get("security.protocol"), Some("ssl"));
        }
    }

    #[test]
    fn the_new_group_protocol_takes_along_only_what_it_knows() {
        let settings = settings(&[("group.protocol", "consumer"), ("session.timeout.ms", "6000")]);
        let member = settings.membership(&spec(), "c");
        assert_eq!(member.get("group.protocol"), Some("consumer"));
        assert_eq!(member.get("session.timeout.ms"), None);
        assert_eq!(member.get("partition.assignment.strategy"), None);
        assert_eq!(member.get("heartbeat.interval.ms"), None);
    }

    #[test]
    fn a_member_learns_within_half_a_second_that_partitions_change_hands_or_as_it_is_told() {
        let heartbeat = |properties: &[_]| {
            let member = settings(properties).membership(&spec(), "c");
            member.get("heartbeat.interval.ms").map(str::to_owned)
        };
        assert_eq!(heartbeat(&[]).as_deref(), Some("500"));
        assert_eq!(heartbeat(&[("heartbeat.interval.ms", "2000")]).as_deref(), Some("2000"));
    }

    #[test]
    fn quiet_partitions_hold_a_busy_one_up_for_50_ms_at_the_most_or_as_it_is_told() {
        let wait = |properties: &[_]| {
            let member = settings(properties).fetcher(&spec(), "c");
            member.get("fetch.wait.max.ms").map(str::to_owned)
        };
        assert_eq!(wait(&[]).as_deref(), Some("50"));
        assert_eq!(wait(&[("fetch.wait.max.ms", "500")]).as_deref(), Some("500"));
    }

    #[test]
    fn a_client_id_tells_the_process() {
        assert_eq!(process_of(&client_id("host:42", "3.1")), Some("host:42"));
        assert_eq!(process_of("sarama"), None);
    }
}
