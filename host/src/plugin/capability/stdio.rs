//! Standard output and error of a guest: lines on the log.
//!
//! The last of what a call says on standard error is kept beside: language runtimes put the reason of a trap there.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use super::{
    super::instance::Settings,
    logging::{LINE, cut},
};

/// Bytes of standard error that are kept for the reason of a trap.
const TAIL: usize = 512;

/// One of the two streams. Clones write to the same line.
#[derive(Clone)]
pub(in super::super) struct Stream {
    settings: Arc<Settings>,
    level: tracing::Level,
    text: Arc<Mutex<Text>>,
}

#[derive(Default)]
struct Text {
    line: Vec<u8>,
    tail: String,
}

impl Stream {
    /// A stream whose lines have `level`.
    pub(in super::super) fn new(settings: Arc<Settings>, level: tracing::Level) -> Self {
        Self { settings, level, text: Arc::default() }
    }

    /// What was said last, as one line, and forgets it.
    pub(in super::super) fn take_tail(&self) -> String {
        mem::take(&mut self.text.lock().unwrap_or_else(PoisonError::into_inner).tail)
    }

    fn push(&self, bytes: &[u8]) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(text.line.len());
            text.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let line = mem::take(&mut text.line);
                self.finish(&mut text, &line);
            }
        }
    }

    fn finish(&self, text: &mut Text, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        // Rust ends each panic with a hint at a variable that no guest can set.
        if line.is_empty() || line.starts_with("note: run with `RUST_BACKTRACE") {
            return;
        }
        self.settings.log.line(self.level, "", line);
        if text.tail.len() < TAIL {
            if !text.tail.is_empty() {
                text.tail.push(' ');
            }
            text.tail.push_str(&cut(line, TAIL));
        }
    }
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink()) // only WASI 0.3 asks for this one
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}
