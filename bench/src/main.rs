//! Measures Keyway in pairs against the least that could do the same work: a bare hyper and rdkafka handler, a bare
//! consumer loop. Both sides of a pair run on the same machine minutes apart, with the load beside them, so what counts
//! is their ratio; how far repeated rounds differ says whether it can be trusted.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a report is what this program is for"
)]

mod bare_consumer;
mod bare_http;
mod calls;
mod connect;
mod consume;
mod error;
mod flatness;
mod gateway;
mod instances;
mod kafka;
mod load;
mod native;
mod plugins;
mod produce;
mod rebalance;
mod startup;
mod statistics;
mod swap;
mod waiting;

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use error::Result;

/// Measures Keyway against the least that could do the same work.
#[derive(Parser)]
struct Arguments {
    /// HOST:PORT of a Kafka that is up; not given: one is started (Java and Maven)
    #[arg(long, env = "KEYWAY_TEST_KAFKA", global = true)]
    kafka: Option<String>,
    /// How often each pair is run
    #[arg(long, default_value_t = 5, global = true)]
    rounds: usize,
    #[command(subcommand)]
    work: Work,
}

#[derive(Subcommand)]
enum Work {
    /// POST of 200 bytes, acks=all on Kafka, at several numbers of connections
    Produce {
        #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
        connections: Vec<usize>,
        /// Seconds that each side of a pair runs in each round
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// The same on the embedded broker, against the disk's own fdatasync
    ProduceEmbedded {
        #[arg(long, default_value_t = 16)]
        connections: usize,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Consume, handle with a component that does nothing, commit, on Kafka
    Consume {
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
        /// Distinct keys; 0: records without a key
        #[arg(long, default_value_t = 0)]
        keys: u64,
        /// The group's ordering: partition, key or none
        #[arg(long, default_value = "partition")]
        ordering: String,
        /// The group's delivery: at-least-once or exactly-once
        #[arg(long, default_value = "at-least-once")]
        delivery: String,
        /// The group's max-in-flight
        #[arg(long, default_value_t = 16_384)]
        max_in_flight: usize,
        /// Emit each record again, in upper case
        #[arg(long)]
        transform: bool,
    },
    /// Consume, transform, produce, commit, in key order, beside Redpanda Connect (needs Go)
    Connect {
        #[arg(long, default_value_t = 500_000)]
        records: u64,
    },
    /// Handlers that wait for 0 to 5 ms, 1,000 keys on one partition, at several numbers in flight
    Waiting {
        #[arg(long, default_value_t = 10_000)]
        records: u64,
        #[arg(long, value_delimiter = ',', default_values_t = [16, 256, 4096])]
        in_flight: Vec<usize>,
    },
    /// One of eight members ends: how long nothing is handled of the partitions that stay, and of those that move
    Rebalance,
    /// Processor time for each record, with few and many keys, partitions and members
    Flatness {
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
    },
    /// From the start of the process to a 200 from /ready, and the memory it then idles in
    Startup,
    /// Exchanging plugins under load: to the first record under a new file, what calls wait, what memory stays
    Swap {
        /// Seconds that each side of a pair runs in each round
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Exchanges of each plugin between the two looks at the memory
        #[arg(long, default_value_t = 1000)]
        swaps: usize,
    },
    /// Calls, the memory of an idle instance, a key selector in front of producing, 200 plugins beside the one that is used
    Plugins {
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// The gateway with native code in place of components (`consume` starts it)
    #[command(hide = true)]
    Native { code: native::Code },
    /// The bare handler alone (`produce` starts it)
    #[command(hide = true)]
    BareHttp {
        #[arg(long)]
        topic: String,
        #[arg(long)]
        linger: u32,
    },
    /// The bare consumer alone (`consume` starts it)
    #[command(hide = true)]
    BareConsumer {
        #[arg(long)]
        topic: String,
        #[arg(long)]
        group: String,
        #[arg(long)]
        records: u64,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keyway-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(Arguments { kafka, rounds, work }: Arguments) -> Result<()> {
    let rounds = rounds.max(1);
    match work {
        Work::Produce { connections, seconds } => {
            let kafka = kafka::at(kafka)?;
            produce::on_kafka(kafka.address(), &connections, rounds, Duration::from_secs(seconds))
        }
        Work::ProduceEmbedded { connections, seconds } => {
            produce::on_embedded(connections, rounds, Duration::from_secs(seconds))
        }
        Work::Consume { records, keys, ordering, delivery, max_in_flight, transform } => {
            let kafka = kafka::at(kafka)?;
            let work = consume::Work {
                records,
                keys,
                ordering: &ordering,
                delivery: &delivery,
                max_in_flight,
                transform,
            };
            consume::on_kafka(kafka.address(), work, rounds)
        }
        Work::Connect { records } => {
            let kafka = kafka::at(kafka)?;
            connect::on_kafka(kafka.address(), records, rounds)
        }
        Work::Waiting { records, in_flight } => {
            let kafka = kafka::at(kafka)?;
            waiting::on_kafka(kafka.address(), records, &in_flight, rounds)
        }
        Work::Rebalance => {
            let kafka = kafka::at(kafka)?;
            rebalance::on_kafka(kafka.address(), rounds)
        }
        Work::Flatness { records } => {
            let kafka = kafka::at(kafka)?;
            flatness::on_kafka(kafka.address(), records, rounds)
        }
        Work::Startup => {
            let kafka = kafka::at(kafka)?;
            startup::measure(kafka.address(), rounds)
        }
        Work::Swap { seconds, swaps } => swap::measure(rounds, Duration::from_secs(seconds), swaps),
        Work::Plugins { seconds } => plugins::measure(rounds, Duration::from_secs(seconds)),
        Work::Native { code } => native::serve(code),
        Work::BareHttp { topic, linger } => bare_http::serve(kafka::given(kafka)?, topic, linger),
        Work::BareConsumer { topic, group, records } => {
            bare_consumer::consume(&kafka::given(kafka)?, &topic, &group, records)
        }
    }
}
