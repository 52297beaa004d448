//! What a handler emitted, held to its limits and its allow-list, as records to write. Pure.

use std::sync::Arc;

use super::bindings::keyway::plugin::types::{HeaderResult, Outgoing};
use crate::{
    config::{Allow, Limits},
    handler::Failure,
    record::{Arena, Header, NewRecord},
};

/// The records that a call emitted, in order; all of them or none.
pub(super) fn records(
    emitted: Vec<Outgoing>,
    limits: &Limits,
    allow: &Allow,
    output_topic: Option<&Arc<str>>,
    arena: &mut Arena,
) -> Result<Vec<NewRecord>, Failure> {
    let given = emitted.len() as u64;
    if given > limits.emit {
        return Err(Failure::Emit { unit: "records", given, limit: limits.emit });
    }
    let records = emitted
        .into_iter()
        .map(|outgoing| {
            Ok(record(topic(outgoing.topic.as_deref(), allow, output_topic)?, outgoing, arena))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let given = records.iter().map(|record| record.size() as u64).sum();
    if given > limits.emit_bytes {
        return Err(Failure::Emit { unit: "bytes", given, limit: limits.emit_bytes });
    }
    Ok(records)
}

/// The topic of a record that names one, or none.
pub(super) fn topic(
    named: Option<&str>,
    allow: &Allow,
    output_topic: Option<&Arc<str>>,
) -> Result<Arc<str>, Failure> {
    let Some(name) = named else {
        return output_topic.cloned().ok_or_else(|| {
            Failure::Forbidden(
                "emitted a record that names no topic, and the group has no `output-topic`".into(),
            )
        });
    };
    output_topic.filter(|topic| &***topic == name).or_else(|| allow.topics.get(name)).cloned().ok_or_else(
        || {
            Failure::Forbidden(format!(
                "emitted a record to `{name}`, which is neither the `output-topic` nor in `allow.topics`"
            ))
        },
    )
}

fn record(topic: Arc<str>, outgoing: Outgoing, arena: &mut Arena) -> NewRecord {
    let mut keep = |bytes: Option<Vec<u8>>| bytes.map(|bytes| arena.keep(bytes));
    let (key, value) = (keep(outgoing.key), keep(outgoing.value));
    let header = |header: HeaderResult| Header { key: header.key, value: keep(header.value) };
    NewRecord {
        topic,
        partition: outgoing.partition,
        timestamp: outgoing.timestamp,
        key,
        value,
        headers: outgoing.headers.into_iter().map(header).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(topic: Option<&str>, bytes: usize) -> Outgoing {
        Outgoing {
            topic: topic.map(str::to_owned),
            partition: Some(1),
            timestamp: None,
            key: None,
            value: Some(vec![0; bytes]),
            headers: vec![HeaderResult { key: "h".into(), value: None }],
        }
    }

    fn check(
        emitted: Vec<Outgoing>,
        output_topic: Option<&str>,
    ) -> Result<Vec<NewRecord>, Failure> {
        let limits = Limits { emit: 2, emit_bytes: 100, ..Limits::default() };
        let allow = Allow { topics: ["allowed".into()].into(), ..Allow::default() };
        let topic = output_topic.map(Arc::from);
        records(emitted, &limits, &allow, topic.as_ref(), &mut Arena::default())
    }

    #[test]
    fn records_go_where_they_name_or_to_the_output_topic() {
        let emitted = vec![outgoing(None, 1), outgoing(Some("allowed"), 0)];
        let records = check(emitted, Some("out")).unwrap();
        assert_eq!([&*records[0].topic, &*records[1].topic], ["out", "allowed"]);
        assert_eq!(records[0].partition, Some(1));
        assert_eq!(records[1].value.as_deref(), Some(&[][..]), "empty is not absent");
        assert_eq!(records[0].headers, [Header { key: "h".into(), value: None }]);
        assert!(check(vec![outgoing(Some("out"), 1)], Some("out")).is_ok());
    }

    #[test]
    fn a_topic_that_is_not_allowed_is_named() {
        let Err(Failure::Forbidden(text)) = check(vec![outgoing(Some("other"), 1)], Some("out"))
        else {
            panic!("was allowed")
        };
        assert!(text.contains("`other`"), "{text}");
        let Err(Failure::Forbidden(text)) = check(vec![outgoing(None, 1)], None) else {
            panic!("was allowed")
        };
        assert!(text.contains("output-topic"), "{text}");
    }

    #[test]
    fn count_and_bytes_are_bounded() {
        let three = vec![outgoing(None, 1), outgoing(None, 1), outgoing(None, 1)];
        let failure = Failure::Emit { unit: "records", given: 3, limit: 2 };
        assert_eq!(check(three, Some("out")), Err(failure));
        // each header counts with its one byte
        assert!(check(vec![outgoing(None, 49), outgoing(None, 49)], Some("out")).is_ok());
        let failure = Failure::Emit { unit: "bytes", given: 101, limit: 100 };
        assert_eq!(check(vec![outgoing(None, 50), outgoing(None, 49)], Some("out")), Err(failure));
    }
}
