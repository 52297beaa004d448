//! Nothing acknowledged is lost: it is where its answer said, and whatever the source topic keeps has its output or its
//! letter; its output in any case where records are parked, since at the end they are all given back.

use std::collections::BTreeSet;

use keyway::config::OnReject;

use crate::history::History;

pub(super) fn check(history: &History) -> Vec<String> {
    let mut broken = Vec::new();
    for acknowledged in &history.acknowledged {
        let kept = history.source.get(&acknowledged.spot).map(|kept| &kept.id);
        if kept != Some(&acknowledged.id) {
            let (id, spot) = (&acknowledged.id, acknowledged.spot);
            broken.push(format!("{id} was acknowledged at {spot}, where {kept:?} is kept"));
        }
    }
    let emitted: BTreeSet<_> = history.output.iter().collect();
    let (lettered, handled) = (history.lettered(), history.handled());
    let is_parking = history.promises.on_reject == OnReject::Park;
    for (spot, kept) in &history.source {
        if !emitted.contains(&kept.id) && (is_parking || !lettered.contains(spot)) {
            let how = match (handled.contains_key(spot), lettered.contains(spot)) {
                (true, _) => "was handled, and its output is not there",
                (false, true) => "was parked and given back, and never handled",
                (false, false) => "was never handled",
            };
            broken.push(format!("{} at {spot} {how}", kept.id));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use keyway::config::OnReject;

    use super::super::scene::Scene;

    #[test]
    fn a_record_that_is_kept_and_has_its_output_is_not_lost() {
        let scene = Scene::default().acknowledged(0, 0, "k").handled(0, 0).emitted(0, 0);
        assert_eq!(super::check(&scene.history()), [""; 0]);
    }

    #[test]
    fn an_acknowledged_record_that_the_topic_does_not_keep_is_lost() {
        let mut history = Scene::default().acknowledged(0, 0, "k").emitted(0, 0).history();
        history.source.clear();
        assert!(super::check(&history)[0].contains("was acknowledged at 0@0"));
    }

    #[test]
    fn a_record_that_nobody_handled_is_lost() {
        let scene = Scene::default().acknowledged(0, 0, "k");
        assert!(super::check(&scene.history())[0].contains("was never handled"));
    }

    #[test]
    fn a_record_whose_output_is_not_there_is_lost() {
        let scene = Scene::default().acknowledged(0, 0, "k").handled(0, 0);
        assert!(super::check(&scene.history())[0].contains("its output is not there"));
    }

    #[test]
    fn a_letter_is_as_good_as_output() {
        let scene = Scene::default().acknowledged(0, 0, "k").letter(0, 0);
        assert_eq!(super::check(&scene.history()), [""; 0]);
    }

    #[test]
    fn a_parked_record_has_to_be_handled_in_the_end() {
        let mut scene = Scene::default().acknowledged(0, 0, "k").letter(0, 0);
        scene.promises.on_reject = OnReject::Park;
        assert!(super::check(&scene.clone().history())[0].contains("was parked and given back"));
        let scene = scene.handled(0, 0).emitted(0, 0);
        assert_eq!(super::check(&scene.history()), [""; 0]);
    }
}
