//! The history's rules by example, and its room against a plain account of what happened.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{handler::Generation, record::TopicPartition};

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

/// What served, in the order given, each a second after the one before.
fn history(steps: &[(u8, By)]) -> History {
    let mut history = History::default();
    for ((byte, by), second) in steps.iter().zip(1..) {
        history.apply(&Change::Serve { digest: digest(*byte), by: *by, since: at(second) });
    }
    history
}

fn beginning(byte: u8, offset: u64, second: u64) -> Change {
    Change::Begin(Beginning {
        group: Some("g".into()),
        partition: TopicPartition::new("t", 0),
        offset,
        generation: Generation { plugin: "p".into(), digest: [byte; 32] },
        at: at(second),
    })
}

fn all(_: Digest) -> bool {
    true
}

#[test]
fn a_file_that_was_rolled_back_from_is_not_taken_until_it_holds_another_one() {
    let mut it = history(&[(1, By::File), (2, By::File), (1, By::Rollback)]);
    assert_eq!(it.instead_of(Some(digest(2))), Some(digest(1)));
    assert_eq!(it.instead_of(None), Some(digest(1)), "the file is gone");
    assert_eq!(it.instead_of(Some(digest(3))), None, "a new file");
    it.apply(&Change::Serve { digest: digest(3), by: By::File, since: at(9) });
    assert_eq!(it.instead_of(Some(digest(2))), None, "it was put there after another one");
    assert_eq!(it.instead_of(None), None);
}

#[test]
fn a_file_that_was_refused_is_not_begun_with() {
    let mut it = history(&[(1, By::File)]);
    let (reason, refused) = ("it is text".to_owned(), digest(2));
    it.apply(&Change::Refuse(Refusal { digest: refused, at: at(2), reason }));
    assert_eq!(it.instead_of(Some(refused)), Some(digest(1)));
    it.apply(&Change::Serve { digest: refused, by: By::File, since: at(3) });
    assert!(it.refused().is_empty(), "it was good after all");
}

#[test]
fn what_serves_already_is_news_only_where_something_was_against_it() {
    let mut it = history(&[(1, By::File)]);
    let again = Change::Serve { digest: digest(1), by: By::File, since: at(9) };
    let before = it.clone();
    assert!(!it.apply(&again), "as after a restart");
    assert_eq!(it, before);
    let (reason, refused) = ("it was half written".to_owned(), digest(1));
    it.apply(&Change::Refuse(Refusal { digest: refused, at: at(2), reason }));
    assert!(it.apply(&again), "it was good after all");
    assert_eq!(it, before);
    let mut rolled_back = history(&[(1, By::File), (2, By::File), (1, By::Rollback)]);
    assert!(rolled_back.apply(&again), "nothing is set aside any more");
    assert!(!rolled_back.apply(&again));
}

#[test]
fn each_rollback_goes_one_further_back_and_never_forward() {
    let mut it = history(&[(1, By::File), (2, By::File), (3, By::File)]);
    for (expected, second) in [(2, 10), (1, 11)] {
        assert_eq!(it.older(all), Ok(digest(expected)));
        let since = at(second);
        it.apply(&Change::Serve { digest: digest(expected), by: By::Rollback, since });
    }
    assert_eq!(it.older(all), Err(Unfit::NoOlder));
    assert_eq!(it.set_aside().collect::<Vec<_>>(), [digest(2), digest(3)]);
    assert_eq!(history(&[(1, By::File), (2, By::File)]).older(|_| false), Err(Unfit::NoOlder));
}

#[test]
fn what_was_rolled_back_from_once_is_not_gone_back_to_from_its_successor() {
    let it = history(&[(1, By::File), (2, By::File), (1, By::Rollback), (3, By::File)]);
    assert_eq!(it.older(all), Ok(digest(1)));
    let again = history(&[(1, By::File), (2, By::File), (1, By::File), (2, By::Rollback)]);
    assert!(again.is_set_aside(digest(1)), "it came after the other one");
}

#[test]
fn a_generation_is_found_by_digits_that_only_it_begins_with() {
    let mut it = history(&[(0xab, By::File), (0xac, By::File), (0x10, By::File)]);
    assert_eq!(it.find("ab", all), Ok(digest(0xab)));
    assert_eq!(it.find("AC", all), Ok(digest(0xac)), "in capitals, too");
    assert_eq!(it.find("a", all), Err(Unfit::Ambiguous(vec![digest(0xab), digest(0xac)])));
    assert_eq!(it.find("10", all), Err(Unfit::Serves(digest(0x10))));
    for none in ["", "b", "not hex"] {
        assert_eq!(it.find(none, all), Err(Unfit::Unknown), "{none}");
    }
    assert_eq!(it.find("ab", |_| false), Err(Unfit::Unknown), "its bytes are gone");
    // Forward again is a way, too, and back from there.
    it.apply(&Change::Serve { digest: digest(0xac), by: By::Rollback, since: at(8) });
    it.apply(&Change::Serve { digest: digest(0x10), by: By::Rollback, since: at(9) });
    assert_eq!((it.set_aside().count(), it.older(all)), (0, Ok(digest(0xac))));
}

#[test]
fn what_became_of_each_is_told_by_what_came_after_it() {
    let it = history(&[(1, By::File), (2, By::File), (1, By::Rollback), (3, By::File)]);
    let fates: Vec<_> = it.periods().map(|(_, until, fate)| (until, fate)).collect();
    let expected = [
        (Some(at(2)), Fate::Replaced),
        (Some(at(3)), Fate::RolledBack),
        (Some(at(4)), Fate::Replaced),
        (None, Fate::Serving),
    ];
    assert_eq!(fates, expected);
}

#[test]
fn a_beginning_belongs_to_the_period_that_it_was_seen_in_even_when_it_is_told_late() {
    let mut it = history(&[(1, By::File), (2, By::File), (1, By::Rollback)]);
    for (byte, offset, second) in [(1, 10, 1), (2, 20, 2), (1, 9, 2), (1, 30, 3), (1, 31, 3)] {
        it.apply(&beginning(byte, offset, second));
    }
    let firsts: Vec<_> = it.periods().map(|(period, ..)| period.first_offsets[0].offset).collect();
    assert_eq!(firsts, [9, 20, 30]);
    assert!(!it.apply(&beginning(1, 40, 5)), "later records are no news");
    assert!(!it.apply(&beginning(7, 1, 5)), "nobody knows this one");
}

#[test]
fn a_history_is_read_as_it_was_written_and_a_change_made_again_changes_nothing() {
    let mut it = history(&[(1, By::File), (2, By::File), (1, By::Rollback)]);
    it.apply(&beginning(1, 30, 3));
    let reason = "it is text".to_owned();
    it.apply(&Change::Refuse(Refusal { digest: digest(9), at: at(4), reason }));
    let text = serde_json::to_string(&it).unwrap();
    assert_eq!(serde_json::from_str::<History>(&text).unwrap(), it);
    let mut again = it.clone();
    again.apply(&Change::Serve { digest: digest(1), by: By::Rollback, since: at(3) });
    again.apply(&beginning(1, 30, 3));
    assert_eq!(again, it);
}

#[test]
fn a_digest_is_its_64_digits_and_nothing_else() {
    let text = digest(0xa0).to_string();
    assert_eq!(Digest::try_from(text.clone()), Ok(digest(0xa0)));
    for wrong in ["", &text[1..], &text.replacen('a', "g", 1), &text.replacen("a0", "é", 1)] {
        assert!(Digest::try_from(wrong.to_owned()).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn the_newest_are_kept_within_the_room_and_what_serves_always(
        served in prop::collection::vec((0..12u8, any::<bool>()), 1..80),
        sizes in prop::collection::vec(1..50u64, 12),
        generations in 1..6usize,
        bytes in 1..120u64,
    ) {
        let by = |rollback| if rollback { By::Rollback } else { By::File };
        let steps: Vec<_> = served.iter().map(|(byte, rollback)| (*byte, by(*rollback))).collect();
        let it = history(&steps);
        let mut kept: BTreeMap<_, _> =
            served.iter().map(|(byte, _)| (digest(*byte), sizes[usize::from(*byte)])).collect();
        kept.insert(digest(99), 7); // another process's
        let surplus = it.surplus(&kept, Bounds { generations, bytes });

        let mut newest = Vec::new();
        for (byte, _) in served.iter().rev() {
            if !newest.contains(byte) {
                newest.push(*byte);
            }
        }
        let mut stay = 0;
        let mut sum = 0;
        for byte in &newest {
            sum += sizes[usize::from(*byte)];
            if stay > 0 && (stay == generations || sum > bytes) {
                break;
            }
            stay += 1;
        }
        let remembered: BTreeSet<_> = it.periods().map(|(period, ..)| period.digest).collect();
        let mut expected: Vec<_> =
            newest[stay..].iter().map(|byte| digest(*byte)).filter(|digest| remembered.contains(digest)).collect();
        expected.sort();
        prop_assert_eq!(surplus, expected);
    }
}
