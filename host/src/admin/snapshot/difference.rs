//! What a shadow would have done otherwise.

use serde::{Deserialize, Serialize};

use super::{Output, Payload};
use crate::{
    handler::Outcome,
    plugin::{self, PluginStatus},
};

/// A record of which a shadow made something else than the generation that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Whose record it is, such as `group my-topic-group-1`.
    pub owner: String,
    /// The shadow's generation.
    pub shadow_generation: String,
    /// Its place, `TOPIC/PARTITION@OFFSET`.
    pub record: String,
    /// Its key; here and below, at most 4 KiB of each.
    pub key: Option<Payload>,
    /// Its value.
    pub value: Option<Payload>,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// The first thing that differs.
    pub difference: String,
    /// What the generation that serves made of it.
    pub serving: Ending,
    /// What the shadow made of it.
    pub shadow: Ending,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// `handled`, `retry`, `rejected`, `failed`.
    pub outcome: String,
    /// Why it was not handled.
    pub reason: Option<String>,
    /// Up to four of the records that were emitted, from the first that differs on.
    pub emitted: Vec<Emitted>,
}

/// A record that a handler emitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emitted {
    /// For which topic.
    pub topic: String,
    /// The record.
    #[serde(flatten)]
    pub record: Output,
    /// Milliseconds since the Unix epoch, where the handler gave it a time.
    pub timestamp: Option<u64>,
}

/// What is kept of a plugin's shadows.
pub fn differences(plugin: &PluginStatus) -> Vec<Difference> {
    let shadows =
        plugin.uses.iter().filter_map(|usage| Some((&usage.owner, usage.shadow.as_ref()?)));
    shadows
        .flat_map(|(owner, shadow)| {
            let generation = shadow.generation.short();
            shadow.differences.iter().map(move |it| difference(owner, &generation, it))
        })
        .collect()
}

fn difference(owner: &str, generation: &str, it: &plugin::Difference) -> Difference {
    Difference {
        owner: owner.to_owned(),
        shadow_generation: generation.to_owned(),
        record: it.place.to_string(),
        key: it.key.as_ref().map(Payload::from),
        value: it.value.as_ref().map(Payload::from),
        attempt: it.attempt,
        difference: it.what.clone(),
        serving: ending(&it.serving),
        shadow: ending(&it.shadow),
    }
}

fn ending(outcome: &Outcome) -> Ending {
    let (outcome, reason, records) = match outcome {
        Outcome::Handled(records) => ("handled", None, &records[..]),
        Outcome::Retry { reason, after: None } => ("retry", Some(reason.clone()), &[][..]),
        Outcome::Retry { reason, after: Some(after) } => {
            let after = humantime::format_duration(*after);
            ("retry", Some(format!("{reason} (again after {after})")), &[][..])
        }
        Outcome::Reject { reason } => ("rejected", Some(reason.clone()), &[][..]),
        Outcome::Failed(failure) => ("failed", Some(failure.to_string()), &[][..]),
    };
    let emitted = records.iter().map(|record| Emitted {
        topic: record.topic.to_string(),
        record: Output::from(record),
        timestamp: record.timestamp,
    });
    Ending { outcome: outcome.to_owned(), reason, emitted: emitted.collect() }
}

#[cfg(test)]
mod tests {
    use super::{super::example, *};

    #[test]
    fn a_difference_has_the_shape_that_the_interface_promises() {
        let view = example::view();
        let print = view.plugins.iter().find(|plugin| &*plugin.name == "print");
        assert_eq!(
            serde_json::to_value(differences(print.expect("it is there"))).unwrap(),
            serde_json::json!([{
                "owner": "group my-topic-group-1",
                "shadow_generation": "0f0f0f0f0f0f",
                "record": "my-topic/0@7",
                "key": "k",
                "value": "v",
                "attempt": 1,
                "difference": "handled, rejected",
                "serving": {
                    "outcome": "handled",
                    "reason": null,
                    "emitted": [{
                        "topic": "out", "partition": null, "key": null, "value": "V", "headers": [], "timestamp": null,
                    }],
                },
                "shadow": {"outcome": "rejected", "reason": "no such user", "emitted": []},
            }])
        );
    }
}
