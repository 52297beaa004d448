//! Who has which partition, by what members are told and what they say; and what of their doings does not fit that.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use keyway::{
    broker::{Command, MemberEvent},
    record::{Record, TopicPartition},
};

/// One member among all of a test.
pub(crate) type Number = usize;

#[derive(Default)]
pub(crate) struct Audit(Mutex<Books>);

#[derive(Default)]
struct Books {
    /// From its assignment to its release, or to its loss.
    owners: HashMap<TopicPartition, HashSet<Number>>,
    /// What members lost, which they may not have heard of yet.
    lost: HashSet<(Number, TopicPartition)>,
    gone: HashSet<Number>,
    /// Of each partition, the first record that nobody has handled.
    next: HashMap<TopicPartition, u64>,
    /// What happened to each partition, for whoever looks into a failure.
    history: HashMap<TopicPartition, Vec<String>>,
    wrong: Vec<String>,
}

impl Audit {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member is told something.
    pub(crate) fn event(&self, member: Number, event: &MemberEvent) {
        let mut books = self.books();
        if books.gone.contains(&member) {
            return; // it does not hear it any more
        }
        match event {
            MemberEvent::Assigned { partitions, .. } => {
                for assigned in partitions {
                    books.note(&assigned.partition, format!("assigned to {member}"));
                    books.lost.remove(&(member, assigned.partition.clone()));
                    books.owners.entry(assigned.partition.clone()).or_default().insert(member);
                }
            }
            MemberEvent::Lost(partitions) => {
                for partition in partitions {
                    books.note(partition, format!("lost by {member}"));
                    books.owners.entry(partition.clone()).or_default().remove(&member);
                    books.lost.insert((member, partition.clone()));
                }
            }
            _ => {}
        }
    }

    /// A member says something.
    pub(crate) fn command(&self, member: Number, command: &Command) {
        let mut books = self.books();
        match command {
            Command::Commit { offsets, .. } => {
                for commit in offsets {
                    let (partition, offset) = (&commit.partition, commit.committed.offset);
                    books.check(member, partition, &format!("commits {offset} of"));
                    let next = books.next.get(partition).copied().unwrap_or(0);
                    if offset > next {
                        books.wrong.push(format!(
                            "{offset} of {partition} is committed, {next} not handled"
                        ));
                    }
                }
            }
            Command::Release(partitions) => {
                for partition in partitions {
                    books.note(partition, format!("released by {member}"));
                    let owners = books.owners.entry(partition.clone()).or_default();
                    // What it released before it may release once more, to no effect.
                    if owners.remove(&member) && !owners.is_empty() {
                        let owners = owners.clone();
                        let history = books.history[partition].join(", ");
                        let text = format!(
                            "{owners:?} had {partition} before {member} released it: {history}"
                        );
                        books.wrong.push(text);
                    }
                }
            }
            // With all that it is given while it is on its way out.
            Command::Leave => books.forget(member),
            _ => {}
        }
    }

    /// A record is given to a member's handler.
    pub(crate) fn begins(&self, member: Number, record: &Record) {
        let mut books = self.books();
        let partition = record.topic_partition();
        books.check(member, &partition, "handles a record of");
        let next = books.next.entry(partition.clone()).or_default();
        if record.offset > *next {
            let text = format!("{partition}@{} is handled before {next}", record.offset);
            books.wrong.push(text);
        } else if record.offset == *next {
            *next += 1;
        }
    }

    /// The handler is done with it.
    pub(crate) fn ends(&self, member: Number, record: &Record) {
        self.books().check(member, &record.topic_partition(), "is done only now with a record of");
    }

    /// A member is no more, whatever it was doing.
    pub(crate) fn kill(&self, member: Number) {
        self.books().forget(member);
    }

    /// How many records of a partition were handled, all from its first on.
    pub(crate) fn handled(&self, partition: &TopicPartition) -> u64 {
        self.books().next.get(partition).copied().unwrap_or(0)
    }

    pub(crate) fn wrong(&self) -> Vec<String> {
        self.books().wrong.clone()
    }
}

impl Books {
    fn note(&mut self, partition: &TopicPartition, what: String) {
        self.history.entry(partition.clone()).or_default().push(what);
    }

    fn forget(&mut self, member: Number) {
        for (partition, owners) in &self.owners {
            if owners.contains(&member) {
                let history = self.history.entry(partition.clone()).or_default();
                history.push(format!("{member} is gone"));
            }
        }
        self.gone.insert(member);
        self.owners.values_mut().for_each(|owners| owners.retain(|owner| *owner != member));
    }

    fn check(&mut self, member: Number, partition: &TopicPartition, what: &str) {
        let owns = self.owners.get(partition).is_some_and(|owners| owners.contains(&member));
        if !owns
            && !self.gone.contains(&member)
            && !self.lost.contains(&(member, partition.clone()))
        {
            self.wrong.push(format!("member {member} {what} {partition}, which it does not have"));
        }
    }
}
