//! A parked lane stays in order: its letters are written in the order of their sources, and no record of it is begun
//! behind one that was parked before and not given back. That nothing overtakes at all, `order` sees to.
//!
//! A record that was handled may come again, as at least once has it, and find its lane parked by then: its letter comes
//! late, and says nothing of the order in which records are handled first.

use std::collections::{BTreeMap, BTreeSet};

use keyway::config::OnReject;

use crate::history::{Event, History, Lane, Letter};

pub(super) fn check(history: &History) -> Vec<String> {
    if history.promises.on_reject != OnReject::Park {
        return Vec::new();
    }
    let mut lanes: BTreeMap<Lane, Vec<&Letter>> = BTreeMap::new();
    let handled = history.handled();
    let is_new = |letter: &&Letter| handled.get(&letter.source).is_none_or(|at| letter.at < *at);
    for letter in history.letters.iter().filter(is_new) {
        if let Some(lane) = history.lane(letter.source) {
            lanes.entry(lane).or_default().push(letter);
        }
    }
    let mut broken = Vec::new();
    for (lane, letters) in &mut lanes {
        letters.sort_by_key(|letter| letter.offset);
        broken.extend(out_of_order(lane, letters));
        // One that was begun in the millisecond of a letter may have been begun before it.
        let begun = history.lines().filter_map(|(process, line)| match line.event {
            Event::Began { spot } if history.lane(spot).as_ref() == Some(lane) => {
                Some((process, spot, line.at))
            }
            _ => None,
        });
        for (process, spot, at) in begun {
            let holds = |letter: &&&Letter| {
                letter.source < spot
                    && letter.at.as_millis() < at.as_millis()
                    && handled.get(&letter.source).is_none_or(|given_back| *given_back > at)
            };
            if let Some(letter) = letters.iter().find(holds) {
                let (name, before) = (&process.name, letter.source);
                broken.push(format!("{name} began {spot}, behind {before}, which is parked"));
            }
        }
    }
    broken
}

/// Letters that come after one of a later record. One that is there already may be written again.
fn out_of_order(lane: &Lane, letters: &[&Letter]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut broken = Vec::new();
    for letter in letters {
        if let Some(last) = seen.last().filter(|last| **last > letter.source)
            && !seen.contains(&letter.source)
        {
            broken.push(format!("{} was parked behind {last} of the lane {lane:?}", letter.source));
        }
        seen.insert(letter.source);
    }
    broken
}

#[cfg(test)]
mod tests {
    use keyway::config::OnReject;

    use super::super::scene::Scene;

    fn parking() -> Scene {
        let mut scene = Scene::default().acknowledged(0, 0, "k").acknowledged(0, 1, "k");
        scene.promises.on_reject = OnReject::Park;
        scene
    }

    #[test]
    fn letters_in_order_are_sound_and_may_come_twice() {
        let scene = parking().letter(0, 0).letter(0, 1).letter(0, 0);
        assert_eq!(super::check(&scene.history()), [""; 0]);
    }

    #[test]
    fn letters_out_of_order_are_not() {
        let scene = parking().letter(0, 1).letter(0, 0);
        assert!(super::check(&scene.history())[0].contains("0@0 was parked behind 0@1"));
    }

    #[test]
    fn one_that_was_handled_before_its_lane_was_parked_may_be_parked_late() {
        let scene = parking().handled(0, 0).letter(0, 1).letter(0, 0);
        assert_eq!(super::check(&scene.history()), [""; 0]);
    }

    #[test]
    fn what_is_behind_a_parked_record_is_not_begun_before_that_is_given_back() {
        let scene = parking().letter(0, 0);
        assert!(super::check(&scene.clone().handled(0, 1).history())[0].contains("behind 0@0"));
        assert_eq!(super::check(&scene.handled(0, 0).handled(0, 1).history()), [""; 0]);
    }

    #[test]
    fn what_is_given_back_is_handled_in_its_order() {
        let scene = parking().acknowledged(0, 2, "k").letter(0, 0).letter(0, 1).handled(0, 0);
        assert!(super::check(&scene.clone().handled(0, 2).history())[0].contains("behind 0@1"));
        assert_eq!(super::check(&scene.handled(0, 1).handled(0, 2).history()), [""; 0]);
    }
}
