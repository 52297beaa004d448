//! What operators have paused, as it is shown.

use serde::{Deserialize, Serialize};

use super::plugin::rfc_3339;
use crate::dispatch::{self, Pauses, Scope};

/// A pause of one partition, or of more that it is part of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// RFC 3339.
    pub since: String,
    /// Who did it, in their own words; `null`: they did not say.
    pub by: Option<String>,
}

/// A pause, and what of a group it holds back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedPart {
    /// The topic; `null`: the whole group.
    pub topic: Option<String>,
    /// The partition; `null`: the whole topic.
    pub partition: Option<u32>,
    /// RFC 3339.
    pub since: String,
    /// Who did it, in their own words; `null`: they did not say.
    pub by: Option<String>,
}

impl Pause {
    pub(super) fn of(pause: &dispatch::Pause) -> Self {
        Self { since: rfc_3339(pause.since), by: pause.by.clone() }
    }

    /// `since WHEN by WHOM`.
    pub fn words(&self) -> String {
        match &self.by {
            Some(by) => format!("since {} by {by}", self.since),
            None => format!("since {}", self.since),
        }
    }
}

/// Every pause, the widest first.
pub(super) fn parts(pauses: &Pauses) -> Vec<PausedPart> {
    let part = |(scope, pause): (Scope, &dispatch::Pause)| {
        let Pause { since, by } = Pause::of(pause);
        let (topic, partitions) = match scope {
            Scope::Group => (None, vec![None]),
            Scope::Topic(topic) => (Some(topic), vec![None]),
            Scope::Partitions(topic, numbers) => {
                (Some(topic), numbers.into_iter().map(Some).collect())
            }
        };
        let topic = topic.map(|topic| topic.to_string());
        partitions.into_iter().map(move |partition| PausedPart {
            topic: topic.clone(),
            partition,
            since: since.clone(),
            by: by.clone(),
        })
    };
    pauses.iter().flat_map(part).collect()
}
