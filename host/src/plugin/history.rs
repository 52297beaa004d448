//! A plugin's history: which generations have served, since when and by whom, where each began, which were refused, and
//! which may not come back by themselves.
//!
//! Pure: it decides from what it is told, and knows neither files nor code. What is on disk of it is [`archive`](super::archive)'s.
//!
//! Invariants: the last period is the one that serves; a generation that was rolled back from is taken from the file no
//! more, until the file holds another one that is good.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use crate::handler::Beginning;

/// Periods remembered.
const PERIODS: usize = 32;
/// Refused generations remembered, and ended canaries.
const REFUSED: usize = 8;
/// First offsets remembered of one period.
const FIRST_OFFSETS: usize = 4096;

/// SHA-256 of a component's bytes. In text it is 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct Digest(pub(super) [u8; 32]);

/// Who let a generation serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// A new file.
    File,
    /// An operator who rolled back to it.
    Rollback,
    /// An operator who promoted it when it had been a canary.
    Canary,
}

/// What became of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It serves.
    Serving,
    /// A newer file took its place.
    Replaced,
    /// An operator rolled back from it.
    RolledBack,
}

/// What a plugin has been.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct History {
    /// Oldest first.
    periods: Vec<Period>,
    /// Oldest first, each once.
    refused: Vec<Refusal>,
    /// What the file may hold and is not taken from it: what was rolled back from, and what a canary took the place of.
    set_aside: BTreeSet<Digest>,
    /// Canaries that were ended, oldest first, each once.
    #[serde(default)]
    aborted: Vec<Refusal>,
}

/// A time through which one generation served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Period {
    pub(super) digest: Digest,
    #[serde(with = "rfc_3339")]
    pub(super) since: SystemTime,
    pub(super) by: By,
    /// In the order of group, topic and partition, each once.
    pub(super) first_offsets: Vec<FirstOffset>,
}

/// The lowest offset of a partition that a generation was given, or that it decided as a key selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstOffset {
    /// The group that handled it; `None`: a key selector decided it.
    #[serde(default)]
    pub group: Option<Arc<str>>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
}

/// A generation that did not come to serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) digest: Digest,
    #[serde(with = "rfc_3339")]
    pub(super) at: SystemTime,
    pub(super) reason: String,
}

/// Something that happened to a plugin.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A generation begins to serve. One that serves already goes on.
    Serve { digest: Digest, by: By, since: SystemTime },
    /// A generation was refused.
    Refuse(Refusal),
    /// A canary was ended.
    Abort(Refusal),
    /// A generation began on a partition: of all that is said of one period, the lowest offset is remembered.
    Begin(Beginning),
}

/// The room for kept generations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) generations: usize,
    pub(super) bytes: u64,
}

/// Why no generation was found to roll back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// There is no older one.
    NoOlder,
    /// None of those that are kept begins so.
    Unknown,
    /// More than one of those that are kept does.
    Ambiguous(Vec<Digest>),
    /// It serves already.
    Serves(Digest),
}

impl History {
    /// The generation that serves, or that served when this was written.
    pub(super) fn serving(&self) -> Option<Digest> {
        self.periods.last().map(|period| period.digest)
    }

    /// The generation to begin with in place of the file, which holds `file`, or nothing: after a rollback, or where the
    /// file was refused, what served goes on.
    pub(super) fn instead_of(&self, file: Option<Digest>) -> Option<Digest> {
        let serving = self.serving().filter(|serving| file != Some(*serving))?;
        let goes_on = match file {
            None => !self.set_aside.is_empty(),
            Some(file) => {
                self.is_set_aside(file) || self.refused.iter().any(|refusal| refusal.digest == file)
            }
        };
        goes_on.then_some(serving)
    }

    /// The generation that serves, where an operator wanted that and not the file.
    pub(super) fn chosen(&self) -> Option<Digest> {
        let serving = self.periods.last().filter(|serving| serving.by != By::File);
        serving.map(|serving| serving.digest)
    }

    /// Whether it was rolled back from.
    pub(super) fn is_set_aside(&self, digest: Digest) -> bool {
        self.set_aside.contains(&digest)
    }

    /// What was rolled back from, while that holds.
    pub(super) fn set_aside(&self) -> impl Iterator<Item = Digest> {
        self.set_aside.iter().copied()
    }

    /// Makes a change, and says whether it was news. One that is made again is none.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Serve { digest, by, since } => return self.serve(*digest, *by, *since),
            Change::Refuse(refusal) => remember(&mut self.refused, refusal),
            Change::Abort(refusal) => remember(&mut self.aborted, refusal),
            Change::Begin(beginning) => return self.note(beginning),
        }
        true
    }

    fn serve(&mut self, digest: Digest, by: By, since: SystemTime) -> bool {
        let set_aside = self.set_aside.clone();
        match by {
            By::File => self.set_aside.clear(),
            By::Rollback => {
                let from = self.serving().filter(|from| self.came(*from) > self.came(digest));
                self.set_aside.extend(from);
                self.set_aside.remove(&digest);
            }
            By::Canary => {
                self.set_aside.extend(self.serving());
                self.set_aside.remove(&digest);
            }
        }
        let mut is_news = self.set_aside != set_aside;
        for unfit in [&mut self.refused, &mut self.aborted] {
            let before = unfit.len();
            unfit.retain(|refusal| refusal.digest != digest);
            is_news |= unfit.len() != before;
        }
        if self.serving() == Some(digest) {
            return is_news;
        }
        self.periods.push(Period { digest, since, by, first_offsets: Vec::new() });
        let surplus = self.periods.len().saturating_sub(PERIODS);
        self.periods.drain(..surplus);
        true
    }

    /// A number that is higher for one that came from the file later.
    fn came(&self, digest: Digest) -> Option<usize> {
        let of_it = |period: &Period| period.digest == digest;
        let by_file = |period: &Period| of_it(period) && period.by == By::File;
        self.periods.iter().rposition(by_file).or_else(|| self.periods.iter().position(of_it))
    }

    fn note(&mut self, beginning: &Beginning) -> bool {
        let digest = Digest(beginning.generation.digest);
        let of_it = || {
            let newest_first = (0..self.periods.len()).rev();
            newest_first.filter(|index| self.periods[*index].digest == digest)
        };
        // A call that was in flight at an exchange ends in the next period, and belongs to the one that it began in.
        let began = of_it().find(|index| self.periods[*index].since <= beginning.at);
        let Some(index) = began.or_else(|| of_it().next()) else { return false };
        self.periods[index].note(beginning)
    }

    /// The newest generation before the one that serves which `is_kept` and was not rolled back from.
    pub(super) fn older(&self, is_kept: impl Fn(Digest) -> bool) -> Result<Digest, Unfit> {
        let serving = self.serving();
        let fits = |digest: &Digest| {
            Some(*digest) != serving && !self.is_set_aside(*digest) && is_kept(*digest)
        };
        self.periods.iter().rev().map(|period| period.digest).find(fits).ok_or(Unfit::NoOlder)
    }

    /// The one generation that `is_kept` and whose digest begins with these hexadecimal digits.
    pub(super) fn find(
        &self,
        prefix: &str,
        is_kept: impl Fn(Digest) -> bool,
    ) -> Result<Digest, Unfit> {
        if prefix.is_empty() {
            return Err(Unfit::Unknown);
        }
        let prefix = prefix.to_ascii_lowercase();
        let known: BTreeSet<_> = self.periods.iter().map(|period| period.digest).collect();
        let fits: Vec<_> = known
            .into_iter()
            .filter(|digest| is_kept(*digest) && digest.to_string().starts_with(&prefix))
            .collect();
        match fits[..] {
            [] => Err(Unfit::Unknown),
            [one] if Some(one) == self.serving() => Err(Unfit::Serves(one)),
            [one] => Ok(one),
            _ => Err(Unfit::Ambiguous(fits)),
        }
    }

    /// Which of the kept generations, given with their sizes, there is no more room for: the newest stay, and the one
    /// that serves whatever its size.
    pub(super) fn surplus(&self, kept: &BTreeMap<Digest, u64>, bounds: Bounds) -> Vec<Digest> {
        let (mut stay, mut bytes) = (BTreeSet::new(), 0);
        for digest in self.periods.iter().rev().map(|period| period.digest) {
            let Some(size) = kept.get(&digest).filter(|_| !stay.contains(&digest)) else {
                continue;
            };
            let fits = stay.len() < bounds.generations && bytes + size <= bounds.bytes;
            if !fits && !stay.is_empty() {
                break;
            }
            stay.insert(digest);
            bytes += size;
        }
        // What has no period may be another process's, which is about to say what it is for.
        let had = |digest: &Digest| self.periods.iter().any(|period| period.digest == *digest);
        kept.keys().filter(|digest| !stay.contains(digest) && had(digest)).copied().collect()
    }

    /// Every period with what became of its generation, oldest first.
    pub(super) fn periods(&self) -> impl Iterator<Item = (&Period, Option<SystemTime>, Fate)> {
        let next = self.periods.iter().skip(1).map(Some).chain([None]);
        self.periods.iter().zip(next).map(|(period, next)| match next {
            None => (period, None, Fate::Serving),
            Some(next) if next.by == By::Rollback => (period, Some(next.since), Fate::RolledBack),
            Some(next) => (period, Some(next.since), Fate::Replaced),
        })
    }

    /// Every canary that was ended, oldest first.
    pub(super) fn aborted(&self) -> &[Refusal] {
        &self.aborted
    }

    /// Every refused generation, oldest first.
    pub(super) fn refused(&self) -> &[Refusal] {
        &self.refused
    }
}

/// Adds one, in place of what was known of the same generation.
fn remember(refusals: &mut Vec<Refusal>, refusal: &Refusal) {
    refusals.retain(|before| before.digest != refusal.digest);
    refusals.push(refusal.clone());
    let surplus = refusals.len().saturating_sub(REFUSED);
    refusals.drain(..surplus);
}

impl Period {
    fn note(&mut self, beginning: &Beginning) -> bool {
        let Beginning { group, partition, offset, .. } = beginning;
        let place = (group.as_deref(), &*partition.topic, partition.partition);
        let found = self.first_offsets.binary_search_by(|first| {
            (first.group.as_deref(), &*first.topic, first.partition).cmp(&place)
        });
        match found {
            Ok(index) => {
                let first = &mut self.first_offsets[index].offset;
                let lower = *offset < *first;
                *first = (*first).min(*offset);
                lower
            }
            Err(index) => {
                let is_room = self.first_offsets.len() < FIRST_OFFSETS;
                if is_room {
                    let (topic, partition) = (partition.topic.clone(), partition.partition);
                    let first =
                        FirstOffset { group: group.clone(), topic, partition, offset: *offset };
                    self.first_offsets.insert(index, first);
                }
                is_room
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not 64 hexadecimal digits");
        let digits = text.bytes().map(|digit| char::from(digit).to_digit(16));
        let digits: Vec<u8> = digits
            .map(|digit| digit.map(|digit| digit as u8))
            .collect::<Option<_>>()
            .ok_or_else(wrong)?;
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        if digits.len() != 64 {
            return Err(wrong());
        }
        Ok(Self(bytes.try_into().map_err(|_| wrong())?))
    }
}

/// Times as text.
mod rfc_3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_rfc3339_nanos(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_rfc3339(&text)
            .map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
    }
}

#[cfg(test)]
#[path = "history/tests.rs"]
mod tests;
