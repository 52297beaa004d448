//! Under exactly-once, a reader of what is committed finds for each record its output or its letter, and that once; what was
//! parked and given back has one of each. Under any delivery, nothing is in the output that no record asked for.

use std::collections::{BTreeMap, BTreeSet};

use keyway::config::{Delivery, OnReject};

use crate::history::History;

pub(super) fn check(history: &History) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    history.output.iter().for_each(|id| *counts.entry(id).or_default() += 1);
    let known: BTreeSet<_> = history.source.values().map(|kept| kept.id.as_str()).collect();
    let unknown = counts.keys().filter(|id| !known.contains(*id));
    let mut broken: Vec<_> =
        unknown.map(|id| format!("{id} is in the output and not in the source")).collect();
    if history.promises.delivery == Delivery::ExactlyOnce {
        let lettered = |spot| history.letters.iter().filter(|it| it.source == spot).count();
        for (spot, kept) in &history.source {
            let outputs = counts.get(kept.id.as_str()).copied().unwrap_or(0);
            let letters = lettered(*spot);
            let is_once = match history.promises.on_reject {
                OnReject::Park => outputs <= 1 && letters <= 1,
                _ => outputs + letters <= 1,
            };
            if !is_once {
                broken.push(format!(
                    "{} at {spot} has {outputs} outputs and {letters} letters",
                    kept.id
                ));
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use keyway::config::{Delivery, OnReject};

    use super::super::scene::Scene;

    #[test]
    fn twice_is_too_often_under_exactly_once_only() {
        let mut scene = Scene::default().acknowledged(0, 0, "k").emitted(0, 0).emitted(0, 0);
        assert_eq!(super::check(&scene.history()), [""; 0]);
        scene.promises.delivery = Delivery::ExactlyOnce;
        assert!(super::check(&scene.history())[0].contains("2 outputs"));
    }

    #[test]
    fn a_letter_beside_the_output_is_too_much() {
        let mut scene = Scene::default().acknowledged(0, 0, "k").emitted(0, 0).letter(0, 0);
        scene.promises.delivery = Delivery::ExactlyOnce;
        assert!(super::check(&scene.history())[0].contains("1 outputs and 1 letters"));
    }

    #[test]
    fn what_was_parked_has_its_letter_and_later_its_output() {
        let mut scene = Scene::default().acknowledged(0, 0, "k").letter(0, 0).emitted(0, 0);
        scene.promises.delivery = Delivery::ExactlyOnce;
        scene.promises.on_reject = OnReject::Park;
        assert_eq!(super::check(&scene.history()), [""; 0]);
        assert!(super::check(&scene.letter(0, 0).history())[0].contains("2 letters"));
    }

    #[test]
    fn output_of_nothing_is_wrong() {
        let mut history = Scene::default().history();
        history.output.push("stranger".into());
        assert!(super::check(&history)[0].contains("stranger is in the output"));
    }
}
