//! A timer for waits that end on time, thousands of them at once: a thread that sleeps until the first of them is over.
//!
//! The runtime's own counts whole milliseconds and rounds up. Others wake their thread for every wait that begins, which
//! costs more than what most handlers do; here that costs a system call only when the new one is the first to end.
//!
//! Invariants: no wait ends early. The thread sleeps no longer than until the first of the waits is over.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

/// The waits of one thread, which is started with the first of them and then stays.
pub(super) struct Timer {
    waits: Mutex<Waits>,
    earlier: Condvar,
}

struct Waits {
    /// Who waits, by when it is over; the number tells those apart that end at once.
    wakers: BTreeMap<(Instant, u64), Waker>,
    begun: u64,
    thread: Thread,
}

enum Thread {
    NotStarted,
    /// It looks at what there is before it sleeps again.
    Awake,
    /// Until then, or for ever.
    Asleep(Option<Instant>),
}

/// Pending until its time has come, and ready from then on. Dropping it ends the wait.
pub(super) struct Wait {
    timer: &'static Timer,
    until: Instant,
    number: u64,
}

impl Timer {
    pub(super) const fn new() -> Self {
        let waits = Waits { wakers: BTreeMap::new(), begun: 0, thread: Thread::NotStarted };
        Self { waits: Mutex::new(waits), earlier: Condvar::new() }
    }

    /// A wait until then. Nothing happens before it is polled.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn wait(&'static self, until: Instant) -> io::Result<Wait> {
        let mut waits = self.waits();
        if matches!(waits.thread, Thread::NotStarted) {
            thread::Builder::new().name("keyway-timer".into()).spawn(|| self.run())?;
            waits.thread = Thread::Awake;
        }
        waits.begun += 1;
        Ok(Wait { timer: self, until, number: waits.begun })
    }

    fn run(&self) -> ! {
        let mut due = Vec::new();
        let mut waits = self.waits();
        loop {
            let now = Instant::now();
            while let Some(first) = waits.wakers.first_entry().filter(|it| it.key().0 <= now) {
                due.push(first.remove());
            }
            if !due.is_empty() {
                drop(waits); // who is woken may be run at once, and begin its next wait
                due.drain(..).for_each(Waker::wake);
                waits = self.waits();
                continue;
            }
            let first = waits.wakers.first_key_value().map(|((until, _), _)| *until);
            waits.thread = Thread::Asleep(first);
            let left = first.map_or(Duration::MAX, |first| first - now);
            waits = match self.earlier.wait_timeout(waits, left) {
                Ok((waits, _)) => waits,
                Err(poisoned) => poisoned.into_inner().0,
            };
            waits.thread = Thread::Awake;
        }
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waits {
    /// Whether the thread would sleep beyond `until`; it is taken to be woken then.
    fn oversleeps(&mut self, until: Instant) -> bool {
        let oversleeps = match self.thread {
            Thread::Asleep(end) => end.is_none_or(|end| until < end),
            Thread::Awake | Thread::NotStarted => false,
        };
        if oversleeps {
            self.thread = Thread::Awake;
        }
        oversleeps
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.until {
            return Poll::Ready(());
        }
        let mut waits = self.timer.waits();
        let stale = waits.wakers.insert((self.until, self.number), context.waker().clone());
        let oversleeps = waits.oversleeps(self.until);
        drop(waits);
        drop(stale); // with the lock released: the last waker of a task drops the task, which may have waits
        if oversleeps {
            self.timer.earlier.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let waker = self.timer.waits().wakers.remove(&(self.until, self.number));
        drop(waker); // with the lock released, as above
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, future::join_all};
    use tokio::{task::yield_now, time::timeout};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const PATIENCE: Duration = Duration::from_secs(60);

    fn timer() -> &'static Timer {
        Box::leak(Box::new(Timer::new()))
    }

    fn wait(timer: &'static Timer, time: Duration) -> Wait {
        timer.wait(Instant::now() + time).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn thousands_of_waits_at_once_all_end_and_none_of_them_early() {
        let timer = timer();
        let waits = (0..5000).map(|_| {
            tokio::spawn(async move {
                for _ in 0..10 {
                    let until = Instant::now() + Duration::from_micros(fastrand::u64(0..5000));
                    timer.wait(until).unwrap().await;
                    assert!(Instant::now() >= until);
                }
            })
        });
        for ended in timeout(PATIENCE, join_all(waits)).await.expect("one was forgotten") {
            ended.unwrap();
        }
        assert!(timer.waits().wakers.is_empty());
    }

    #[tokio::test]
    async fn a_wait_that_ends_first_wakes_the_thread_from_its_sleep_for_a_later_one() {
        let timer = timer();
        let mut later = wait(timer, HOUR);
        assert!((&mut later).now_or_never().is_none());
        let sleeps = || matches!(timer.waits().thread, Thread::Asleep(Some(_)));
        timeout(PATIENCE, async {
            while !sleeps() {
                yield_now().await
            }
        })
        .await
        .expect("it sleeps");
        timeout(PATIENCE, wait(timer, Duration::from_millis(1))).await.expect("it slept on");
        assert!(later.now_or_never().is_none());
    }

    #[test]
    fn the_thread_is_woken_only_for_a_wait_that_it_would_oversleep() {
        let now = Instant::now();
        let mut waits = Timer::new().waits.into_inner().unwrap();
        for (thread, oversleeps) in [
            (Thread::Awake, false),
            (Thread::Asleep(Some(now)), false),
            (Thread::Asleep(Some(now + HOUR)), true),
            (Thread::Asleep(None), true),
        ] {
            waits.thread = thread;
            assert_eq!(waits.oversleeps(now), oversleeps);
            assert!(!waits.oversleeps(now), "it is woken once");
        }
    }

    #[test]
    fn a_wait_that_is_dropped_leaves_nothing_behind() {
        let timer = timer();
        let mut dropped = wait(timer, HOUR);
        for _ in 0..2 {
            assert!((&mut dropped).now_or_never().is_none());
            assert_eq!(timer.waits().wakers.len(), 1);
        }
        drop(dropped);
        assert!(timer.waits().wakers.is_empty());
    }
}
