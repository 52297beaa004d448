//! The events in what a gateway logs, one JSON object a line.

use std::time::SystemTime;

use keyway::record::Place;
use serde_json::Value;

use crate::history::{Ending, Event, Line, Spot};

/// What a gateway has to log for this.
pub(crate) const FILTER: &str = "info,keyway::dispatch=debug";

/// The events of a log, in its order. Lines that say nothing of them are passed over, as is the last one where its writer
/// was killed over it.
pub(crate) fn read(log: &str) -> Vec<Line> {
    log.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Line> {
    let line: Value = serde_json::from_str(text).ok()?;
    let at = humantime::parse_rfc3339(line["timestamp"].as_str()?).ok()?;
    let at = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let message = line["message"].as_str()?;
    let member = || line["member"].as_str().unwrap_or_default().to_owned();
    let event = match message {
        "A partition was assigned." => {
            Event::Assigned { member: member(), partition: partition(&line)? }
        }
        "A partition is released." => {
            Event::Released { member: member(), partition: partition(&line)? }
        }
        "A partition was given up." => {
            Event::Gone { member: member(), partition: partition(&line)? }
        }
        "Records go to the handler." => {
            let first = Spot::new(partition(&line)?, line["first"].as_u64()?);
            Event::HandedOver { member: member(), first }
        }
        _ if message.starts_with("A record was given up on") => {
            let place: Place = line["record"].as_str()?.parse().ok()?;
            Event::GaveUp { spot: Spot::new(place.partition.partition, place.offset) }
        }
        _ if line["target"] == "plugin" => witness(message)?,
        _ => return None,
    };
    Some(Line { at, event })
}

/// What `checker/witness` says: `began 3@17 1`, `ended 3@17 1 ok`.
fn witness(message: &str) -> Option<Event> {
    if message.contains("lines were left out") {
        return Some(Event::Blinded);
    }
    let mut words = message.split(' ');
    let verb = words.next()?;
    let (partition, offset) = words.next()?.split_once('@')?;
    let spot = Spot::new(partition.parse().ok()?, offset.parse().ok()?);
    match (verb, words.nth(1)) {
        ("began", None) => Some(Event::Began { spot }),
        ("ended", Some("ok")) => Some(Event::Ended { spot, ending: Ending::Handled }),
        ("ended", Some(_)) => Some(Event::Ended { spot, ending: Ending::Failed }),
        _ => None,
    }
}

/// The number in `TOPIC/NUMBER`.
fn partition(line: &Value) -> Option<u32> {
    line["partition"].as_str()?.rsplit_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_all_else_is_passed_over() {
        let lines = read(concat!(
            r#"{"timestamp":"2026-01-01T00:00:00.000001Z","level":"INFO","message":"A partition was assigned.","member":"m-1","partition":"source/3","target":"keyway::dispatch::member"}"#,
            "\nno JSON\n",
            r#"{"timestamp":"2026-01-01T00:00:00.000002Z","message":"Something else."}"#,
            "\n",
            r#"{"timestamp":"2026-01-01T00:00:00.000003Z","message":"ended 3@17 2 retry","target":"plugin"}"#,
            "\n",
            r#"{"timestamp":"2026-01-01T00:00:00.000004Z","message":"began 3@1"#,
        ));
        let [assigned, ended] = &lines[..] else { panic!("{lines:?}") };
        assert!(
            matches!(&assigned.event, Event::Assigned { member, partition: 3 } if member == "m-1")
        );
        let spot = Spot::new(3, 17);
        assert!(
            matches!(ended.event, Event::Ended { spot: it, ending: Ending::Failed } if it == spot)
        );
        assert_eq!((ended.at - assigned.at).as_micros(), 2);
    }
}
