//! Consume, handle, commit: Keyway with a component that does nothing (or one that emits what it got in upper case)
//! against a loop that only consumes and commits, and against
//! itself with native code in place of the component.

use std::time::Duration;

use crate::{
    error::Result,
    gateway::{Bare, Count, Handling, build_plugin, handle_all},
    kafka::{create_topic, fill, fresh_name},
    statistics::Spread,
};

const PARTITIONS: i32 = 3;

/// What is consumed, and how.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) records: u64,
    /// Distinct keys; 0: records have none.
    pub(crate) keys: u64,
    /// The group's `ordering`.
    pub(crate) ordering: &'a str,
    /// The group's `delivery`.
    pub(crate) delivery: &'a str,
    /// The group's `max-in-flight`.
    pub(crate) max_in_flight: usize,
    /// Whether each record is emitted again, in upper case.
    pub(crate) transform: bool,
}

pub(crate) fn on_kafka(kafka: &str, work: Work<'_>, rounds: usize) -> Result<()> {
    let topic = fresh_name("consume");
    create_topic(kafka, &topic, PARTITIONS)?;
    eprintln!("writing {} records", work.records);
    fill(kafka, &topic, work.records, |number| {
        let key = (work.keys > 0).then(|| format!("key-{}", number % work.keys));
        // By key, so that a key stays on one partition.
        let partition = if work.keys > 0 { number % work.keys } else { number };
        ((partition % PARTITIONS as u64) as i32, key, vec![b'x'; 200])
    })?;
    let (mut bare, mut native, mut keyway) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(by_bare_loop(kafka, &topic, work.records)?);
        native.push(by_keyway(kafka, &topic, work, true)?);
        keyway.push(by_keyway(kafka, &topic, work, false)?);
    }
    let ratio = |to: &[f64]| Spread::of(to.iter().zip(&keyway).map(|(to, keyway)| keyway / to));
    println!("ratio to the bare loop: {}", ratio(&bare));
    println!("ratio to native code in place of the component: {}", ratio(&native));
    for (what, rates) in [("bare loop", bare), ("native code", native), ("Keyway", keyway)] {
        let rates = Spread::of(rates);
        println!("{what}, records/s: {rates}{}", rates.warning());
    }
    Ok(())
}

fn by_bare_loop(kafka: &str, topic: &str, records: u64) -> Result<f64> {
    let (group, records) = (fresh_name("group"), records.to_string());
    let arguments = [
        "--kafka",
        kafka,
        "bare-consumer",
        "--topic",
        topic,
        "--group",
        &group,
        "--records",
        &records,
    ];
    Ok(Bare::start(&arguments)?.line()?.parse()?)
}

/// Records a second, from the first look that finds some handled to the one that finds all handled.
fn by_keyway(kafka: &str, topic: &str, work: Work<'_>, native: bool) -> Result<f64> {
    let code = if work.transform { "uppercase" } else { "noop" };
    let (plugin, output) = if work.transform {
        let output = fresh_name("output");
        create_topic(kafka, &output, PARTITIONS)?;
        (build_plugin("plugins/uppercase")?, format!("output-topic = \"{output}\"\n"))
    } else {
        (build_plugin("bench/noop")?, String::new())
    };
    let handled = handle_all(&Handling {
        kafka,
        topic,
        records: work.records,
        plugin,
        group: &format!(
            "ordering = \"{}\"\ndelivery = \"{}\"\nmax-in-flight = {}\n{output}",
            work.ordering, work.delivery, work.max_in_flight
        ),
        native: native.then_some(code),
        count: Count::Group,
        look: Duration::from_millis(1),
    })?;
    eprintln!("  {}: {handled}", if native { "native code" } else { "Keyway" });
    Ok(handled.rate())
}
