// SPDX-License-Identifier: Apache-2.0
//
//! Ends what takes too much processor time. Time that others had the processor
//! does not count, so what is refused depends little on a machine's load.

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use llguidance::CancellationHandle;

/// How often the watch looks.
const TICK: Duration = Duration::from_millis(10);
/// After so many looks without new work it sleeps. To wake it takes longer than
/// most masks.
const QUIET_TICKS: u32 = 100;

/// The clock of one thread's processor time.
#[derive(Clone, Copy)]
pub struct ThreadClock(libc::clockid_t);

impl ThreadClock {
    pub fn of_this_thread() -> Self {
        let mut clock = 0;
        // SAFETY: the calling thread exists.
        unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
        ThreadClock(clock)
    }

    /// None once the thread has ended.
    pub fn now(self) -> Option<Duration> {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: a clock of a thread that is no more is an error, which is
        // told.
        let code = unsafe { libc::clock_gettime(self.0, &mut time) };
        (code == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
}

struct Watched {
    ticket: u64,
    clock: ThreadClock,
    end: Duration,
    handle: CancellationHandle,
}

#[derive(Default)]
struct Watchlist {
    next_ticket: u64,
    watched: Vec<Watched>,
    /// The watch sleeps until there is something to look at.
    is_idle: bool,
}

#[derive(Default)]
struct Watch {
    list: Mutex<Watchlist>,
    begun: Condvar,
}

impl Watch {
    /// The one of this process, whose thread runs as long as that does.
    fn shared() -> &'static Watch {
        static WATCH: OnceLock<&'static Watch> = OnceLock::new();
        WATCH.get_or_init(|| {
            let watch: &'static Watch = Box::leak(Box::default());
            // Without the thread, limits that do not need it still hold.
            let _ = thread::Builder::new()
                .name("rule-watch".to_string())
                .spawn(|| watch.run());
            watch
        })
    }

    fn lock(&self) -> MutexGuard<'_, Watchlist> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let (mut last_ticket, mut num_quiet) = (0, 0);
        loop {
            let mut list = self.lock();
            num_quiet = if list.next_ticket == last_ticket {
                num_quiet + 1
            } else {
                0
            };
            last_ticket = list.next_ticket;
            while num_quiet >= QUIET_TICKS
                && list.watched.is_empty()
                && list.next_ticket == last_ticket
            {
                list.is_idle = true;
                list = self
                    .begun
                    .wait(list)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            list.is_idle = false;
            for entry in &list.watched {
                if entry.clock.now().is_some_and(|now| now >= entry.end) {
                    entry.handle.cancel();
                }
            }
            drop(list);
            thread::sleep(TICK);
        }
    }
}

/// Runs `work` on this thread. `handle` is cancelled when that has taken
/// `budget`, give or take a tick.
pub fn with_budget<T>(budget: Duration, handle: CancellationHandle, work: impl FnOnce() -> T) -> T {
    struct Leave(u64);
    impl Drop for Leave {
        fn drop(&mut self) {
            let mut list = Watch::shared().lock();
            list.watched.retain(|entry| entry.ticket != self.0);
        }
    }

    let clock = ThreadClock::of_this_thread();
    let end = clock.now().unwrap_or_default() + budget;
    let watch = Watch::shared();
    let mut list = watch.lock();
    let ticket = list.next_ticket;
    list.next_ticket += 1;
    list.watched.push(Watched {
        ticket,
        clock,
        end,
        handle,
    });
    if list.is_idle {
        watch.begun.notify_one();
    }
    drop(list);
    let _leave = Leave(ticket);
    work()
}
