//! One of eight members of a group on Kafka ends cleanly under load: for how long is nothing handled of the partitions that
//! stay where they are, and of those that move.
//!
//! Every member is a process of its own. Each partition gets a record every few milliseconds, which the handler emits
//! again; what is watched is the output. A gap is the longest time between two records that came of one partition, so it is
//! never shorter than what lies between two that were written: the gap before anybody ends says how much that is.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

use crate::{
    error::Result,
    gateway::{Gateway, build_plugin},
    kafka::{create_topic, fresh_name},
    statistics::Spread,
};

const MEMBERS: usize = 8;
const PARTITIONS: i32 = 24;
/// Between two records of one partition.
const PACE: Duration = Duration::from_millis(5);
/// How long is watched before one ends, and after.
const WINDOW: Duration = Duration::from_secs(5);
/// How long the members may take to share the partitions out.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn on_kafka(kafka: &str, rounds: usize) -> Result<()> {
    let (topic, output, group) =
        (fresh_name("rebalance"), fresh_name("output"), fresh_name("group"));
    create_topic(kafka, &topic, PARTITIONS)?;
    create_topic(kafka, &output, 1)?;
    let configuration = format!(
        "[broker]\nkind = \"kafka\"\nbootstrap-servers = \"{kafka}\"\n\
         [[groups]]\nid = \"{group}\"\ntopics = [\"{topic}\"]\nhandler = {{ plugin = \"uppercase\" }}\n\
         output-topic = \"{output}\"\n",
    );
    let plugins = [build_plugin("plugins/uppercase")?];
    let start = || Gateway::start(&configuration, &["run", "--only", "groups"], &plugins);
    let mut members = (0..MEMBERS).map(|_| start()).collect::<Result<Vec<_>>>()?;
    let load = Load::start(kafka, &topic, &output)?;
    let (mut before, mut kept, mut moved) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        share_out(&mut members, &group)?;
        let calm = Instant::now();
        thread::sleep(WINDOW);
        let mut leaver = members.remove(0);
        let moving = partitions(&leaver, &group)?;
        let begin = Instant::now();
        leaver.end()?;
        let ended = begin.elapsed();
        thread::sleep(WINDOW);
        let end = Instant::now();
        let gap = |of: &dyn Fn(i32) -> bool, from, to| {
            let gaps = (0..PARTITIONS).filter(|partition| of(*partition));
            gaps.map(|partition| load.gap(partition, from, to)).max().unwrap_or_default()
        };
        let milliseconds = |gap: Duration| gap.as_secs_f64() * 1000.0;
        before.push(milliseconds(gap(&|_| true, calm, begin)));
        kept.push(milliseconds(gap(&|partition| !moving.contains(&partition), begin, end)));
        moved.push(milliseconds(gap(&|partition| moving.contains(&partition), begin, end)));
        eprintln!(
            "  {} of {PARTITIONS} partitions moved; the process took {:.0} ms to end; gaps: {:.0} ms before, {:.0} ms of those kept, {:.0} ms of those moved",
            moving.len(),
            milliseconds(ended),
            before[before.len() - 1],
            kept[kept.len() - 1],
            moved[moved.len() - 1],
        );
        members.push(start()?);
    }
    println!("longest gap of a partition, ms, {MEMBERS} members, one of which ends");
    println!("- before that: {}", Spread::of(before));
    println!("- of those that are kept (the aim is 50): {}", Spread::of(kept));
    println!("- of those that move (the aim is 1000): {}", Spread::of(moved));
    Ok(())
}

/// Waits until every partition has a member, and every member the same number of them.
fn share_out(members: &mut [Gateway], group: &str) -> Result<()> {
    members.iter_mut().try_for_each(Gateway::ready)?;
    let end = Instant::now() + PATIENCE;
    let share = PARTITIONS as usize / MEMBERS;
    let is_fair = |member: &Gateway| partitions(member, group).is_ok_and(|it| it.len() == share);
    while !members.iter().all(is_fair) {
        if Instant::now() > end {
            return Err("the partitions are not shared out".into());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// The partitions that a gateway's own members read.
fn partitions(gateway: &Gateway, group: &str) -> Result<BTreeSet<i32>> {
    let shown = gateway.get_json(&format!("/api/v1/groups/{group}"))?;
    let rows = shown["partitions"].as_array().ok_or("a group has partitions")?;
    let own = rows.iter().filter(|row| !row["in_flight"].is_null());
    Ok(own.filter_map(|row| row["partition"].as_i64()).map(|number| number as i32).collect())
}

/// What is written and watched, until this is dropped.
struct Load {
    seen: Arc<Mutex<Vec<Vec<Instant>>>>,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(kafka: &str, topic: &str, output: &str) -> Result<Self> {
        let seen = Arc::new(Mutex::new(vec![Vec::new(); PARTITIONS as usize]));
        let ends = Arc::new(AtomicBool::new(false));
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", kafka).set("group.id", output).create()?;
        let mut all = TopicPartitionList::new();
        all.add_partition_offset(output, 0, Offset::Beginning)?;
        consumer.assign(&all)?;
        let producer: ThreadedProducer<DefaultProducerContext> =
            ClientConfig::new().set("bootstrap.servers", kafka).create()?;
        let (to, over, topic) = (seen.clone(), ends.clone(), topic.to_owned());
        let watching = thread::spawn(move || watch(&consumer, &to, &over));
        let over = ends.clone();
        let writing = thread::spawn(move || write(&producer, &topic, &over));
        Ok(Self { seen, ends, threads: vec![watching, writing] })
    }

    /// The longest time in which nothing came of a partition, between two moments.
    fn gap(&self, partition: i32, from: Instant, to: Instant) -> Duration {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        longest_gap(&seen[partition as usize], from, to)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn longest_gap(seen: &[Instant], from: Instant, to: Instant) -> Duration {
    let within = seen.iter().copied().filter(|at| (from..to).contains(at));
    let mut last = from;
    let gaps = within.chain([to]).map(|at| at - std::mem::replace(&mut last, at));
    gaps.max().unwrap_or_default()
}

fn watch(consumer: &BaseConsumer, seen: &Mutex<Vec<Vec<Instant>>>, ends: &AtomicBool) {
    while !ends.load(Relaxed) {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        let partition = message.key().and_then(|key| std::str::from_utf8(key).ok()?.parse().ok());
        let Some(partition): Option<usize> = partition else { continue };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen[partition].push(Instant::now());
    }
}

fn write(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str, ends: &AtomicBool) {
    let mut next = Instant::now();
    while !ends.load(Relaxed) {
        for partition in 0..PARTITIONS {
            let key = partition.to_string();
            let record = BaseRecord::to(topic).partition(partition).key(&key).payload("value");
            producer.send(record).ok(); // a gap that this makes is seen before anybody ends, too
        }
        next += PACE;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    producer.flush(Duration::from_secs(10)).ok(); // the figures are made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_begins_and_ends_with_the_window_where_nothing_comes() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let seen = [at(1), at(5), at(30), at(40)];
        let gap = |from, to| longest_gap(&seen, at(from), at(to)).as_millis();
        assert_eq!([gap(0, 41), gap(10, 35), gap(30, 100), gap(50, 60)], [25, 20, 60, 10]);
    }
}
