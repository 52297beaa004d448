//! Moves what is in the write-ahead log into the file, on a thread of its own: done by the writer, as SQLite does it
//! on its own, it would hold up whoever's record happens to be the thousandth.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{Builder, JoinHandle},
};

use rusqlite::Connection;

use super::{error::StoreError, schema};

/// Bytes written, about, after which the write-ahead log is moved.
const AFTER: u64 = 4 << 20;

/// The thread, as the writer sees it. Dropping it ends the thread and waits for that.
pub(super) struct Checkpointer {
    written: u64,
    due: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(path: PathBuf) -> Result<Self, StoreError> {
        let connection = schema::open_checkpointer(&path)?;
        let (due, nudges) = sync_channel(1);
        let thread = Builder::new()
            .name("keyway-checkpoint".into())
            .spawn(move || run(&connection, &nudges))
            .map_err(|error| StoreError::Unavailable(format!("no thread: {error}")))?;
        Ok(Self { written: 0, due: Some(due), thread: Some(thread) })
    }

    /// Counts what was written; starts the thread off when it is time. Tells whether it did.
    pub(super) fn wrote(&mut self, bytes: u64) -> bool {
        self.written += bytes;
        let is_due = self.written >= AFTER;
        if is_due && let Some(due) = &self.due {
            self.written = 0;
            due.try_send(()).ok(); // full: it is at it, and goes round once more
        }
        is_due
    }
}

fn run(connection: &Connection, nudges: &Receiver<()>) {
    for () in nudges {
        if let Err(error) = checkpoint(connection, "PASSIVE") {
            tracing::warn!(%error, "Could not move the write-ahead log into the file; it goes on growing.");
        }
    }
}

/// Moves what can be moved (`PASSIVE`), or waits for readers, moves everything and empties the log (`TRUNCATE`).
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> Result<(), StoreError> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_row| Ok(()))?;
    Ok(())
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.due = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok(); // it panicked: said on its own, and nothing depends on it
        }
    }
}
