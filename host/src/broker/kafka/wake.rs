//! Waking a thread that waits for more than one thing: for librdkafka's queues, and for channels.
//!
//! librdkafka calls back when a queue is no longer empty, a channel wakes its waker; both come down to unparking the one
//! thread, whose park returns at once when it was unparked since it last looked.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
    task::{Wake, Waker},
    thread::{self, Thread},
};

/// Wakes one thread, once that has said which it is.
#[derive(Debug, Default)]
pub(super) struct Wakeup(OnceLock<Thread>);

impl Wakeup {
    /// The calling thread is the one to wake.
    pub(super) fn is_here(&self) {
        self.0.get_or_init(thread::current);
    }

    pub(super) fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }

    /// As channels want it.
    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        Self::wake(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Self::wake(self);
    }
}

/// Whether a poll served an event that it returns nothing for (a log line, a rebalance): the queue may hold more.
#[derive(Debug, Default)]
pub(super) struct Served(AtomicBool);

impl Served {
    pub(super) fn set(&self) {
        self.0.store(true, std::sync::atomic::Ordering::Release);
    }

    pub(super) fn take(&self) -> bool {
        self.0.swap(false, AcqRel)
    }
}
