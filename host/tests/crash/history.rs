//! What clients were told, held against what the topics keep.

use std::collections::BTreeMap;

use crate::gateway::Gateway;

/// A record that a client has an answer for.
pub(crate) struct Acknowledged {
    pub(crate) partition: u64,
    pub(crate) offset: u64,
    pub(crate) id: String,
}

/// Everything that was acknowledged, over all rounds.
#[derive(Default)]
pub(crate) struct History(Vec<Acknowledged>);

/// One partition's values by offset.
type Log = BTreeMap<u64, String>;

impl History {
    pub(crate) fn extend(&mut self, acknowledged: Vec<Acknowledged>) {
        self.0.extend(acknowledged);
    }

    /// How many records were acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Fails unless every acknowledged record is where its answer said, was handled, and was handled for the first
    /// time in the order of its partition; where it has to be `once`, unless what committed transactions wrote is that and
    /// nothing else.
    pub(crate) fn check(&self, gateway: &Gateway, source: &str, output: &str, once: bool) {
        let (source, output) = (read(gateway, source), read(gateway, output));
        for Acknowledged { partition, offset, id } in &self.0 {
            let kept = source[*partition as usize].get(offset);
            assert_eq!(kept, Some(id), "{id} was acknowledged at {partition}@{offset}");
        }
        for (partition, (log, emitted)) in source.iter().zip(&output).enumerate() {
            let mut first = BTreeMap::new();
            for (place, value) in emitted {
                first.entry(value.to_lowercase()).or_insert(*place);
            }
            let mut last = None;
            for (offset, id) in log {
                let place = first.get(id);
                assert!(place.is_some(), "{id} at {partition}@{offset} was never handled");
                assert!(
                    place > last,
                    "{id} at {partition}@{offset} was handled before its predecessor"
                );
                last = place;
            }
            if once {
                let written: Vec<_> = emitted.values().map(|value| value.to_lowercase()).collect();
                let kept: Vec<_> = log.values().cloned().collect();
                assert_eq!(written, kept, "the output of partition {partition}");
            }
        }
    }
}

/// All records of a topic, by partition. The output has the source's keys and as many partitions, so a record's
/// output is on the partition that it came from.
fn read(gateway: &Gateway, topic: &str) -> Vec<Log> {
    (0..3).map(|partition| read_partition(gateway, topic, partition)).collect()
}

fn read_partition(gateway: &Gateway, topic: &str, partition: u64) -> Log {
    let mut log = Log::new();
    loop {
        let from = log.keys().last().map_or(0, |last| last + 1);
        let path = format!(
            "/api/v1/topics/{topic}/records?partition={partition}&offset={from}&limit=1000"
        );
        let (status, page) = gateway.get(&path);
        assert_eq!(status, 200, "{page}");
        let records = page["records"].as_array().expect("a list of records");
        if records.is_empty() {
            return log;
        }
        log.extend(records.iter().map(|record| {
            let value = record["value"].as_str().expect("ids are text");
            (record["offset"].as_u64().expect("a number"), value.to_owned())
        }));
    }
}
