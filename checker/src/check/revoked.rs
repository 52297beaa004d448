//! A revoked partition is left alone: once its member has acknowledged that, it hands none of its records to the handler,
//! and the handler begins none in a process that has no other member for it.
//!
//! Judged within each process, by the order of its lines. A partition that was *lost*, which nobody asks for, may still
//! be in the handler's hands: of such a one nothing is committed, which another rule sees to.

use std::collections::BTreeSet;

use crate::history::{Event, History, Process};

pub(super) fn check(history: &History) -> Vec<String> {
    history.processes.iter().flat_map(check_process).collect()
}

fn check_process(process: &Process) -> Vec<String> {
    let mut held: BTreeSet<(u32, &str)> = BTreeSet::new();
    let mut released: BTreeSet<(u32, &str)> = BTreeSet::new();
    let mut broken = Vec::new();
    for line in &process.lines {
        match &line.event {
            Event::Assigned { member, partition } => {
                held.insert((*partition, member));
                released.remove(&(*partition, member.as_str()));
            }
            Event::Released { member, partition } => {
                held.remove(&(*partition, member.as_str()));
                released.insert((*partition, member));
            }
            Event::Gone { member, partition } => {
                held.remove(&(*partition, member.as_str()));
            }
            Event::HandedOver { member, first } => {
                if released.contains(&(first.partition, member.as_str())) {
                    broken.push(format!(
                        "{member} of {} handed {first} over after it had released the partition",
                        process.name
                    ));
                }
            }
            Event::Began { spot } => {
                let is_of = |(partition, _): &&(u32, &str)| *partition == spot.partition;
                if !held.iter().any(|it| is_of(&it)) && released.iter().any(|it| is_of(&it)) {
                    let name = &process.name;
                    broken.push(format!("{name} began {spot} after it had released the partition"));
                }
            }
            Event::Ended { .. } | Event::GaveUp { .. } | Event::Blinded => {}
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::super::scene::Scene;

    #[test]
    fn what_is_assigned_may_be_handled() {
        let scene = Scene::default().assigned("a", 0).handed_over("a", 0, 0).handled(0, 0);
        assert_eq!(super::check(&scene.history()), [""; 0]);
    }

    #[test]
    fn what_was_released_may_not() {
        let scene = Scene::default().assigned("a", 0).released("a", 0).handed_over("a", 0, 0);
        assert!(super::check(&scene.history())[0].contains("handed 0@0 over after"));
        let scene = Scene::default().assigned("a", 0).released("a", 0).handled(0, 0);
        assert!(super::check(&scene.history())[0].contains("began 0@0 after"));
    }

    #[test]
    fn not_even_by_its_old_member_while_another_has_it() {
        let scene = Scene::default().assigned("a", 0).released("a", 0).assigned("b", 0);
        assert_eq!(
            super::check(&scene.clone().handed_over("b", 0, 0).handled(0, 0).history()),
            [""; 0]
        );
        assert_eq!(super::check(&scene.handed_over("a", 0, 0).handled(0, 0).history()).len(), 1);
    }

    #[test]
    fn what_was_lost_may_still_be_in_the_handlers_hands() {
        let scene = Scene::default().assigned("a", 0).gone("a", 0).handled(0, 0);
        assert_eq!(super::check(&scene.history()), [""; 0]);
    }
}
