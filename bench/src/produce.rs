//! POST of 200 bytes, answered after the broker has the record.

use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
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
    create_topic(kafka, &topic, 3)?;
    let bare = |linger: &str| {
        Bare::start(&["--kafka", kafka, "bare-http", "--topic", &topic, "--linger", linger])
    };
    let (mut eager, mut patient) = (bare("0")?, bare("1")?);
    let addresses = (eager.line()?.parse()?, patient.line()?.parse()?);
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
        "| connections | bare, req/s | Keyway, req/s | ratio | bare p99, ms | Keyway p99, ms | ratio \
         | bare, CPU us/req | Keyway, CPU us/req |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for &width in connections {
        let mut rows = Vec::new();
        for round in 0..rounds {
            // The order turns, so that none of them always runs after the same other.
            let mut measured = [None; 3];
            for turn in 0..3 {
                let which = (turn + round) % 3;
                measured[which] = Some(match which {
                    0 => costing(addresses.0, width, time, || eager.processor_seconds())?,
                    1 => costing(addresses.1, width, time, || patient.processor_seconds())?,
                    _ => costing(gateway.data, width, time, || gateway.processor_seconds())?,
                });
            }
            let [eager, patient, keyway] =
                measured.map(|measured| measured.expect("each had its turn"));
            let patient_is_better = patient.0.requests_per_second > eager.0.requests_per_second;
            rows.push((if patient_is_better { patient } else { eager }, keyway));
        }
        report(width, &rows);
    }
    Ok(())
}

/// What a server did, and the processor time that each request cost it in microseconds: of all figures the one that
/// says most on a machine that has other work.
type Costing = (Measured, f64);

fn costing(
    address: SocketAddr,
    width: usize,
    time: Duration,
    processor_seconds: impl Fn() -> Result<f64>,
) -> Result<Costing> {
    let before = processor_seconds()?;
    let measured = load::post(address, width, time)?;
    let spent = processor_seconds()? - before;
    Ok((measured, spent * 1e6 / measured.answered as f64))
}

fn report(width: usize, rows: &[(Costing, Costing)]) {
    let spread = |of: &dyn Fn(&(Costing, Costing)) -> f64| Spread::of(rows.iter().map(of));
    let bare = spread(&|(bare, _)| bare.0.requests_per_second);
    let keyway = spread(&|(_, keyway)| keyway.0.requests_per_second);
    let ratio = spread(&|(bare, keyway)| keyway.0.requests_per_second / bare.0.requests_per_second);
    let bare_p99 = spread(&|(bare, _)| bare.0.p99_milliseconds);
    let keyway_p99 = spread(&|(_, keyway)| keyway.0.p99_milliseconds);
    let p99 = spread(&|(bare, keyway)| keyway.0.p99_milliseconds / bare.0.p99_milliseconds);
    let (bare_cost, keyway_cost) = (spread(&|(bare, _)| bare.1), spread(&|(_, keyway)| keyway.1));
    println!(
        "| {width} | {bare} | {keyway} | {ratio}{} | {bare_p99} | {keyway_p99} | {p99} | {bare_cost} | {keyway_cost} |",
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
