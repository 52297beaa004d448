//! A few connections that only read, shared by all who look or consume.

use std::{
    path::PathBuf,
    sync::{Condvar, Mutex, PoisonError},
};

use rusqlite::Connection;

use super::{error::StoreError, schema};

/// Reads that run at once. More wait: the machine has no more disks for it.
const CONNECTIONS: usize = 4;

/// The pool.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    lent: usize,
    closed: bool,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, state: Mutex::default(), returned: Condvar::new() }
    }

    /// Runs `read` with a connection, waiting for one where all are lent. Blocks: for a thread that may.
    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut state = self
                .returned
                .wait_while(state, |state| state.lent == CONNECTIONS && !state.closed)
                .unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return Err(StoreError::Unavailable("the broker is closed".into()));
            }
            state.lent += 1;
            state.idle.pop()
        };
        let lent = idle.map_or_else(|| schema::open_reader(&self.path), Ok);
        let result = lent.as_ref().map_err(StoreError::clone).and_then(read);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lent -= 1;
        if let Ok(connection) = lent
            && !state.closed
        {
            state.idle.push(connection);
        }
        self.returned.notify_one();
        result
    }

    /// Closes what is idle, and what is lent as it comes back.
    pub(super) fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        state.idle.clear();
        self.returned.notify_all();
    }
}
