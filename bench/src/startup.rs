//! From the start of the process to a 200 from `/ready`, and what it then idles in.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::Result,
    gateway::{Gateway, build_plugin},
    kafka::fresh_name,
    statistics::Spread,
};

pub(crate) fn measure(kafka: &str, rounds: usize) -> Result<()> {
    let plugins = [
        build_plugin("plugins/print")?,
        build_plugin("plugins/uppercase")?,
        build_plugin("plugins/json-key")?,
    ];
    let mut on_kafka = Vec::new();
    let mut handled = Vec::new();
    let mut cold = Vec::new();
    let mut warm = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..rounds {
        let broker = format!("[broker]\nkind = \"kafka\"\nbootstrap-servers = \"{kafka}\"\n");
        let (first, mut gateway) =
            timed(|| Gateway::start(&(three_plugins() + &broker), &["run"], &plugins))?;
        gateway.end()?;
        let begin = Instant::now();
        let (again, gateway) = timed(|| gateway.again(&["run"]))?;
        gateway.handles("first-record")?;
        handled.push(begin.elapsed().as_secs_f64() * 1000.0);
        eprintln!("on Kafka, {first:.0} ms with a cold cache, {again:.0} ms with a warm one");
        on_kafka.push(again);
        let (first, mut gateway) = timed(|| Gateway::start(&three_plugins(), &["run"], &plugins))?;
        cold.push(first);
        gateway.end()?;
        let (again, gateway) = timed(|| gateway.again(&["run"]))?;
        warm.push(again);
        thread::sleep(Duration::from_secs(3));
        idle.push(gateway.resident_mebibytes()?);
    }
    println!("start to /ready, ms");
    println!("- on Kafka, warm plugin cache: {}", Spread::of(on_kafka));
    println!("- the same to the first record handled: {}", Spread::of(handled));
    println!("- embedded, cold plugin cache: {}", Spread::of(cold));
    println!("- embedded, warm plugin cache: {}", Spread::of(warm));
    println!("idle memory with three plugins, MiB: {}", Spread::of(idle));
    Ok(())
}

/// Milliseconds until it is ready.
fn timed(start: impl FnOnce() -> Result<Gateway>) -> Result<(f64, Gateway)> {
    let begin = Instant::now();
    let mut gateway = start()?;
    gateway.ready()?;
    Ok((begin.elapsed().as_secs_f64() * 1000.0, gateway))
}

fn three_plugins() -> String {
    let (topic, group) = (fresh_name("startup"), fresh_name("group"));
    format!(
        "default-topic = \"{topic}\"\n[[topics]]\nname = \"{topic}\"\npartitions = 3\n\
         key-selector = {{ plugin = \"json-key\", config = {{ pointer = \"/user\" }} }}\n\
         [[groups]]\nid = \"{group}-1\"\ntopics = [\"{topic}\"]\nhandler = {{ plugin = \"print\" }}\n\
         [[groups]]\nid = \"{group}-2\"\ntopics = [\"{topic}\"]\nhandler = {{ plugin = \"uppercase\" }}\n\
         output-topic = \"{topic}-out\"\n"
    )
}
