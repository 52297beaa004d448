//! `wasi:logging/logging`, and the bounds on whatever a guest says to the log.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use wasmtime::component::{HasSelf, Linker};

use super::super::{
    bindings::wasi::logging::logging::{self, Level},
    instance::State,
};

/// Bytes of one line; the rest is cut off.
pub(in super::super) const LINE: usize = 8 << 10;
/// Lines of one use in one second; the rest are counted.
const LINES_PER_SECOND: u32 = 1000;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    logging::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

impl logging::Host for State {
    fn log(&mut self, level: Level, context: String, message: String) {
        let level = match level {
            Level::Trace => tracing::Level::TRACE,
            Level::Debug => tracing::Level::DEBUG,
            Level::Info => tracing::Level::INFO,
            Level::Warn => tracing::Level::WARN,
            Level::Error | Level::Critical => tracing::Level::ERROR,
        };
        self.settings.log.line(level, &context, &message);
    }
}

/// The log of one use of a plugin.
#[derive(Debug)]
pub(in super::super) struct PluginLog {
    plugin: Arc<str>,
    owner: String,
    window: Mutex<Window>,
}

impl PluginLog {
    /// The log of `plugin` as `owner` uses it.
    pub(in super::super) fn new(plugin: Arc<str>, owner: &str) -> Self {
        Self { plugin, owner: owner.into(), window: Mutex::new(Window::new(Instant::now())) }
    }

    /// The log of the same plugin for another owner.
    pub(in super::super) fn of(&self, owner: String) -> Self {
        Self { plugin: self.plugin.clone(), owner, window: Mutex::new(Window::new(Instant::now())) }
    }

    /// Writes one line, within the bounds. The target is `plugin`, whatever the plugin.
    pub(in super::super) fn line(&self, level: tracing::Level, context: &str, message: &str) {
        let admitted =
            self.window.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        let Some(dropped) = admitted else { return };
        if dropped > 0 {
            tracing::warn!(
                target: "plugin", plugin = %self.plugin, owner = self.owner, dropped,
                "The plugin says more than the log takes: lines were left out."
            );
        }
        macro_rules! write {
            ($level:ident) => {
                tracing::event!(
                    target: "plugin", tracing::Level::$level, plugin = %self.plugin, owner = self.owner,
                    context = (!context.is_empty()).then(|| one_line(context)).as_deref(), "{}", one_line(message)
                )
            };
        }
        match level {
            tracing::Level::TRACE => write!(TRACE),
            tracing::Level::DEBUG => write!(DEBUG),
            tracing::Level::INFO => write!(INFO),
            tracing::Level::WARN => write!(WARN),
            tracing::Level::ERROR => write!(ERROR),
        }
    }
}

/// Counts the lines of a second.
#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    dropped: u64,
}

impl Window {
    fn new(began: Instant) -> Self {
        Self { began, lines: 0, dropped: 0 }
    }

    /// `Some` when a line may be written, with the number of those that were left out before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let mut dropped = 0;
        if now.saturating_duration_since(self.began) >= Duration::from_secs(1) {
            dropped = self.dropped;
            *self = Self::new(now);
        }
        if self.lines == LINES_PER_SECOND {
            self.dropped += 1;
            return None;
        }
        self.lines += 1;
        Some(dropped)
    }
}

/// At most [`LINE`] bytes, and no control character: what a caller put into a record must not forge a line of the log.
fn one_line(text: &str) -> Cow<'_, str> {
    let cut = cut(text, LINE);
    if !cut.contains(char::is_control) {
        return cut;
    }
    let mut line = String::with_capacity(cut.len() + 8);
    for character in cut.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line.into()
}

/// `text`, when it has at most `limit` bytes; else its beginning, and how much is not there.
pub(in super::super) fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return text.into();
    }
    let kept = &text[..text.floor_char_boundary(limit)];
    format!("{kept}... ({} more bytes)", text.len() - kept.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_at_a_character_and_says_so() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "abc... (1 more bytes)");
        assert_eq!(cut("aé", 2), "a... (2 more bytes)");
    }

    #[test]
    fn a_record_cannot_forge_a_line() {
        assert_eq!(one_line("a\nERROR b\u{1b}[31m"), r"a\nERROR b\u{1b}[31m");
        assert!(matches!(one_line("plain ü"), Cow::Borrowed(_)));
    }

    #[test]
    fn lines_beyond_the_bound_of_a_second_are_counted() {
        let start = Instant::now();
        let mut window = Window::new(start);
        let admitted = (0..LINES_PER_SECOND + 5).filter(|_| window.admit(start).is_some()).count();
        assert_eq!(admitted as u32, LINES_PER_SECOND);
        assert_eq!(window.admit(start + Duration::from_secs(1)), Some(5));
        assert_eq!(window.admit(start + Duration::from_secs(1)), Some(0));
    }
}
