//! What plugins cost the gateway around them: their calls, the memory of their instances, a key selector in front of producing,
//! and two hundred plugins beside the one that is used.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    calls,
    error::Result,
    gateway::{Gateway, build_plugin},
    instances, load,
    statistics::Spread,
};

const CONNECTIONS: usize = 16;
/// Handlers, each of a group of its own.
const HANDLERS: usize = 50;
/// Key selectors, each of a topic of its own.
const SELECTORS: usize = 150;

pub(crate) fn measure(rounds: usize, time: Duration) -> Result<()> {
    calls::measure(rounds, time)?;
    instances::measure(rounds)?;
    selector(rounds, time)?;
    many(rounds, time)
}

/// The same topic with a key selector and without.
fn selector(rounds: usize, time: Duration) -> Result<()> {
    let plugin = build_plugin("plugins/fixed-key")?;
    let topic = "default-topic = \"bench\"\n[[topics]]\nname = \"bench\"\npartitions = 1\n";
    let selector = "key-selector = { plugin = \"fixed-key\", config = { key = \"k\" } }\n";
    let start = |more: &str| -> Result<Gateway> {
        let configuration = format!("{topic}{more}");
        let plugins = std::slice::from_ref(&plugin);
        let mut gateway = Gateway::start(&configuration, &["run", "--only", "http"], plugins)?;
        gateway.ready()?;
        Ok(gateway)
    };
    let (without, with) = (start("")?, start(selector)?);
    let (mut plain, mut selected) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for turn in 0..2 {
            // The order turns.
            let (gateway, rates) = if (turn + round) % 2 == 0 {
                (&without, &mut plain)
            } else {
                (&with, &mut selected)
            };
            rates.push(load::post(gateway.data, CONNECTIONS, time)?.requests_per_second);
        }
    }
    let ratio = Spread::of(plain.iter().zip(&selected).map(|(plain, selected)| selected / plain));
    let plain = Spread::of(plain);
    println!("without a selector, req/s: {plain}{}", plain.warning());
    println!("with one: {}; ratio {ratio}", Spread::of(selected));
    Ok(())
}

/// A gateway with one plugin of each kind and one with two hundred, and the same load on the first topic of both.
fn many(rounds: usize, time: Duration) -> Result<()> {
    let handler = build_plugin("bench/noop")?;
    let selector = build_plugin("plugins/fixed-key")?;
    let directory = tempfile::tempdir()?;
    let few = start(&directory, (&handler, 1), (&selector, 1))?;
    let mut all = start(&directory, (&handler, HANDLERS), (&selector, SELECTORS))?;
    let (mut warm, mut alone, mut among) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        all.end()?;
        let begin = Instant::now();
        all = all.again(&["run"])?;
        all.ready()?;
        warm.push(begin.elapsed().as_secs_f64() * 1000.0);
        for turn in 0..2 {
            let (gateway, costs) =
                if (turn + round) % 2 == 0 { (&few, &mut alone) } else { (&all, &mut among) };
            costs.push(cost(gateway, time)?);
        }
    }
    let ratio = Spread::of(alone.iter().zip(&among).map(|(alone, among)| among / alone));
    println!(
        "start to /ready with {HANDLERS} handlers and {SELECTORS} selectors, warm cache, ms: {}",
        Spread::of(warm)
    );
    println!("CPU us a record, one plugin of each kind: {}", Spread::of(alone));
    println!("the same beside all of those: {}; ratio {ratio}", Spread::of(among));
    Ok(())
}

/// Microseconds of processor time for each record, with what the gateway uses when it idles.
fn cost(gateway: &Gateway, time: Duration) -> Result<f64> {
    let before = gateway.processor_seconds()?;
    let measured = load::post(gateway.data, CONNECTIONS, time)?;
    Ok((gateway.processor_seconds()? - before) * 1e6 / measured.answered as f64)
}

/// Starts a gateway with so many handlers, each of which is a plugin of its own under its own digest and has a group,
/// and so many selectors, each of which has a topic.
fn start(
    directory: &TempDir,
    (handler, handlers): (&Path, usize),
    (selector, selectors): (&Path, usize),
) -> Result<Gateway> {
    let mut plugins = Vec::new();
    let mut configuration = String::from("default-topic = \"bench-0\"\n");
    for number in 0..selectors {
        let name = format!("selector-{number}");
        plugins.push(copy(directory, selector, &name, number)?);
        writeln!(
            configuration,
            "[[topics]]\nname = \"bench-{number}\"\npartitions = 1\n\
             key-selector = {{ plugin = \"{name}\", config = {{ key = \"k\" }} }}"
        )?;
    }
    for number in 0..handlers {
        let name = format!("handler-{number}");
        plugins.push(copy(directory, handler, &name, number)?);
        writeln!(
            configuration,
            "[[groups]]\nid = \"bench-{number}\"\ntopics = [\"bench-{number}\"]\n\
             handler = {{ plugin = \"{name}\" }}"
        )?;
    }
    let mut gateway = Gateway::start(&configuration, &["run"], &plugins)?;
    gateway.ready()?;
    Ok(gateway)
}

/// A copy with a custom section: the same under another digest.
fn copy(directory: &TempDir, component: &Path, name: &str, number: usize) -> Result<PathBuf> {
    let mut bytes = fs::read(component)?;
    bytes.extend([0, 3, 1, b'v', number as u8]);
    let file = directory.path().join(format!("{name}.wasm"));
    fs::write(&file, bytes)?;
    Ok(file)
}
