//! What is logged, for tests that ask whether something was said.

use std::{
    io,
    sync::{Mutex, OnceLock, PoisonError},
};

static LINES: Mutex<String> = Mutex::new(String::new());

struct Captured;

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes down what every thread logs from now on. Tests run side by side: each looks for names of its own.
pub(crate) fn capture() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Captured);
        subscriber.init();
    });
}

/// The lines so far that contain all of `words`.
pub(crate) fn lines(words: &[&str]) -> Vec<String> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
    lines.lines().filter(has_all).map(str::to_owned).collect()
}
