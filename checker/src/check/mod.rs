//! The rules: each a pure function from a history to what breaks it.

mod commits;
mod lost;
mod once;
mod order;
mod parked;
mod revoked;
#[cfg(test)]
mod scene;

use std::fmt;

use crate::history::{Event, History};

/// A rule that was broken, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: &'static str,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// What a history breaks of a rule, in words.
type Rule = fn(&History) -> Vec<String>;

/// Everything that a history breaks; nothing, if it is sound.
pub(crate) fn check(history: &History) -> Vec<Violation> {
    let rules: [(&'static str, Rule); 7] = [
        ("everything was seen", seen),
        ("nothing acknowledged is lost", lost::check),
        ("a lane is handled in order", order::check),
        ("a revoked partition is left alone", revoked::check),
        ("a commit passes nothing unfinished, and is believed", commits::check),
        ("output and letters are written once", once::check),
        ("a parked lane stays in order", parked::check),
    ];
    let broken = rules.into_iter().flat_map(|(rule, check)| {
        check(history).into_iter().map(move |what| Violation { rule, what })
    });
    broken.collect()
}

/// Where the log lacks lines of the handler, no other rule means anything.
fn seen(history: &History) -> Vec<String> {
    let blinded = |event: &Event| matches!(event, Event::Blinded);
    let processes = history.processes.iter();
    let blind = processes.filter(|process| process.lines.iter().any(|line| blinded(&line.event)));
    blind.map(|process| format!("{} left lines out of its log", process.name)).collect()
}
