//! Tiny histories for the tests of the rules: each call is one moment later than the one before.

use std::{collections::BTreeMap, time::Duration};

use keyway::{
    config::{Delivery, OnReject, Ordering},
    dispatch::OffsetMap,
};

use crate::history::{
    Acknowledged, At, Commit, Ending, Event, History, Kept, Letter, Line, Process, Promises, Spot,
};

/// A history in the making. Its group is ordered by key, at least once, with dead letters.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) promises: Promises,
    acknowledged: Vec<Acknowledged>,
    source: BTreeMap<Spot, Kept>,
    output: Vec<String>,
    letters: Vec<Letter>,
    commits: Vec<Commit>,
    processes: Vec<Process>,
    now: At,
}

impl Default for Scene {
    fn default() -> Self {
        let promises = Promises {
            ordering: Ordering::Key,
            delivery: Delivery::AtLeastOnce,
            on_reject: OnReject::DeadLetter,
        };
        let scene = Self {
            promises,
            acknowledged: Vec::new(),
            source: BTreeMap::new(),
            output: Vec::new(),
            letters: Vec::new(),
            commits: Vec::new(),
            processes: Vec::new(),
            now: Duration::ZERO,
        };
        scene.next_process()
    }
}

impl Scene {
    pub(super) fn history(&self) -> History {
        let Self { promises, acknowledged, source, output, letters, commits, processes, .. } =
            self.clone();
        History { promises, acknowledged, source, output, letters, commits, processes }
    }

    /// From here on another process speaks.
    pub(super) fn next_process(mut self) -> Self {
        let name = format!("process {}", self.processes.len());
        self.processes.push(Process { name, lines: Vec::new() });
        self
    }

    pub(super) fn acknowledged(mut self, partition: u32, offset: u64, key: &str) -> Self {
        let (spot, id) = (Spot::new(partition, offset), id(partition, offset));
        self.acknowledged.push(Acknowledged { spot, id: id.clone() });
        self.source.insert(spot, Kept { key: Some(key.into()), id });
        self
    }

    pub(super) fn emitted(mut self, partition: u32, offset: u64) -> Self {
        self.output.push(id(partition, offset));
        self
    }

    pub(super) fn letter(mut self, partition: u32, offset: u64) -> Self {
        let (at, number) = (self.later(), self.letters.len() as u64);
        self.letters.push(Letter { source: Spot::new(partition, offset), offset: number, at });
        self
    }

    /// A commit at an offset, with everything above it up to `end` finished but the offset itself.
    pub(super) fn committed(mut self, partition: u32, offset: u64, end: u64) -> Self {
        let (at, unfinished) = (self.later(), offset..(offset + 1).min(end));
        let map = OffsetMap::new(offset, end, Some(unfinished).filter(|it| !it.is_empty()));
        self.commits.push(Commit { at, partition, offset, map });
        self
    }

    pub(super) fn assigned(self, member: &str, partition: u32) -> Self {
        self.says(Event::Assigned { member: member.into(), partition })
    }

    pub(super) fn released(self, member: &str, partition: u32) -> Self {
        self.says(Event::Released { member: member.into(), partition })
    }

    pub(super) fn gone(self, member: &str, partition: u32) -> Self {
        self.says(Event::Gone { member: member.into(), partition })
    }

    pub(super) fn handed_over(self, member: &str, partition: u32, offset: u64) -> Self {
        let first = Spot::new(partition, offset);
        self.says(Event::HandedOver { member: member.into(), first })
    }

    pub(super) fn began(self, partition: u32, offset: u64) -> Self {
        self.says(Event::Began { spot: Spot::new(partition, offset) })
    }

    pub(super) fn ended(self, partition: u32, offset: u64) -> Self {
        self.says(Event::Ended { spot: Spot::new(partition, offset), ending: Ending::Handled })
    }

    pub(super) fn handled(self, partition: u32, offset: u64) -> Self {
        self.began(partition, offset).ended(partition, offset)
    }

    pub(super) fn failed(self, partition: u32, offset: u64) -> Self {
        let spot = Spot::new(partition, offset);
        self.began(partition, offset).says(Event::Ended { spot, ending: Ending::Failed })
    }

    pub(super) fn gave_up(self, partition: u32, offset: u64) -> Self {
        self.says(Event::GaveUp { spot: Spot::new(partition, offset) })
    }

    fn says(mut self, event: Event) -> Self {
        let at = self.later();
        let process = self.processes.last_mut().expect("there is one from the beginning");
        process.lines.push(Line { at, event });
        self
    }

    fn later(&mut self) -> At {
        self.now += Duration::from_millis(1);
        self.now
    }
}

fn id(partition: u32, offset: u64) -> String {
    format!("{partition}-{offset}")
}
