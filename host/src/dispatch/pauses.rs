//! What operators have paused of one group: all of it, a topic, or single partitions, since when and by whom.
//!
//! Plain data: who remembers it over a restart is `app`'s matter, and what holds the records back is the member's.
//! Invariant: what is paused already keeps the moment and the name of its first pause.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::SystemTime,
};

use crate::record::TopicPartition;

/// What of a group something is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of it, whatever partitions it gets.
    #[default]
    Group,
    /// Every partition of a topic, those that come later too.
    Topic(Arc<str>),
    /// Some partitions of a topic.
    Partitions(Arc<str>, BTreeSet<u32>),
}

/// One pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When it was paused.
    pub since: SystemTime,
    /// Who did it, in their own words; `None`: they did not say.
    pub by: Option<String>,
}

/// Everything that is paused of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses {
    group: Option<Pause>,
    topics: BTreeMap<Arc<str>, Pause>,
    partitions: BTreeMap<TopicPartition, Pause>,
}

/// A pause of something larger, which a resume of a part of it does not end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is paused as a whole, and goes on as a whole: resume that, and pause those partitions that are to wait"
)]
pub struct PausedAsAWhole(Scope);

impl Scope {
    /// Whether a partition belongs to it.
    pub fn covers(&self, partition: &TopicPartition) -> bool {
        match self {
            Self::Group => true,
            Self::Topic(topic) => *topic == partition.topic,
            Self::Partitions(topic, numbers) => {
                *topic == partition.topic && numbers.contains(&partition.partition)
            }
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group => f.write_str("the group"),
            Self::Topic(topic) => write!(f, "topic {topic}"),
            Self::Partitions(topic, numbers) => {
                let each: Vec<_> =
                    numbers.iter().map(|number| format!("{topic}/{number}")).collect();
                f.write_str(&each.join(", "))
            }
        }
    }
}

impl Pauses {
    /// Pauses what `scope` names.
    pub fn pause(&mut self, scope: &Scope, pause: &Pause) {
        match scope {
            Scope::Group => drop(self.group.get_or_insert_with(|| pause.clone())),
            Scope::Topic(topic) => {
                self.topics.entry(topic.clone()).or_insert_with(|| pause.clone());
            }
            Scope::Partitions(topic, numbers) => {
                for number in numbers {
                    let partition = TopicPartition::new(topic.clone(), *number);
                    self.partitions.entry(partition).or_insert_with(|| pause.clone());
                }
            }
        }
    }

    /// Ends every pause of what `scope` names, and of its parts.
    ///
    /// # Errors
    /// Something larger is paused as a whole. Nothing has changed then.
    pub fn resume(&mut self, scope: &Scope) -> Result<(), PausedAsAWhole> {
        if *scope != Scope::Group && self.group.is_some() {
            return Err(PausedAsAWhole(Scope::Group));
        }
        if let Scope::Partitions(topic, _) = scope
            && self.topics.contains_key(topic)
        {
            return Err(PausedAsAWhole(Scope::Topic(topic.clone())));
        }
        match scope {
            Scope::Group => *self = Self::default(),
            Scope::Topic(topic) => drop(self.topics.remove(topic)),
            Scope::Partitions(..) => {}
        }
        self.partitions.retain(|partition, _| !scope.covers(partition));
        Ok(())
    }

    /// The pause that holds a partition back: the widest one.
    pub fn of(&self, partition: &TopicPartition) -> Option<&Pause> {
        let of_topic = || self.topics.get(&partition.topic);
        self.group.as_ref().or_else(of_topic).or_else(|| self.partitions.get(partition))
    }

    /// The pause of the group as a whole.
    pub fn whole(&self) -> Option<&Pause> {
        self.group.as_ref()
    }

    /// Whether nothing is paused.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every pause with what it holds back, the widest first.
    pub fn iter(&self) -> impl Iterator<Item = (Scope, &Pause)> {
        let group = self.group.iter().map(|pause| (Scope::Group, pause));
        let topics = self.topics.iter().map(|(topic, pause)| (Scope::Topic(topic.clone()), pause));
        let partitions = self.partitions.iter().map(|(partition, pause)| {
            let number = BTreeSet::from([partition.partition]);
            (Scope::Partitions(partition.topic.clone(), number), pause)
        });
        group.chain(topics).chain(partitions)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn pause(second: u64) -> Pause {
        Pause { since: SystemTime::UNIX_EPOCH + Duration::from_secs(second), by: None }
    }

    fn some(topic: &str, numbers: impl IntoIterator<Item = u32>) -> Scope {
        Scope::Partitions(topic.into(), numbers.into_iter().collect())
    }

    #[test]
    fn what_is_paused_already_keeps_its_first_pause() {
        let mut pauses = Pauses::default();
        pauses.pause(&some("a", [0]), &pause(1));
        pauses.pause(&some("a", [0, 1]), &pause(2));
        assert_eq!(pauses.of(&TopicPartition::new("a", 0)), Some(&pause(1)));
        assert_eq!(pauses.of(&TopicPartition::new("a", 1)), Some(&pause(2)));
    }

    #[test]
    fn a_part_of_what_is_paused_as_a_whole_is_not_resumed_and_the_answer_says_what_would_do() {
        let mut pauses = Pauses::default();
        pauses.pause(&Scope::Topic("a".into()), &pause(1));
        let refused = pauses.resume(&some("a", [0])).unwrap_err().to_string();
        assert!(refused.starts_with("topic a is paused as a whole"), "{refused}");
        pauses.resume(&some("b", [0])).unwrap();
        pauses.pause(&Scope::Group, &pause(2));
        assert!(pauses.resume(&Scope::Topic("a".into())).is_err());
        pauses.resume(&Scope::Group).unwrap();
        assert!(pauses.is_empty());
    }

    fn scope() -> impl Strategy<Value = Scope> {
        let topic = prop_oneof![Just("a"), Just("b")];
        prop_oneof![
            1 => Just(Scope::Group),
            2 => topic.clone().prop_map(|topic| Scope::Topic(topic.into())),
            4 => (topic, prop::collection::btree_set(0..3u32, 1..3))
                .prop_map(|(topic, numbers)| Scope::Partitions(topic.into(), numbers)),
        ]
    }

    proptest! {
        /// The naive model: the list of what was paused and not resumed since.
        #[test]
        fn a_partition_is_paused_as_long_as_a_pause_covers_it(
            steps in prop::collection::vec((any::<bool>(), scope()), 1..40),
        ) {
            let (mut pauses, mut model) = (Pauses::default(), Vec::<Scope>::new());
            for (does_pause, scope) in steps {
                if does_pause {
                    pauses.pause(&scope, &pause(0));
                    match scope {
                        Scope::Partitions(topic, numbers) => model.extend(
                            numbers.iter().map(|number| some(&topic, [*number])),
                        ),
                        scope => model.push(scope),
                    }
                } else if pauses.resume(&scope).is_ok() {
                    let within = |other: &Scope| match (other, &scope) {
                        (_, Scope::Group) => true,
                        (Scope::Topic(topic), Scope::Topic(resumed)) => topic == resumed,
                        (Scope::Partitions(topic, numbers), resumed) => numbers
                            .iter()
                            .all(|number| resumed.covers(&TopicPartition::new(topic.clone(), *number))),
                        _ => false,
                    };
                    model.retain(|other| !within(other));
                }
                for partition in ["a", "b"].iter().flat_map(|topic| (0..3).map(|number| TopicPartition::new(*topic, number))) {
                    let expected = model.iter().any(|scope| scope.covers(&partition));
                    prop_assert_eq!(pauses.of(&partition).is_some(), expected, "{}", partition);
                }
                prop_assert_eq!(pauses.iter().count() == 0, pauses.is_empty());
            }
        }
    }
}
