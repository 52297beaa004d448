//! The example plugins that are not in Rust: built, dropped into a directory of plugins, and given records, on the embedded
//! broker and on Kafka.

use std::{fs, path::Path};

use keyway::plugin::build::{self, BuildError};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{records, skip, start};
use crate::{
    gateway::{Gateway, command, working_directory},
    kafka::{self, Kind},
    plugins,
};

/// Builds one example plugin, in whatever language.
fn build(example: &str, directory: &Path) -> Result<(), BuildError> {
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(example);
    build::build(&[folder], &target.join("plugins"), directory).map(drop)
}

/// Runs `test` with an example in place on either broker, with a name for topics that nobody else has; `configuration` is
/// told it.
fn on_both_brokers(
    example: &str,
    configuration: impl Fn(&str) -> String,
    test: impl Fn(&Gateway, &str),
) {
    let built = tempfile::tempdir().expect("a temporary directory");
    match build(example, built.path()) {
        Ok(()) => {}
        Err(error) if error.is_missing_tool() => return skip(&error.to_string()),
        Err(error) => panic!("{error}"),
    }
    let (component, tests) = (format!("{example}.wasm"), plugins::tests_of(example));
    let mut arguments = vec!["plugin", "test", &component];
    arguments.extend(tests.iter().map(String::as_str));
    let (code, text) = command(built.path(), &arguments, &[]);
    assert_eq!(code, 0, "{text}");
    let on = |broker: &str| {
        let topic = format!("{example}-{:08x}", fastrand::u32(..));
        let text =
            format!("[http]\ndefault-topic = \"{topic}\"\n{broker}{}", configuration(&topic));
        let directory: TempDir = working_directory(&text);
        let component = format!("{example}.wasm");
        fs::copy(built.path().join(&component), directory.path().join("plugins").join(component))
            .expect("it was built");
        let gateway = start(&directory);
        test(&gateway, &topic);
        assert_eq!(gateway.terminate().code(), Some(0));
    };
    on("");
    if let Some(servers) = kafka::shared(Kind::Kraft) {
        on(&format!("[broker]\nkind = \"kafka\"\nbootstrap-servers = \"{servers}\"\n"));
    }
}

/// A topic of seven partitions, keyed by the example.
fn keyed_by(example: &'static str, config: &'static str) -> impl Fn(&str) -> String {
    move |topic| {
        format!(
            "[[topics]]\nname = \"{topic}\"\npartitions = 7\n\
             key-selector = {{ plugin = \"{example}\", config = {{ {config} }} }}\n"
        )
    }
}

fn sent(gateway: &Gateway, record: &Value) -> Value {
    let (status, answer) = gateway.send(record);
    assert_eq!(status, 200, "{answer}\n{}", gateway.tail());
    answer
}

fn refused(gateway: &Gateway, record: &Value, why: &str) {
    let (status, answer) = gateway.send(record);
    assert_eq!(status, 422, "{answer}\n{}", gateway.tail());
    assert!(answer.to_string().contains(why), "{answer}");
}

#[test]
fn geohash_in_go_keys_records_by_where_they_are() {
    on_both_brokers("geohash", keyed_by("geohash", "precision = 4"), |gateway, _| {
        let alexanderplatz = json!({"value": {"lat": 52.5219, "lon": 13.4132}});
        let town_hall = json!({"value": {"lat": 52.5186, "lon": 13.4081}});
        assert_eq!(sent(gateway, &alexanderplatz)["key"], "u33d");
        assert_eq!(sent(gateway, &town_hall)["key"], "u33d");
        assert_eq!(sent(gateway, &json!({"value": {"lat": -33.86, "lon": 151.21}}))["key"], "r3gx");
        refused(
            gateway,
            &json!({"value": {"lat": 91, "lon": 0}}),
            "`lat` is from -90 to 90, got 91",
        );
        refused(gateway, &json!({"value": {"lat": 1}}), "it needs the numbers `lat` and `lon`");
        refused(gateway, &json!({"value": "here"}), "no place in the value");
    });
}

#[test]
fn jump_hash_in_c_gives_a_tenant_one_partition_and_uses_them_all() {
    on_both_brokers("jump-hash", keyed_by("jump-hash", "header = \"tenant\""), |gateway, _| {
        let of = |tenant: &str| {
            let record = json!({"key": "k", "value": 1, "headers": {"tenant": tenant}});
            let answer = sent(gateway, &record);
            assert_eq!(answer["key"], "k", "the caller's key stays: {answer}");
            answer["partition"].as_u64().expect("a number")
        };
        let partitions: Vec<_> = (0..50).map(|number| of(&format!("tenant-{number}"))).collect();
        let again: Vec<_> = (0..50).map(|number| of(&format!("tenant-{number}"))).collect();
        assert_eq!(partitions, again, "a tenant stays where it is");
        let used: std::collections::BTreeSet<_> = partitions.into_iter().collect();
        assert_eq!(used.into_iter().collect::<Vec<_>>(), (0..7).collect::<Vec<u64>>());
        refused(gateway, &json!({"value": 1}), "the record has no header `tenant`");
    });
}

/// A group whose handler is the example, writing to `TOPIC-out`; what it rejects is a dead letter at once.
fn handled_by(example: &'static str, config: &'static str) -> impl Fn(&str) -> String {
    move |topic| {
        format!(
            "[[topics]]\nname = \"{topic}\"\npartitions = 1\n\
             [[groups]]\nid = \"{topic}\"\ntopics = [\"{topic}\"]\noutput-topic = \"{topic}-out\"\n\
             handler = {{ plugin = \"{example}\", config = {{ {config} }} }}\n"
        )
    }
}

/// Values that came out, and the causes of what did not, each in order.
fn outcome(
    gateway: &Gateway,
    topic: &str,
    out: usize,
    rejected: usize,
) -> (Vec<Value>, Vec<String>) {
    let values = records(gateway, &format!("{topic}-out"), out);
    let letters = records(gateway, &format!("{topic}.dead-letters"), rejected);
    let cause = |letter: &Value| {
        let headers = letter["headers"].as_array().into_iter().flatten();
        let reason = headers.into_iter().find(|header| header["key"] == "keyway.reason");
        reason.map_or_else(String::new, |reason| reason["value"].to_string())
    };
    (
        values.into_iter().map(|record| record["value"].clone()).collect(),
        letters.iter().map(cause).collect(),
    )
}

#[test]
fn schema_check_in_typescript_lets_through_what_fits_and_rejects_the_rest() {
    let config = r#"schema = '{"type": "object", "required": ["user"], "properties": {"user": {"type": "string"}}}'"#;
    on_both_brokers("schema-check", handled_by("schema-check", config), |gateway, topic| {
        for value in [json!({"user": "Zoë"}), json!({"user": 7}), json!({}), json!("{")] {
            sent(gateway, &json!({"value": value}));
        }
        let (values, causes) = outcome(gateway, topic, 1, 3);
        assert_eq!(values, [r#"{"user":"Zoë"}"#]);
        assert!(causes[0].contains("/user must be string"), "{causes:?}");
        assert!(causes[1].contains("must have required property 'user'"), "{causes:?}");
        assert!(causes[2].contains("the value is not JSON"), "{causes:?}");
    });
}

#[test]
fn pii_mask_in_python_masks_what_is_personal_wherever_it_is() {
    on_both_brokers("pii-mask", handled_by("pii-mask", ""), |gateway, topic| {
        let order = json!({"to": ["Zoë <zoe@example.com>"], "card": "4111 1111 1111 1111", "n": 3});
        sent(gateway, &json!({"value": order}));
        sent(gateway, &json!({"value": "no JSON, but bob@example.com"}));
        let (values, causes) = outcome(gateway, topic, 1, 1);
        assert_eq!(values, [r#"{"card":"[card]","n":3,"to":["Zoë <[email]>"]}"#]);
        assert!(causes[0].contains("the value is not JSON"), "{causes:?}");
    });
}
