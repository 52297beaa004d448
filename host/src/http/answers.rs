//! How many requests the data port has answered, by status.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;

/// The statuses that HTTP has: 100 to 599.
const FIRST: u16 = 100;
const STATUSES: usize = 500;

/// Counts answers. Shared between the data port and whoever shows it.
#[derive(Debug)]
pub struct Answers([AtomicU64; STATUSES]);

impl Default for Answers {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; STATUSES])
    }
}

impl Answers {
    pub(super) fn count(&self, status: StatusCode) {
        if let Some(counter) = self.0.get(usize::from(status.as_u16() - FIRST)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each status that was ever answered, ascending, with how often since the start.
    pub fn by_status(&self) -> Vec<(u16, u64)> {
        let counts = self.0.iter().map(|counter| counter.load(Ordering::Relaxed));
        (FIRST..).zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_counted_apart() {
        let answers = Answers::default();
        for status in [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK] {
            answers.count(status);
        }
        assert_eq!(answers.by_status(), [(200, 2), (503, 1)]);
    }
}
