//! Handlers that wait: records of 1,000 keys on one partition, each of which takes 0 to 5 ms of waiting, with so many in
//! flight, beside Confluent's Parallel Consumer with the same. The ideal is all of the waiting, divided by how many may
//! wait at once.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    error::Result,
    gateway::{Count, Handling, build_plugin, handle_all},
    kafka::{create_topic, fill, fresh_name, repository, script},
    statistics::Spread,
};

const KEYS: u64 = 1000;
/// A record waits for less than this many milliseconds.
const LONGEST: u64 = 6;

pub(crate) fn on_kafka(kafka: &str, records: u64, widths: &[usize], rounds: usize) -> Result<()> {
    let topic = fresh_name("waiting");
    create_topic(kafka, &topic, 1)?;
    // The multiplier is 2^32 over the golden ratio: the waits are spread evenly, and are the same in every run.
    let waits = |number: u64| (number.wrapping_mul(2_654_435_761) >> 7) % LONGEST;
    fill(kafka, &topic, records, |number| {
        let value = format!(r#"{{"do": "sleep", "ms": {}}}"#, waits(number));
        (0, Some(format!("key-{}", number % KEYS)), value.into_bytes())
    })?;
    let all: u64 = (0..records).map(waits).sum();
    let peer = parallel_consumer_classes()?;
    println!("| in flight | ideal, s | Parallel Consumer, s | MiB | Keyway, s | MiB | to ideal |");
    println!("|---|---|---|---|---|---|---|");
    for in_flight in widths {
        let ideal = all as f64 / 1000.0 / *in_flight as f64;
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        let (mut their_memory, mut our_memory) = (0.0_f64, 0.0_f64);
        for _ in 0..rounds {
            let (seconds, memory) = parallel_consumer(&peer, kafka, &topic, records, *in_flight)?;
            theirs.push(seconds);
            their_memory = their_memory.max(memory);
            let handled = handle_all(&Handling {
                kafka,
                topic: &topic,
                records,
                plugin: build_plugin("plugins/flaky")?,
                group: &format!("ordering = \"key\"\nmax-in-flight = {in_flight}\n"),
                native: None,
                count: Count::Calls,
                look: Duration::from_millis(3),
            })?;
            ours.push(handled.seconds_per(records));
            our_memory = our_memory.max(handled.mebibytes);
        }
        let (theirs, ours) = (Spread::of(theirs), Spread::of(ours));
        println!(
            "| {in_flight} | {ideal:.2} | {theirs}{} | {their_memory:.0} | {ours}{} | {our_memory:.0} | {:.2} |",
            theirs.warning(),
            ours.warning(),
            ours.median / ideal,
        );
    }
    Ok(())
}

/// The class path of Parallel Consumer, which comes by Maven when it is not there yet.
fn parallel_consumer_classes() -> Result<String> {
    let output = script().arg("parallel-consumer").output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Seconds from the first record to the last, and MiB of resident memory at the most.
fn parallel_consumer(
    classes: &str,
    kafka: &str,
    topic: &str,
    records: u64,
    in_flight: usize,
) -> Result<(f64, f64)> {
    let output = Command::new("java")
        .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", classes])
        .arg(repository().join("bench/peers/ParallelConsumer.java"))
        .args([kafka, topic, &fresh_name("group"), &records.to_string(), &in_flight.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    let line = String::from_utf8(output.stdout)?;
    let figures: Vec<f64> =
        line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    match figures[..] {
        [seconds, _processors, _heap, resident] => Ok((seconds, resident)),
        _ => Err(format!("Parallel Consumer told no figures but {line:?}").into()),
    }
}
