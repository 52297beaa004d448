//! A look at where records would go: under the key selector that serves, and under another.
//!
//! Owns what is asked for, the route and its bounds; who has selectors gives them ([`super::Local::selectors`]), and who
//! decides is [`produce`](crate::produce)'s rule. Nothing is written, and nothing that serves is touched.

mod comparison;
mod newest;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use axum::{body::Bytes, extract::State as Extract, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{sync::Mutex, time::Instant};

use self::{
    comparison::{Comparison, Decided, Decision},
    newest::newest,
};
use super::{
    State,
    api::{Answer, in_time},
    problem::Problem,
    snapshot::KeyPreview,
    steering::{json, wrong},
};
use crate::{
    broker::ProduceError,
    config::Source,
    handler::Selector,
    http::parse_record,
    produce::{SelectedBy, decide},
    record::{NewRecord, Record},
};

/// Records of one look, when not given and at most.
const RECORDS: usize = 100;
const MOST_RECORDS: usize = 1000;
/// Bytes of the records of a topic that are looked at, and of the keys that they get.
const MOST_BYTES: usize = 8 << 20;
/// How long the selectors may take for all of them.
const TIME: Duration = Duration::from_secs(10);

/// What is looked at.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The topic.
    pub topic: Arc<str>,
    /// Records as `POST /send-message` takes them, 1,000 at the most. This or `last`.
    pub records: Option<Vec<Box<RawValue>>>,
    /// So many of the newest records of the topic, 1,000 at the most; the last 100, where neither is given.
    pub last: Option<usize>,
    /// The other: a component file, as the gateway sees it.
    pub file: Option<PathBuf>,
    /// The other: a kept generation of the topic's selector, by the first digits of its digest.
    pub generation: Option<String>,
    /// The other: none, so that the caller's key decides.
    #[serde(default)]
    pub caller: bool,
    /// What the other is configured with; not given: what the topic's selector is. Alone, it is the generation that serves
    /// with another configuration.
    pub config: Option<BTreeMap<String, String>>,
}

/// What is compared with the key selector that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// None: the caller's key decides.
    Caller,
    /// A key selector.
    Selector {
        /// Which; `None`: the generation that serves.
        source: Option<Source>,
        /// What it is configured with; `None`: what the topic's is.
        config: Option<BTreeMap<String, String>>,
    },
}

/// Two key selectors; `None`: the caller's key decides.
pub struct Sides {
    /// The one that serves.
    pub serving: Option<Arc<dyn Selector>>,
    /// The other.
    pub other: Option<Arc<dyn Selector>>,
}

/// A record to be looked at, and where it is.
type Candidate = (Option<String>, NewRecord);

/// Answers with where each record goes, and would go.
pub(super) async fn preview(
    turn: Arc<Mutex<()>>,
    Extract(state): Extract<State>,
    body: Bytes,
) -> Answer<KeyPreview> {
    let request: Request = json(&body)?;
    let other = request.other()?;
    // One at a time: it compiles, and it takes from the same processors as what serves.
    let Ok(_turn) = turn.try_lock() else {
        let detail = "another look is under way in this process; wait for its end";
        return Err(Problem::new(StatusCode::CONFLICT, "preview-under-way", detail));
    };
    let partitions = in_time(state.broker.partitions(&request.topic)).await?.0;
    let candidates = request.candidates(&state).await?;
    let sides = state.local.selectors(&request.topic, &other).await?;
    let found = sides.compare(&request.topic, partitions, candidates).await;
    Ok(axum::Json(KeyPreview { reconfigured: request.config.is_some(), ..found }))
}

impl Request {
    fn other(&self) -> Result<Other, Problem> {
        let source = match (&self.file, &self.generation, self.caller) {
            (Some(file), None, false) => Some(Source::File(file.clone())),
            (None, Some(generation), false) => Some(Source::Generation(generation.clone())),
            (None, None, true) if self.config.is_none() => return Ok(Other::Caller),
            (None, None, false) if self.config.is_some() => None,
            _ => {
                return Err(wrong(
                    "give one to compare with: file, generation, \"caller\": true, or config alone",
                ));
            }
        };
        Ok(Other::Selector { source, config: self.config.clone() })
    }

    async fn candidates(&self, state: &State) -> Result<Vec<Candidate>, Problem> {
        let within = |count: usize, what: &str| match count {
            1..=MOST_RECORDS => Ok(count),
            _ => Err(wrong(format!("{what} from 1 to {MOST_RECORDS}, not {count}"))),
        };
        match (&self.records, self.last) {
            (Some(_), Some(_)) => Err(wrong("give records or last, not both")),
            (Some(records), None) => {
                within(records.len(), "records are")?;
                (0..).zip(records).map(|(index, record)| self.given(index, record)).collect()
            }
            (None, last) => {
                let count = within(last.unwrap_or(RECORDS), "last is")?;
                let read = newest(&*state.broker, &self.topic, count, MOST_BYTES);
                let records = in_time(read).await?.0;
                Ok(records.into_iter().map(again).collect())
            }
        }
    }

    fn given(&self, index: usize, record: &RawValue) -> Result<Candidate, Problem> {
        let text = Bytes::copy_from_slice(record.get().as_bytes());
        let record = parse_record(&text, &self.topic)
            .map_err(|detail| wrong(format!("records/{index}: {detail}")))?;
        if record.topic != self.topic {
            let (given, topic) = (&record.topic, &self.topic);
            return Err(wrong(format!("records/{index}: it is of topic {given:?}, not {topic:?}")));
        }
        Ok((None, record))
    }
}

/// A record of a topic, as if it came once more.
fn again(record: Record) -> Candidate {
    let place = Some(record.place().to_string());
    let Record { topic, timestamp, key, value, headers, .. } = record;
    (place, NewRecord { topic, partition: None, timestamp, key, value, headers })
}

impl Sides {
    async fn compare(
        &self,
        topic: &str,
        partitions: u32,
        candidates: Vec<Candidate>,
    ) -> KeyPreview {
        let name = |side: &Option<Arc<dyn Selector>>| match side {
            Some(selector) => selector.generation().to_string(),
            None => "caller".to_owned(),
        };
        let (serving, other) = (name(&self.serving), name(&self.other));
        let mut comparison = Comparison::new(topic, partitions, serving, other);
        let (deadline, all) = (Instant::now() + TIME, candidates.len());
        for (index, (place, record)) in candidates.into_iter().enumerate() {
            let both = async {
                let serving = decision(self.serving.as_deref(), &record, partitions).await;
                (serving, decision(self.other.as_deref(), &record, partitions).await)
            };
            let early = match tokio::time::timeout_at(deadline, both).await {
                Ok((serving, other)) => {
                    comparison.add(place, record.key.as_ref(), serving, other);
                    (comparison.bytes() > MOST_BYTES).then(|| {
                        format!("the keys of {} of {all} records are too large", index + 1)
                    })
                }
                Err(_) => Some(format!("{index} of {all} records took {} s", TIME.as_secs())),
            };
            if early.is_some() {
                return comparison.end(early);
            }
            tokio::task::yield_now().await; // the port answers others between two calls
        }
        comparison.end(None)
    }
}

async fn decision(
    selector: Option<&dyn Selector>,
    record: &NewRecord,
    partitions: u32,
) -> Decision {
    let mut record = record.clone();
    let count = async { Ok::<_, ProduceError>(partitions) };
    match decide(&mut record, selector, count).await {
        Ok(SelectedBy::Caller) if record.partition.is_some_and(|given| given >= partitions) => {
            let given = record.partition.unwrap_or_default();
            Err(format!("partition {given} is not there, the topic has {partitions}"))
        }
        Ok(_) => Ok(Decided::of(record, partitions)),
        Err(error) => Err(error.to_string()),
    }
}
