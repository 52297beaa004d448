//! What it costs to exchange a plugin while records flow, on the embedded broker: how soon a file serves, how long calls
//! wait for an exchange, and what stays of the generations that went.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    error::Result,
    gateway::{Gateway, build_plugin},
    load::{self, Measured},
    statistics::Spread,
};

/// How long a file has to be quiet before the gateway reads it.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How long an exchange may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked for the first record: each look costs the gateway something.
const LOOK: Duration = Duration::from_micros(200);
/// Files put in place in each round.
const FILES: usize = 10;
/// Between two exchanges under load.
const PERIOD: Duration = Duration::from_millis(20);
/// Connections of the load.
const CONNECTIONS: usize = 16;

const CONFIGURATION: &str = "default-topic = \"bench\"\n\
    [[topics]]\nname = \"bench\"\npartitions = 1\n\
    key-selector = { plugin = \"fixed-key\", config = { key = \"k\" } }\n\
    [[groups]]\nid = \"bench\"\ntopics = [\"bench\"]\nhandler = { plugin = \"uppercase\" }\n\
    output-topic = \"bench-out\"\n";

pub(crate) fn measure(rounds: usize, time: Duration, swaps: usize) -> Result<()> {
    let handler = build_plugin("plugins/uppercase")?;
    let selector = build_plugin("plugins/fixed-key")?;
    let mut gateway =
        Gateway::start(CONFIGURATION, &["run"], &[handler.clone(), selector.clone()])?;
    gateway.ready()?;
    let handlers = two_generations(&gateway, "uppercase", &handler)?;
    let selectors = two_generations(&gateway, "fixed-key", &selector)?;

    let (mut to_first, mut still, mut swapped) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        to_first.extend(files(&gateway, &handler)?);
        for turn in 0..2 {
            // The order turns.
            if (turn + round) % 2 == 0 {
                still.push(load::post(gateway.data, CONNECTIONS, time)?);
            } else {
                swapped.push(under_swaps(&gateway, &selectors, time)?);
            }
        }
    }
    let before = gateway.resident_mebibytes()?;
    for swap in 0..swaps {
        choose(&gateway, "uppercase", &handlers[swap % 2])?;
        choose(&gateway, "fixed-key", &selectors[swap % 2])?;
    }
    let after = gateway.resident_mebibytes()?;

    let p99 = |of: &[Measured]| Spread::of(of.iter().map(|measured| measured.p99_milliseconds));
    let beyond = to_first.iter().map(|took| took - DEBOUNCE.as_secs_f64() * 1000.0);
    println!("file in place to first record, beyond the debounce: {} ms", Spread::of(beyond));
    println!("p99 of {CONNECTIONS} connections: {} ms", p99(&still));
    println!("the same with an exchange every {} ms: {} ms", PERIOD.as_millis(), p99(&swapped));
    println!("resident, before and after {} exchanges: {before:.1} and {after:.1} MiB", 2 * swaps);
    Ok(())
}

/// The component with a custom section: the same under another digest.
fn variant(component: &Path, number: usize) -> Result<Vec<u8>> {
    let mut bytes = fs::read(component)?;
    bytes.extend([0, 3, 1, b'v', number as u8]);
    Ok(bytes)
}

/// The generation that serves and one that has served after it, and the code of both is cached.
fn two_generations(gateway: &Gateway, plugin: &str, component: &Path) -> Result<[String; 2]> {
    let first = serving(gateway, plugin)?;
    gateway.put(plugin, &variant(component, 1)?)?;
    let end = Instant::now() + PATIENCE;
    loop {
        let now = serving(gateway, plugin)?;
        if now != first {
            return Ok([first, now]);
        }
        if Instant::now() > end {
            return Err(format!("another generation of {plugin} does not serve").into());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn serving(gateway: &Gateway, plugin: &str) -> Result<String> {
    let shown = gateway.get_json(&format!("/api/v1/plugins/{plugin}"))?;
    Ok(shown["generation"].as_str().ok_or("no generation serves")?.to_owned())
}

/// Has a generation serve, unless it does.
fn choose(gateway: &Gateway, plugin: &str, generation: &str) -> Result<()> {
    if serving(gateway, plugin)? == generation {
        return Ok(());
    }
    let path = format!("/api/v1/plugins/{plugin}/rollback");
    gateway.post(&path, &json!({ "generation": generation }))
}

/// Milliseconds from each of several files, put in place in turn while records come, to the first record that is handled
/// under it.
fn files(gateway: &Gateway, component: &Path) -> Result<Vec<f64>> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<()> {
            while !stop.load(Relaxed) {
                gateway.send(r#"{"value":"a"}"#)?;
            }
            Ok(())
        });
        let mut took = Vec::new();
        let measured = (0..FILES).try_for_each(|number| {
            took.push(file(gateway, &variant(component, 2 - number % 2)?)?); // 1 serves
            Ok(())
        });
        stop.store(true, Relaxed);
        sender.join().expect("it does not panic")?;
        measured.map(|()| took)
    })
}

fn file(gateway: &Gateway, bytes: &[u8]) -> Result<f64> {
    let before = serving(gateway, "uppercase")?;
    let begin = Instant::now();
    gateway.put("uppercase", bytes)?;
    while !has_handled_under_another(gateway, &before)? {
        if begin.elapsed() > PATIENCE {
            return Err("no record is handled under the new file".into());
        }
        thread::sleep(LOOK);
    }
    Ok(begin.elapsed().as_secs_f64() * 1000.0)
}

/// Whether another generation of the handler serves, and has a first offset: that is there as soon as its first record is
/// handled, while a group's status follows some time later.
fn has_handled_under_another(gateway: &Gateway, before: &str) -> Result<bool> {
    let shown = gateway.get_json("/api/v1/plugins/uppercase")?;
    let newest = shown["generations"].as_array().and_then(|generations| generations.last());
    let newest = newest.ok_or("it has no history")?;
    let has_begun = newest["first_offsets"].as_array().is_some_and(|first| !first.is_empty());
    Ok(shown["generation"] != before && newest["generation"] == shown["generation"] && has_begun)
}

/// The load, while the selector that is in front of it is exchanged again and again.
fn under_swaps(gateway: &Gateway, generations: &[String; 2], time: Duration) -> Result<Measured> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let swaps = scope.spawn(|| -> Result<()> {
            for generation in generations.iter().cycle() {
                if stop.load(Relaxed) {
                    break;
                }
                choose(gateway, "fixed-key", generation)?;
                thread::sleep(PERIOD);
            }
            Ok(())
        });
        let measured = load::post(gateway.data, CONNECTIONS, time);
        stop.store(true, Relaxed);
        swaps.join().expect("it does not panic")?;
        measured
    })
}
