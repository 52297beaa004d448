//! Checks what Keyway promises, as Jepsen does: gateways as real processes under load, faults by a seed, and rules that
//! their histories must not break.
//!
//! `plan` decides what happens, `episode` makes it happen with `configuration`, `gateway`, `cluster`, `proxy` and `load`, `observe` and `log` see
//! it, `history` keeps it, and `check` judges it. `plan`, `log`, `history` and `check` are pure.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a report is what this program is for"
)]

mod check;
mod cluster;
mod configuration;
mod episode;
mod error;
mod gateway;
mod handler;
mod history;
mod load;
mod log;
mod observe;
mod plan;
mod proxy;
mod report;

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;

use crate::{
    cluster::Cluster,
    error::Result,
    plan::{Kind, Plan},
    report::Totals,
};

/// Runs gateways under load and faults, and checks that nothing that Keyway promises is broken. Exit code 0: nothing was;
/// 1: something was, or the checker itself failed. What a failed episode leaves, the logs and the history, stays below
/// `target/checker`.
#[derive(Parser)]
#[command(name = "keyway-checker")]
struct Arguments {
    /// The first episode's seed; those after it count up
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Begin no other episode after so many seconds; there is one at least
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds of faults in an episode; settling comes after them
    #[arg(long, default_value_t = 20)]
    episode: u64,
    /// What keeps the records
    #[arg(long, value_enum, default_value = "embedded")]
    broker: Kind,
    /// HOST:PORT of a Kafka that is up and allows sessions of 3 s; not given: one is started (Java and Maven), and its
    /// brokers are killed and cut off now and then
    #[arg(long)]
    kafka: Option<String>,
}

fn main() -> ExitCode {
    if gateway::is_meant() {
        return gateway::be();
    }
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("keyway-checker: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs episodes until the time is up; says whether all were sound.
fn run(arguments: &Arguments) -> Result<bool> {
    let began = Instant::now();
    let component = handler::build()?;
    let run = std::process::id();
    let work = handler::work_directory()?;
    let kafka = work.join(format!("kafka-{run}"));
    let cluster = match (arguments.broker, &arguments.kafka) {
        (Kind::Embedded, _) => None,
        (_, Some(address)) => Some(Cluster::given(address)),
        (Kind::Kafka, None) => Some(Cluster::one(&kafka)?),
        (Kind::Three, None) => Some(Cluster::three(&kafka)?),
    };
    let mut totals = Totals::default();
    let mut seed = arguments.seed;
    while totals.episodes == 0 || began.elapsed() < Duration::from_secs(arguments.seconds) {
        let plan = Plan::new(seed, arguments.broker, Duration::from_secs(arguments.episode));
        println!("seed {seed}: {}", plan.setup);
        let directory = work.join(format!("seed-{seed}-{run}"));
        let is_sound = match episode::run(&plan, cluster.as_ref(), &component, &directory) {
            Ok(report) => totals.show(&report),
            Err(error) => totals.show_error(&error),
        };
        if is_sound {
            fs::remove_dir_all(&directory)?;
        } else {
            println!("  kept in {}", directory.display());
        }
        seed += 1;
    }
    println!("{totals} in {:.0?}", began.elapsed());
    drop(cluster);
    if kafka.exists() && totals.failed == 0 {
        fs::remove_dir_all(&kafka)?;
    } else if kafka.exists() {
        // Under another name: what it has where it was goes with this process.
        let kept = work.join(format!("kept-kafka-{run}"));
        fs::rename(&kafka, &kept)?;
        println!("Kafka's data and logs are kept in {}", kept.display());
    }
    Ok(totals.failed == 0)
}
