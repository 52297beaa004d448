//! Consume, handle with a component that does nothing, commit: against a loop that only consumes and commits.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::Result,
    gateway::{Bare, Gateway, build_plugin},
    kafka::{create_topic, fill, fresh_name},
    statistics::Spread,
};

/// How long no record may be handled before it is given up.
const STALL: Duration = Duration::from_secs(60);

pub(crate) fn on_kafka(kafka: &str, records: u64, rounds: usize) -> Result<()> {
    let topic = fresh_name("consume");
    create_topic(kafka, &topic)?;
    eprintln!("writing {records} records");
    fill(kafka, &topic, records)?;
    let mut bare = Vec::new();
    let mut keyway = Vec::new();
    for _ in 0..rounds {
        bare.push(by_bare_loop(kafka, &topic, records)?);
        keyway.push(by_keyway(kafka, &topic, records)?);
    }
    let ratio = Spread::of(bare.iter().zip(&keyway).map(|(bare, keyway)| keyway / bare));
    let (bare, keyway) = (Spread::of(bare), Spread::of(keyway));
    println!("bare loop, records/s: {bare}{}", bare.warning());
    println!("Keyway, records/s: {keyway}{}", keyway.warning());
    println!("ratio: {ratio}");
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
fn by_keyway(kafka: &str, topic: &str, records: u64) -> Result<f64> {
    let group = fresh_name("group");
    let configuration = format!(
        "[broker]\nkind = \"kafka\"\nbootstrap-servers = \"{kafka}\"\n\
         [[groups]]\nid = \"{group}\"\ntopics = [\"{topic}\"]\nhandler = {{ plugin = \"noop\" }}\n\
         max-in-flight = 16384\n"
    );
    let mut gateway = Gateway::start(
        &configuration,
        &["run", "--only", "groups"],
        &[build_plugin("bench/noop")?],
    )?;
    gateway.ready()?;
    let mut first: Option<(Instant, u64)> = None;
    let mut last = (Instant::now(), 0);
    while last.1 < records {
        thread::sleep(Duration::from_millis(5));
        let seen = gateway
            .get_json(&format!("/api/v1/groups/{group}"))
            .ok()
            .and_then(|shown| shown["this_process"]["handled"].as_u64());
        if let Some(handled) = seen.filter(|handled| *handled > last.1) {
            last = (Instant::now(), handled);
            first.get_or_insert(last);
        } else if last.0.elapsed() > STALL {
            return Err(
                format!("{} of {records} records are handled, and no more come", last.1).into()
            );
        }
    }
    let (begin, already) = first.ok_or("there is nothing to consume")?;
    Ok((records - already) as f64 / (last.0 - begin).as_secs_f64())
}
