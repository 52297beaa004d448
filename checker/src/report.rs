//! What is printed of episodes, and counted over all of them.

use std::{collections::BTreeMap, fmt};

use crate::{
    episode::Report,
    error::Error,
    history::{Ending, Event, History},
};

/// Violations of a rule that are printed of an episode; the rest is only counted.
const SHOWN: usize = 5;

/// All episodes of a run.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) episodes: usize,
    pub(crate) failed: usize,
    faults: BTreeMap<&'static str, usize>,
    counts: BTreeMap<&'static str, usize>,
}

impl Totals {
    /// Prints what came of an episode; says whether it was sound.
    pub(crate) fn show(&mut self, report: &Report) -> bool {
        let Report { history, violations, faults, settled } = report;
        println!("  faults: {}; all handled {settled:.1?} after the last", listing(faults));
        let counts = counts(history);
        println!("  {}", listing(&counts));
        for of_one_rule in violations.chunk_by(|a, b| a.rule == b.rule) {
            of_one_rule.iter().take(SHOWN).for_each(|violation| println!("  BROKEN {violation}"));
            if of_one_rule.len() > SHOWN {
                println!("  and {} more of this", of_one_rule.len() - SHOWN);
            }
        }
        self.episodes += 1;
        self.failed += usize::from(!violations.is_empty());
        add(&mut self.faults, faults);
        add(&mut self.counts, &counts);
        violations.is_empty()
    }

    /// Prints why an episode was not carried out, which is as bad.
    pub(crate) fn show_error(&mut self, error: &Error) -> bool {
        println!("  FAILED {error}");
        self.episodes += 1;
        self.failed += 1;
        false
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "all faults: {}", listing(&self.faults))?;
        writeln!(f, "all records: {}", listing(&self.counts))?;
        write!(f, "{} episodes, {} failed,", self.episodes, self.failed)
    }
}

fn counts(history: &History) -> BTreeMap<&'static str, usize> {
    let ended = |how| {
        let is = |event: &Event| matches!(event, Event::Ended { ending, .. } if *ending == how);
        history.lines().filter(|(_, line)| is(&line.event)).count()
    };
    BTreeMap::from([
        ("acknowledged", history.acknowledged.len()),
        ("commits seen", history.commits.len()),
        ("emitted", history.output.len()),
        ("failed attempts", ended(Ending::Failed)),
        ("handled", ended(Ending::Handled)),
        ("kept", history.source.len()),
        ("letters", history.letters.len()),
    ])
}

fn add(sums: &mut BTreeMap<&'static str, usize>, counts: &BTreeMap<&'static str, usize>) {
    counts.iter().for_each(|(name, count)| *sums.entry(name).or_default() += count);
}

fn listing(counts: &BTreeMap<&'static str, usize>) -> String {
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    counts.join(", ")
}
