//! POST of 200 bytes, answered after the broker has the record.

use std::{
    fs::File,
    io::Write,
    time::{Duration, Instant},
};

use crate::{
    error::Result,
    gateway::{Bare, Gateway},
    kafka::{create_topic, fresh_name},
    load::{self, Measured},
    statistics::{Spread, percentile},
};

const ONLY_HTTP: [&str; 3] = ["run", "--only", "http"];

/// On Kafka with acks=all: Keyway against the better of two bare handlers, one that waits a millisecond for a batch to
/// form and one that does not. Which is better depends on the number of connections; Keyway has no such setting.
pub(crate) fn on_kafka(
    kafka: &str,
    connections: &[usize],
    rounds: usize,
    time: Duration,
) -> Result<()> {
    let topic = fresh_name("produce");
    create_topic(kafka, &topic)?;
    let bare = |linger: &str| {
        Bare::start(&["--kafka", kafka, "bare-http", "--topic", &topic, "--linger", linger])
    };
    let (mut eager, mut patient) = (bare("0")?, bare("1")?);
    let (eager, patient) = (eager.line()?.parse()?, patient.line()?.parse()?);
    let mut gateway = Gateway::start(
        &format!(
            "default-topic = \"{topic}\"\n[broker]\nkind = \"kafka\"\nbootstrap-servers = \"{kafka}\"\n\
             [[topics]]\nname = \"{topic}\"\npartitions = 3\n"
        ),
        &ONLY_HTTP,
        &[],
    )?;
    gateway.ready()?;

    println!(
        "| connections | bare, req/s | Keyway, req/s | ratio | bare p99, ms | Keyway p99, ms | ratio |"
    );
    println!("|---|---|---|---|---|---|---|");
    for &width in connections {
        let mut rows = Vec::new();
        for round in 0..rounds {
            // The order turns, so that none of them always runs after the same other.
            let mut measured = [None; 3];
            for turn in 0..3 {
                let which = (turn + round) % 3;
                let address = [eager, patient, gateway.data][which];
                measured[which] = Some(load::post(address, width, time)?);
            }
            let [eager, patient, keyway] =
                measured.map(|measured| measured.expect("each had its turn"));
            let bare = if eager.requests_per_second >= patient.requests_per_second {
                eager
            } else {
                patient
            };
            rows.push((bare, keyway));
        }
        report(width, &rows);
    }
    Ok(())
}

fn report(width: usize, rows: &[(Measured, Measured)]) {
    let spread = |of: &dyn Fn(&(Measured, Measured)) -> f64| Spread::of(rows.iter().map(of));
    let bare = spread(&|(bare, _)| bare.requests_per_second);
    let keyway = spread(&|(_, keyway)| keyway.requests_per_second);
    let ratio = spread(&|(bare, keyway)| keyway.requests_per_second / bare.requests_per_second);
    let bare_p99 = spread(&|(bare, _)| bare.p99_milliseconds);
    let keyway_p99 = spread(&|(_, keyway)| keyway.p99_milliseconds);
    let p99 = spread(&|(bare, keyway)| keyway.p99_milliseconds / bare.p99_milliseconds);
    println!(
        "| {width} | {bare} | {keyway} | {ratio}{} | {bare_p99} | {keyway_p99} | {p99} |",
        bare.warning()
    );
}

/// On the embedded broker, which answers after an fsync, against what one costs on the same disk.
pub(crate) fn on_embedded(connections: usize, rounds: usize, time: Duration) -> Result<()> {
    let mut gateway = Gateway::start(
        "default-topic = \"bench\"\n[[topics]]\nname = \"bench\"\npartitions = 3\n",
        &ONLY_HTTP,
        &[],
    )?;
    gateway.ready()?;
    let mut syncs = Vec::new();
    let mut keyway = Vec::new();
    for _ in 0..rounds {
        syncs.push(sync_milliseconds()?);
        keyway.push(load::post(gateway.data, connections, time)?);
    }
    let sync = Spread::of(syncs);
    let p99 = Spread::of(keyway.iter().map(|measured| measured.p99_milliseconds));
    println!("fdatasync of a page, p99: {sync} ms{}", sync.warning());
    println!(
        "{connections} connections, req/s: {}",
        Spread::of(keyway.iter().map(|it| it.requests_per_second))
    );
    println!("p50: {} ms", Spread::of(keyway.iter().map(|measured| measured.p50_milliseconds)));
    println!("p99: {p99} ms; 1 ms and three syncs are {:.2} ms", 1.0 + 3.0 * sync.median);
    Ok(())
}

/// The 99th percentile of appending a page to a file and waiting until it is on the disk.
fn sync_milliseconds() -> Result<f64> {
    let directory = tempfile::tempdir()?;
    let mut file = File::create(directory.path().join("sync"))?;
    let mut milliseconds = Vec::new();
    for _ in 0..500 {
        let begin = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        milliseconds.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    milliseconds.sort_by(f64::total_cmp);
    Ok(percentile(&milliseconds, 0.99))
}
