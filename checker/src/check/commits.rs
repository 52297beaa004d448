//! A commit passes nothing unfinished, and is believed: what was seen committed had all been finished by then, its map
//! included, and who is assigned the partition later handles nothing of it again.

use std::collections::BTreeSet;

use crate::history::{At, Commit, Event, History, Process, Spot};

pub(super) fn check(history: &History) -> Vec<String> {
    let mut broken = unfinished(history);
    let lettered = history.lettered();
    broken.extend(history.processes.iter().flat_map(|process| again(history, process, &lettered)));
    broken
}

/// What commits passed that was not finished when they were seen.
fn unfinished(history: &History) -> Vec<String> {
    let finished = history.finished();
    let mut broken = Vec::new();
    for commit in &history.commits {
        let end = commit.offset.max(commit.map.end());
        let (from, to) = (Spot::new(commit.partition, 0), Spot::new(commit.partition, end));
        for (spot, _) in history.source.range(from..to) {
            let is_finished = finished.get(spot).is_some_and(|at| *at <= commit.at);
            if commit.covers(spot.offset) && !is_finished {
                broken.push(format!(
                    "{spot} was not finished when the offset {} was committed, with a map up to {}",
                    commit.offset,
                    commit.map.end()
                ));
            }
        }
    }
    broken
}

/// What a process handled though it had been committed before the partition was assigned to it. A parked record that is
/// given back is handled in its own right.
fn again(history: &History, process: &Process, lettered: &BTreeSet<Spot>) -> Vec<String> {
    let mut broken = Vec::new();
    let mut believed: Vec<&Commit> = Vec::new();
    for line in &process.lines {
        match &line.event {
            Event::Assigned { partition, .. } => {
                believed.retain(|commit| commit.partition != *partition);
                believed.extend(latest(history, *partition, line.at));
            }
            Event::Began { spot } if !lettered.contains(spot) => {
                let covers = |commit: &&&Commit| {
                    commit.partition == spot.partition && commit.covers(spot.offset)
                };
                if let Some(commit) = believed.iter().find(covers) {
                    broken.push(format!(
                        "{} began {spot} again, which was finished by the commit at {} with a map up to {}",
                        process.name, commit.offset, commit.map.end()
                    ));
                }
            }
            _ => {}
        }
    }
    broken
}

fn latest(history: &History, partition: u32, before: At) -> Option<&Commit> {
    let commits = history.commits.iter();
    commits.filter(|it| it.partition == partition && it.at < before).max_by_key(|it| it.at)
}

#[cfg(test)]
mod tests {
    use super::super::scene::Scene;

    fn two() -> Scene {
        Scene::default().acknowledged(0, 0, "a").acknowledged(0, 1, "b").assigned("m", 0)
    }

    #[test]
    fn a_commit_behind_what_is_finished_is_sound() {
        let scene = two().handled(0, 0).committed(0, 1, 1).handled(0, 1).committed(0, 2, 2);
        assert_eq!(super::check(&scene.history()), [""; 0]);
    }

    #[test]
    fn a_commit_that_passes_what_is_in_hands_is_not() {
        let scene = two().began(0, 0).committed(0, 1, 1).ended(0, 0);
        assert!(super::check(&scene.history())[0].contains("0@0 was not finished"));
    }

    #[test]
    fn nor_is_a_map_that_does() {
        let scene = two().began(0, 1).committed(0, 0, 2);
        assert!(super::check(&scene.history())[0].contains("0@1 was not finished"));
    }

    #[test]
    fn a_record_that_was_given_up_on_is_finished() {
        let scene = two().failed(0, 0).gave_up(0, 0).committed(0, 1, 1);
        assert_eq!(super::check(&scene.history()), [""; 0]);
    }

    #[test]
    fn what_a_map_says_is_finished_is_not_handled_again() {
        let scene = two().handled(0, 1).committed(0, 0, 2).next_process().assigned("n", 0);
        assert_eq!(super::check(&scene.clone().handled(0, 0).history()), [""; 0]);
        assert!(super::check(&scene.handled(0, 1).history())[0].contains("0@1 again"));
    }

    #[test]
    fn who_had_the_partition_before_the_commit_need_not_know_of_it() {
        let scene = two().handled(0, 0).committed(0, 1, 1).handled(0, 0);
        assert_eq!(super::check(&scene.history()), [""; 0]);
    }
}
