//! Records of one lane are handled one at a time and in the order of their offsets, retries included: the first attempt
//! at one begins after each one before it was finished. Where records are parked, only one that was handled lets the next
//! go, so that nothing of a parked lane overtakes what is parked.

use std::collections::BTreeMap;

use keyway::config::OnReject;

use crate::history::{At, Event, History, Lane, Spot, first};

/// The predecessor that was finished last, and when; never, where it is `None`.
type Barrier = (Spot, Option<At>);

pub(super) fn check(history: &History) -> Vec<String> {
    let finished = match history.promises.on_reject {
        OnReject::Park => history.handled(),
        _ => history.finished(),
    };
    let began = first(history.lines().filter_map(|(_, line)| match line.event {
        Event::Began { spot } => Some((spot, line.at)),
        _ => None,
    }));
    let mut barriers: BTreeMap<Lane, Barrier> = BTreeMap::new();
    let mut broken = Vec::new();
    for spot in history.source.keys().copied() {
        let Some(lane) = history.lane(spot) else { continue };
        let barrier = barriers.get(&lane).copied();
        if let (Some(began), Some((before, end))) = (began.get(&spot), barrier)
            && end.is_none_or(|end| end > *began)
        {
            let when = end.map_or("never finished".into(), |end| {
                format!("finished {:?} later", end - *began)
            });
            broken.push(format!("{spot} began before {before} of the lane {lane:?}, {when}"));
        }
        let mine = (spot, finished.get(&spot).copied());
        let later =
            |barrier: &Barrier| barrier.1.is_some_and(|end| mine.1.is_none_or(|at| at > end));
        if barrier.is_none_or(|barrier| later(&barrier)) {
            barriers.insert(lane, mine);
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use keyway::config::{OnReject, Ordering};

    use super::super::scene::Scene;

    fn two(key: &str) -> Scene {
        Scene::default().acknowledged(0, 0, "k").acknowledged(0, 1, key)
    }

    #[test]
    fn one_after_the_other_is_in_order() {
        let scene = two("k").handled(0, 0).handled(0, 1);
        assert_eq!(super::check(&scene.history()), [""; 0]);
    }

    #[test]
    fn another_attempt_at_what_was_handled_before_is_in_order() {
        let scene = two("k").handled(0, 0).handled(0, 1).handled(0, 0).handled(0, 1);
        assert_eq!(super::check(&scene.history()), [""; 0]);
    }

    #[test]
    fn overtaking_is_not() {
        let scene = two("k").handled(0, 1).handled(0, 0);
        assert!(super::check(&scene.history())[0].contains("0@1 began before 0@0"));
    }

    #[test]
    fn beginning_before_the_end_of_the_one_ahead_is_not() {
        let scene = two("k").began(0, 0).began(0, 1).ended(0, 0).ended(0, 1);
        assert!(super::check(&scene.history())[0].contains("0@1 began before 0@0"));
    }

    #[test]
    fn overtaking_one_that_waits_for_another_attempt_is_not() {
        let scene = two("k").failed(0, 0).handled(0, 1).handled(0, 0);
        assert_eq!(super::check(&scene.history()).len(), 1);
    }

    #[test]
    fn overtaking_one_that_is_never_handled_is_not() {
        let scene = two("k").handled(0, 1);
        assert!(super::check(&scene.history())[0].contains("never finished"));
    }

    #[test]
    fn other_keys_wait_only_where_the_partition_is_the_lane() {
        let mut scene = two("other").handled(0, 1).handled(0, 0);
        assert_eq!(super::check(&scene.history()), [""; 0]);
        scene.promises.ordering = Ordering::Partition;
        assert_eq!(super::check(&scene.history()).len(), 1);
    }

    #[test]
    fn one_that_was_given_up_on_lets_the_next_go_unless_it_is_parked() {
        let mut scene = two("k").failed(0, 0).gave_up(0, 0).letter(0, 0).handled(0, 1);
        assert_eq!(super::check(&scene.history()), [""; 0]);
        scene.promises.on_reject = OnReject::Park;
        assert_eq!(super::check(&scene.history()).len(), 1);
    }
}
