//! Consume, transform, produce, commit, by key order: Keyway beside Redpanda Connect 4, whose processor is once its
//! WebAssembly (a data transform that does what Keyway's plugin does) and once its own mapping, each as it comes and each
//! with the settings that suit it best without giving up the order of a key.
//!
//! Both are watched alike: by what is in the output topic.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use tempfile::TempDir;

use crate::{
    error::Result,
    gateway::{Gateway, build_core_module, build_plugin, most_resident_mebibytes},
    kafka::{create_topic, fill, fresh_name, repository},
    statistics::Spread,
};

const PARTITIONS: i32 = 3;
const KEYS: u64 = 1000;
/// How long nothing may come out before it is given up.
const STALL: Duration = Duration::from_secs(60);
/// Batches that Connect handles as one, and one write of them after the other: the order of a key holds, and no pause is
/// paid for each record.
const ORDERED: Batching = Batching {
    input: "batching: { count: 2000, period: 10ms }",
    pipeline: "threads: 1",
    output: "max_in_flight: 1",
};
const DEFAULT: Batching = Batching { input: "", pipeline: "", output: "" };

/// What is set besides what is needed.
#[derive(Clone, Copy)]
struct Batching {
    input: &'static str,
    pipeline: &'static str,
    output: &'static str,
}

/// One side of the comparison.
enum Side {
    Keyway { group: &'static str },
    Connect { processor: String, batching: Batching },
}

pub(crate) fn on_kafka(kafka: &str, records: u64, rounds: usize) -> Result<()> {
    let connect = build_connect()?;
    let transform = build_core_module("bench/peers/redpanda-connect/uppercase")?;
    let wasm = format!(
        "redpanda_data_transform: {{ module_path: {:?}, input_key: '${{! @kafka_key }}' }}",
        transform.display()
    );
    let mapping = "mapping: 'root = content().uppercase()'";
    let peer = |processor: &str, batching| Side::Connect { processor: processor.into(), batching };
    let sides = [
        ("Keyway, as it comes", Side::Keyway { group: "" }),
        ("Keyway, `max-in-flight = 16384`", Side::Keyway { group: "max-in-flight = 16384\n" }),
        ("Connect's wasm, as it comes", peer(&wasm, DEFAULT)),
        ("Connect's wasm, in order and batches", peer(&wasm, ORDERED)),
        ("Connect's mapping, as it comes", peer(mapping, DEFAULT)),
        ("Connect's mapping, in order and batches", peer(mapping, ORDERED)),
    ];
    let topic = fresh_name("connect");
    create_topic(kafka, &topic, PARTITIONS)?;
    eprintln!("writing {records} records");
    fill(kafka, &topic, records, |number| {
        let key = number % KEYS;
        ((key % PARTITIONS as u64) as i32, Some(format!("key-{key}")), vec![b'x'; 200])
    })?;
    let mut rates: Vec<Vec<f64>> = sides.iter().map(|_| Vec::new()).collect();
    let mut memory = vec![0.0_f64; sides.len()];
    for _ in 0..rounds {
        for (number, (name, side)) in sides.iter().enumerate() {
            let (rate, mebibytes) = run(kafka, &topic, records, side, &connect)?;
            eprintln!("  {name}: {rate:.0} records/s, {mebibytes:.0} MiB");
            rates[number].push(rate);
            memory[number] = memory[number].max(mebibytes);
        }
    }
    println!("| | records/s | MiB at the most | Keyway as it comes to this |");
    println!("|---|---|---|---|");
    for (number, (name, _)) in sides.iter().enumerate() {
        let ratio = Spread::of(rates[0].iter().zip(&rates[number]).map(|(ours, this)| ours / this));
        let spread = Spread::of(rates[number].iter().copied());
        println!("| {name} | {spread}{} | {:.0} | {ratio} |", spread.warning(), memory[number]);
    }
    Ok(())
}

/// Records a second from the first look at the output that finds some to the one that finds all, and MiB.
fn run(kafka: &str, topic: &str, records: u64, side: &Side, connect: &Path) -> Result<(f64, f64)> {
    let output = fresh_name("output");
    create_topic(kafka, &output, PARTITIONS)?;
    match side {
        Side::Keyway { group } => {
            let configuration = format!(
                "[broker]\nkind = \"kafka\"\nbootstrap-servers = \"{kafka}\"\n\
                 [[groups]]\nid = \"{}\"\ntopics = [\"{topic}\"]\nhandler = {{ plugin = \"uppercase\" }}\n\
                 ordering = \"key\"\noutput-topic = \"{output}\"\n{group}",
                fresh_name("group"),
            );
            let plugin = build_plugin("plugins/uppercase")?;
            let gateway = Gateway::start(&configuration, &["run", "--only", "groups"], &[plugin])?;
            let rate = watch(kafka, &output, records)?;
            Ok((rate, most_resident_mebibytes(gateway.id())?))
        }
        Side::Connect { processor, batching } => {
            let configuration = format!(
                "http: {{ enabled: false }}\nlogger: {{ level: ERROR }}\n\
                 input:\n  kafka_franz:\n    seed_brokers: ['{kafka}']\n    topics: ['{topic}']\n    \
                 consumer_group: '{}'\n    {}\n\
                 pipeline:\n  {}\n  processors:\n    - {processor}\n\
                 output:\n  kafka_franz:\n    seed_brokers: ['{kafka}']\n    topic: '{output}'\n    \
                 key: '${{! @kafka_key }}'\n    {}\n",
                fresh_name("group"),
                batching.input,
                batching.pipeline,
                batching.output,
            );
            let peer = Peer::start(connect, &configuration)?;
            let rate = watch(kafka, &output, records)?;
            Ok((rate, most_resident_mebibytes(peer.process.id())?))
        }
    }
}

fn watch(kafka: &str, output: &str, records: u64) -> Result<f64> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", kafka).create()?;
    let written = || -> Result<u64> {
        let mut all = 0;
        for partition in 0..PARTITIONS {
            let (_, end) = consumer.fetch_watermarks(output, partition, Duration::from_secs(10))?;
            all += end as u64;
        }
        Ok(all)
    };
    let mut first: Option<(Instant, u64)> = None;
    let mut last = (Instant::now(), 0);
    while last.1 < records {
        thread::sleep(Duration::from_millis(5));
        let seen = written()?;
        if seen > last.1 {
            last = (Instant::now(), seen);
            first.get_or_insert(last);
        } else if last.0.elapsed() > STALL {
            return Err(
                format!("{} of {records} records came out, and no more come", last.1).into()
            );
        }
    }
    let (begin, already) = first.ok_or("there is nothing to transform")?;
    if already >= records {
        return Err("all of it came out between two looks: give it more records".into());
    }
    Ok((last.1 - already) as f64 / (last.0 - begin).as_secs_f64())
}

/// A running Redpanda Connect, killed when dropped.
struct Peer {
    process: Child,
    _directory: TempDir,
}

impl Peer {
    fn start(program: &Path, configuration: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("connect.yaml");
        fs::write(&file, configuration)?;
        let mut command = Command::new(program);
        command.arg("run").arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self { process: command.spawn()?, _directory: directory })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.process.kill().ok(); // it may have ended
        self.process.wait().ok();
    }
}

/// Redpanda Connect, which Go fetches and builds when it is not there yet: that takes minutes.
fn build_connect() -> Result<PathBuf> {
    let program = env::current_exe()?.with_file_name("redpanda-connect");
    eprintln!("building Redpanda Connect");
    let built = Command::new("go")
        .args(["build", "-mod=mod", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(repository().join("bench/peers/redpanda-connect"))
        .status()?;
    if built.success() { Ok(program) } else { Err("Redpanda Connect does not build".into()) }
}
