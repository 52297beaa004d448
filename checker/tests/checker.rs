//! The checker finds nothing wrong with Keyway, and does find each of the flaws that a gateway can be given on purpose.
//!
//! Each run is the checker as a process, for a seed after the other, and the gateways are this build's.

#[path = "../../host/tests/support/kafka.rs"]
mod kafka;

use std::{
    fs,
    ops::RangeInclusive,
    process::{Command, Output},
};

use kafka::Kind;

/// Seeds by which a flaw must be found on the embedded broker, and in which nothing else is. They see every ordering,
/// every delivery, and both ways to give up on a record.
const SEEDS: RangeInclusive<u64> = 2..=7;

/// Seeds whose episodes on Kafka have both deliveries, lanes parked and given back, gateways that join, leave, are killed
/// and frozen, a silent network, the broker killed and a plugin swapped.
const ON_KAFKA: [u64; 2] = [15, 30];

#[test]
fn keyway_passes_on_the_embedded_broker() {
    SEEDS.for_each(|seed| passes(seed, &["--episode", "6"]));
}

#[test]
fn keyway_passes_on_kafka() {
    if kafka::shared(Kind::Kraft).is_some() {
        ON_KAFKA.iter().for_each(|seed| passes(*seed, &["--episode", "25", "--broker", "kafka"]));
    }
}

#[test]
fn a_commit_one_too_far_is_found() {
    on_embedded("commit-too-far", "a commit passes nothing unfinished");
}

#[test]
fn a_map_that_is_not_read_at_a_start_is_found() {
    on_embedded("skip-map", "a commit passes nothing unfinished, and is believed");
}

#[test]
fn a_record_that_is_done_with_before_its_output_is_written_is_found() {
    on_embedded("acknowledge-early", "nothing acknowledged is lost");
}

#[test]
fn a_lane_that_is_handed_out_twice_is_found() {
    on_embedded("lane-twice", "a lane is handled in order");
}

#[test]
fn a_revoked_partition_that_is_gone_on_with_is_found() {
    let Some(address) = kafka::shared(Kind::Kraft) else { return };
    let arguments = ["--episode", "12", "--broker", "kafka", "--kafka", address];
    finds("keep-revoked", "a revoked partition is left alone", 5..=9, &arguments);
}

fn on_embedded(flaw: &str, rule: &str) {
    finds(flaw, rule, SEEDS, &["--episode", "6"]);
}

/// Fails unless an episode is sound.
fn passes(seed: u64, arguments: &[&str]) {
    let (is_sound, said) = check(seed, arguments, "");
    assert!(is_sound, "{said}");
}

/// Fails unless one of the seeds shows that a flaw breaks a rule.
fn finds(flaw: &str, rule: &str, seeds: RangeInclusive<u64>, arguments: &[&str]) {
    let mut all = String::new();
    for seed in seeds {
        let (is_sound, said) = check(seed, arguments, flaw);
        let kept = said.lines().find_map(|line| line.trim().strip_prefix("kept in "));
        kept.map(fs::remove_dir_all); // it was to be expected, so nobody will look into it
        if !is_sound && said.contains(&format!("BROKEN {rule}")) {
            return;
        }
        all += &said;
    }
    panic!("{flaw} was not found:\n{all}");
}

/// Runs one episode: whether it was sound, and what the checker said.
fn check(seed: u64, arguments: &[&str], flaw: &str) -> (bool, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_keyway-checker"))
        .args(["--seconds", "0", "--seed", &seed.to_string()])
        .args(arguments)
        .env("KEYWAY_FLAW", flaw)
        .output()
        .expect("it was built for this test");
    let said = [stdout, stderr].concat();
    (status.success(), String::from_utf8_lossy(&said).into_owned())
}
