//! How many lanes are handed to the handler together: as many as it has shown that it gets done with quickly. Plain data.
//!
//! One hop between threads for many lanes is what makes a record of a lane of its own cheap. But where calls wait or take
//! long, lanes that are handed over together come back without having had their turn, so there it is one at a time.

/// The most lanes at once.
const MOST: usize = 256;

/// What the calls so far have shown.
#[derive(Debug)]
pub(super) struct Width {
    lanes: usize,
    /// Among so many threads what is ready is shared out.
    threads: usize,
}

impl Width {
    /// One lane at a time, for a handler on so many threads.
    pub(super) fn new(threads: usize) -> Self {
        Self { lanes: 1, threads: threads.max(1) }
    }

    /// How many lanes to hand over together, of those that are `ready`: one at the least.
    pub(super) fn of(&self, ready: usize) -> usize {
        self.lanes.min(ready.div_ceil(self.threads)).max(1)
    }

    /// Of lanes that were handed over together, so many had their turn and did not wait.
    pub(super) fn learn(&mut self, quick: usize) {
        self.lanes = (2 * quick).clamp(1, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_while_calls_are_quick_and_is_one_lane_after_a_wait() {
        let mut width = Width::new(1);
        let mut grown = Vec::new();
        for _ in 0..10 {
            grown.push(width.of(1000));
            width.learn(width.of(1000));
        }
        assert_eq!(grown, [1, 2, 4, 8, 16, 32, 64, 128, 256, 256]);
        width.learn(5); // the sixth took too long
        assert_eq!(width.of(1000), 10);
        width.learn(0);
        assert_eq!(width.of(1000), 1);
    }

    #[test]
    fn what_is_ready_is_shared_out_among_the_threads() {
        let mut width = Width::new(2);
        width.learn(100);
        assert_eq!([0, 1, 2, 3, 100].map(|ready| width.of(ready)), [1, 1, 1, 2, 50]);
    }
}
