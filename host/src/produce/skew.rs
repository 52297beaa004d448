//! How the records of one topic are shared out among its partitions, over the last one to two minutes, and whether one
//! partition gets most of them. Pure: time passes when it is told so.
//!
//! Invariant: a topic is told to be skewed, or to be so no more, once for each time that it changes.

use super::sketch::{Hot, Sketch, hottest};

/// Keys that are counted in one window.
const KEYS: usize = 64;
/// Hottest keys that are told.
const HOTTEST: usize = 5;
/// Of the records of a window, so many are looked at for their keys; of those after them one in [`SAMPLE`], which counts as
/// so many.
const ALL_KEYS: u64 = 1024;
const SAMPLE: u64 = 32;
/// Records that a judgement wants; with fewer it stays as it is.
const ENOUGH: u64 = 100;
/// How much of the way from a fair share to all records one partition's share has to go for the topic to be skewed, and to
/// fall below for it to be so no more.
const BEGINS: f64 = 0.5;
const ENDS: f64 = 0.4;

/// What a partition got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Records.
    pub records: u64,
    /// Bytes of their keys, values and headers.
    pub bytes: u64,
    /// Of the records, those that were spread: that had neither key nor partition.
    pub spread: u64,
}

/// A partition that gets most records of its topic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Skewed {
    /// The partition.
    pub partition: u32,
    /// Its share of all records, by their keys or a partition that was given, from 0 to 1.
    pub share: f64,
}

/// How a topic's records are shared out.
#[derive(Clone, Debug, PartialEq)]
pub struct Skew {
    /// By partition, as far as any got something.
    pub partitions: Vec<Share>,
    /// The keys that were written most often, the hottest first.
    pub hottest: Vec<Hot>,
    /// The keys that callers gave most often where a key selector decided; `None`: it decided about no record.
    pub hottest_of_callers: Option<Vec<Hot>>,
    /// The partition that gets most of them.
    pub skewed: Option<Skewed>,
}

impl Skew {
    /// The largest share of all records that one partition got, by their keys or a partition that was given, from 0 to 1;
    /// `None`: there are no records.
    pub fn fullest(&self) -> Option<f64> {
        shares_of_all(&self.partitions)?.max_by(f64::total_cmp)
    }
}

/// A record that was written.
pub(super) struct Written<'a> {
    pub(super) partition: u32,
    pub(super) bytes: u64,
    pub(super) key: Option<&'a [u8]>,
    /// Nobody decided its partition.
    pub(super) spread: bool,
    /// Where a key selector decided: the key that the caller gave.
    pub(super) of_caller: Option<Option<&'a [u8]>>,
}

/// The records of one topic.
#[derive(Debug, Default)]
pub(super) struct Tally {
    now: Window,
    before: Window,
    skewed: Option<Skewed>,
}

/// The records of some time.
#[derive(Debug)]
struct Window {
    records: u64,
    partitions: Vec<Share>,
    keys: Sketch,
    of_callers: Option<Sketch>,
}

impl Default for Window {
    fn default() -> Self {
        Self { records: 0, partitions: Vec::new(), keys: Sketch::new(KEYS), of_callers: None }
    }
}

impl Tally {
    /// Counts a record. `chance` is a random number.
    pub(super) fn count(&mut self, written: &Written<'_>, chance: impl FnOnce() -> u64) {
        let window = &mut self.now;
        let at = written.partition as usize;
        if window.partitions.len() <= at {
            window.partitions.resize(at + 1, Share::default());
        }
        let share = &mut window.partitions[at];
        share.records += 1;
        share.bytes += written.bytes;
        share.spread += u64::from(written.spread);
        window.records += 1;
        let weight = match window.records {
            ..=ALL_KEYS => 1,
            _ if chance().is_multiple_of(SAMPLE) => SAMPLE,
            _ => return,
        };
        if let Some(key) = written.key {
            window.keys.add(key, weight);
        }
        if let Some(key) = written.of_caller {
            let keys = window.of_callers.get_or_insert_with(|| Sketch::new(KEYS));
            key.into_iter().for_each(|key| keys.add(key, weight));
        }
    }

    /// Begins a new window: what was counted before the last one is forgotten.
    pub(super) fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Records of both windows.
    pub(super) fn records(&self) -> u64 {
        self.now.records + self.before.records
    }

    /// Judges, for a topic with so many partitions. Says whether the judgement is another one than before.
    pub(super) fn judge(&mut self, partitions: u32) -> bool {
        let before = self.skewed;
        self.skewed = judgement(&self.shares(), before, partitions);
        before.map(|skewed| skewed.partition) != self.skewed.map(|skewed| skewed.partition)
    }

    /// The last judgement.
    pub(super) fn skewed(&self) -> Option<Skewed> {
        self.skewed
    }

    /// What is known.
    pub(super) fn skew(&self) -> Skew {
        let none = Sketch::new(KEYS);
        let of_callers = [&self.now, &self.before].map(|window| window.of_callers.as_ref());
        let is_selected = of_callers.iter().any(Option::is_some);
        let of_callers = of_callers.map(|keys| keys.unwrap_or(&none));
        Skew {
            partitions: self.shares(),
            hottest: hottest([&self.now.keys, &self.before.keys], HOTTEST),
            hottest_of_callers: is_selected.then(|| hottest(of_callers, HOTTEST)),
            skewed: self.skewed,
        }
    }

    fn shares(&self) -> Vec<Share> {
        let count = self.now.partitions.len().max(self.before.partitions.len());
        let of =
            |window: &Window, at: usize| window.partitions.get(at).copied().unwrap_or_default();
        let both = |at| {
            let (a, b) = (of(&self.now, at), of(&self.before, at));
            let (records, bytes) = (a.records + b.records, a.bytes + b.bytes);
            Share { records, bytes, spread: a.spread + b.spread }
        };
        (0..count).map(both).collect()
    }
}

/// Each partition's share of all records, if there are any. What nobody decided is spread by the broker: it goes in runs to
/// one partition, is no matter of keys, and counts for none.
fn shares_of_all(shares: &[Share]) -> Option<impl Iterator<Item = f64>> {
    let all: u64 = shares.iter().map(|share| share.records).sum();
    let of_all = move |share: &Share| (share.records - share.spread) as f64 / all as f64;
    (all > 0).then(|| shares.iter().map(of_all))
}

/// Which partition gets most of all records, if one does, and did `before`.
fn judgement(shares: &[Share], before: Option<Skewed>, partitions: u32) -> Option<Skewed> {
    let all: u64 = shares.iter().map(|share| share.records).sum();
    if partitions < 2 {
        return None;
    }
    let by_partition: Vec<_> = shares_of_all(shares)?.collect();
    let fair = 1.0 / f64::from(partitions);
    let bound = |way: f64| fair + (1.0 - fair) * way;
    let still = before.map(|before| {
        let now = by_partition.get(before.partition as usize).copied().unwrap_or_default();
        Skewed { share: now, ..before }
    });
    if all < ENOUGH {
        return still;
    }
    let largest = (0..).zip(by_partition).map(|(partition, share)| Skewed { partition, share });
    let largest = largest.max_by(|a, b| a.share.total_cmp(&b.share));
    let begins = largest.filter(|largest| largest.share > bound(BEGINS));
    begins.or(still.filter(|still| still.share >= bound(ENDS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(partition: u32, key: Option<&str>) -> Written<'_> {
        let key = key.map(str::as_bytes);
        Written { partition, bytes: 10, key, spread: key.is_none(), of_caller: None }
    }

    /// Counts so many records for each partition, with keys.
    fn add(tally: &mut Tally, counts: &[usize]) {
        for (partition, count) in (0..).zip(counts) {
            (0..*count).for_each(|_| tally.count(&written(partition, Some("k")), || 0));
        }
    }

    #[test]
    fn shares_are_of_this_window_and_the_one_before() {
        let mut tally = Tally::default();
        add(&mut tally, &[1, 2]);
        tally.turn();
        tally.count(&written(2, None), || 0);
        let records = |tally: &Tally| {
            let shares = tally.skew().partitions;
            shares.iter().map(|share| (share.records, share.spread)).collect::<Vec<_>>()
        };
        assert_eq!(records(&tally), [(1, 0), (2, 0), (1, 1)]);
        assert_eq!(tally.skew().partitions[1].bytes, 20);
        assert_eq!(tally.skew().fullest(), Some(0.5), "what was spread counts for no partition");
        tally.turn();
        assert_eq!(records(&tally), [(0, 0), (0, 0), (1, 1)]);
        tally.turn();
        assert_eq!((records(&tally), tally.records()), (vec![], 0));
        assert_eq!(tally.skew().fullest(), None);
    }

    #[test]
    fn a_topic_is_skewed_from_half_the_way_to_all_on_until_less_than_two_fifths() {
        // Of two partitions: from more than 75 % on, until less than 70 %.
        let mut tally = Tally::default();
        for (counts, expected, changed) in [
            ([75, 25], None, false),
            ([76, 24], Some(0), true),
            ([71, 29], Some(0), false),
            ([69, 31], None, true),
            ([75, 25], None, false),
            ([10, 90], Some(1), true),
            ([90, 10], Some(0), true),
        ] {
            (0..2).for_each(|_| tally.turn());
            add(&mut tally, &counts);
            assert_eq!(tally.judge(2), changed, "{counts:?}");
            assert_eq!(tally.skewed().map(|skewed| skewed.partition), expected, "{counts:?}");
        }
    }

    #[test]
    fn few_records_change_no_judgement_and_none_end_it() {
        let mut tally = Tally::default();
        add(&mut tally, &[99]);
        assert!(!tally.judge(3), "too few");
        add(&mut tally, &[1]);
        assert!(tally.judge(3));
        (0..2).for_each(|_| tally.turn());
        add(&mut tally, &[10, 80]);
        assert!(!tally.judge(3) && tally.skewed().is_some());
        (0..2).for_each(|_| tally.turn());
        assert!(tally.judge(3) && tally.skewed().is_none());
    }

    #[test]
    fn one_partition_alone_and_records_that_are_spread_are_no_skew() {
        let mut tally = Tally::default();
        add(&mut tally, &[1000]);
        assert!(!tally.judge(1));
        let mut tally = Tally::default();
        (0..1000).for_each(|_| tally.count(&written(0, None), || 0));
        assert!(!tally.judge(3));
    }

    #[test]
    fn keys_after_the_first_are_sampled_and_count_for_those_between() {
        let mut tally = Tally::default();
        let mut chance = 0;
        for _ in 0..ALL_KEYS + 10 * SAMPLE {
            tally.count(&written(0, Some("k")), || {
                chance += 1;
                chance
            });
        }
        assert_eq!(tally.skew().hottest[0].most, ALL_KEYS + 10 * SAMPLE);
    }

    #[test]
    fn the_keys_of_callers_are_counted_beside_those_that_were_selected() {
        let mut tally = Tally::default();
        add(&mut tally, &[1]);
        assert_eq!(tally.skew().hottest_of_callers, None);
        for caller in [Some("x"), Some("x"), None] {
            let of_caller = Some(caller.map(str::as_bytes));
            tally.count(&Written { of_caller, ..written(0, Some("selected")) }, || 0);
        }
        let skew = tally.skew();
        assert_eq!((&*skew.hottest[0].key, skew.hottest[0].most), (&b"selected"[..], 3));
        let of_callers = skew.hottest_of_callers.unwrap();
        assert_eq!((&*of_callers[0].key, of_callers[0].least, of_callers.len()), (&b"x"[..], 2, 1));
    }
}
