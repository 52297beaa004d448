//! Whether a record costs the same however many keys, partitions and members there are: a component that does nothing, on
//! Kafka, and the processor time of the gateway for each record.
//!
//! Kafka's own work is in other processes and does not count; its client's, which grows with partitions, does. Each line
//! varies one number and leaves all else. Records a second show what only waits: they should not fall where the cost stays.

use std::time::Duration;

use crate::{
    error::Result,
    gateway::{Count, Handled, Handling, build_plugin, handle_all},
    kafka::{create_topic, fill, fresh_name},
    statistics::Spread,
};

/// What a line varies.
struct Axis {
    name: &'static str,
    values: [u64; 3],
    setup: fn(u64) -> Setup,
}

/// What is consumed, and by how many.
#[derive(Clone, Copy)]
struct Setup {
    /// Distinct keys; 0: records have none, and are ordered by partition.
    keys: u64,
    partitions: u64,
    members: u64,
}

const AXES: [Axis; 3] = [
    Axis {
        name: "keys (three partitions, in key order; one key leaves two of them quiet)",
        values: [1, 1_000, 1_000_000],
        setup: |keys| Setup { keys, partitions: 3, members: 1 },
    },
    Axis {
        name: "partitions (one member)",
        values: [1, 50, 500],
        setup: |partitions| Setup { keys: 0, partitions, members: 1 },
    },
    Axis {
        name: "members (64 partitions, one process)",
        values: [1, 8, 32],
        setup: |members| Setup { keys: 0, partitions: 64, members },
    },
];

pub(crate) fn on_kafka(kafka: &str, records: u64, rounds: usize) -> Result<()> {
    println!("| varied | microseconds of processor time a record | to the least | records/s |");
    println!("|---|---|---|---|");
    for axis in AXES {
        let setups = axis.values.map(axis.setup);
        let mut topics = Vec::new();
        for setup in setups {
            let same =
                topics.iter().find(|(known, _): &&(Setup, String)| known.is_filled_as(setup));
            let topic = match same {
                Some((_, topic)) => topic.clone(),
                None => filled(kafka, setup, records)?,
            };
            topics.push((setup, topic));
        }
        let mut measured = vec![(Vec::new(), Vec::new()); setups.len()];
        for _ in 0..rounds {
            for ((setup, topic), (costs, rates)) in topics.iter().zip(&mut measured) {
                let handled = handle(kafka, topic, records, *setup)?;
                costs.push(handled.processors / handled.rate() * 1e6);
                rates.push(handled.rate());
            }
        }
        let measured: Vec<_> = measured
            .into_iter()
            .map(|(costs, rates)| (Spread::of(costs), Spread::of(rates)))
            .collect();
        let least = measured.iter().map(|(cost, _)| cost.median).fold(f64::INFINITY, f64::min);
        println!("| **{}** | | | |", axis.name);
        for (value, (cost, rate)) in axis.values.iter().zip(measured) {
            let to_least = cost.median / least;
            println!(
                "| {value} | {cost}{} | {to_least:.2} | {rate}{} |",
                cost.warning(),
                rate.warning()
            );
        }
    }
    Ok(())
}

impl Setup {
    fn is_filled_as(self, other: Self) -> bool {
        (self.keys, self.partitions) == (other.keys, other.partitions)
    }
}

fn filled(kafka: &str, setup: Setup, records: u64) -> Result<String> {
    let topic = fresh_name("flatness");
    create_topic(kafka, &topic, setup.partitions as i32)?;
    eprintln!("writing {records} records");
    fill(kafka, &topic, records, |number| {
        // By key, so that a key stays on one partition.
        let key = if setup.keys > 0 { number % setup.keys } else { number };
        let named = (setup.keys > 0).then(|| format!("key-{key:07}"));
        ((key % setup.partitions) as i32, named, vec![b'x'; 200])
    })?;
    Ok(topic)
}

fn handle(kafka: &str, topic: &str, records: u64, setup: Setup) -> Result<Handled> {
    let ordering = if setup.keys > 0 { "key" } else { "partition" };
    let handled = handle_all(&Handling {
        kafka,
        topic,
        records,
        plugin: build_plugin("bench/noop")?,
        group: &format!("ordering = \"{ordering}\"\nconsumers = {}\n", setup.members),
        native: None,
        count: Count::Group,
        look: Duration::from_millis(20),
    })?;
    let Setup { keys, partitions, members } = setup;
    eprintln!("  {keys} keys, {partitions} partitions, {members} members: {handled}");
    Ok(handled)
}
