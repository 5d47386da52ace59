//! The turns of glommio's reactor: what else stands on a shard's executor, timers and tasks of its own, goes on in them.
//!
//! glommio 0.9 gives its reactor a turn when its preemption timer has fired, and when that fires a second time before the
//! first task has run, which takes no more than a thread that the kernel lets wait for those 100 ms at the wrong place, it
//! sleeps with tasks that could run: for ever, if it was their timer that had just fired. So that timer is set to
//! [`NEVER`], and a turn comes from a timer of ours that is over: the reactor finds it and does not sleep.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use glommio::timer::Timer;

/// How long an executor may run before glommio interrupts it.
pub(super) const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// A turn costs about as much as ten packets.
const EVERY: Duration = Duration::from_millis(100);

/// When the next turn is due. Made and used in one task of the executor.
pub(super) struct Turns {
    /// Wakes the task, in the reactor: a task that wakes itself goes on without the reactor's turn.
    timer: Timer,
    due: Instant,
}

impl Turns {
    pub(super) async fn new() -> Self {
        let (timer, due) = set_timer().await;
        Self { timer, due }
    }

    /// Gives the reactor its turn if it is due.
    pub(super) async fn take(&mut self, now: Instant) {
        if now < self.due {
            return;
        }
        let mut is_over = false;
        poll_fn(|_| if std::mem::replace(&mut is_over, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        (self.timer, self.due) = set_timer().await;
    }
}

/// A timer that is set for this task, and a time at which it is certainly over.
async fn set_timer() -> (Timer, Instant) {
    loop {
        let mut timer = Timer::new(EVERY);
        // One that is over at once, as the thread stood still, was not set.
        let is_set = poll_fn(|context| Poll::Ready(Pin::new(&mut timer).poll(context).is_pending())).await;
        if is_set {
            return (timer, Instant::now() + EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::{LocalExecutorBuilder, Placement};
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn another_task_of_the_executor_and_its_timer_get_their_turns() {
        let executor = LocalExecutorBuilder::new(Placement::Unbound).preempt_timer(NEVER).make().unwrap();
        let turns_until_it_was_over = executor.run(async {
            let is_over = Rc::new(Cell::new(false));
            let other = is_over.clone();
            glommio::spawn_local(async move {
                glommio::timer::sleep(Duration::from_millis(150)).await;
                other.set(true);
            })
            .detach();
            let mut turns = Turns::new().await;
            let mut taken = 0;
            while !is_over.get() && taken < 100 {
                std::thread::sleep(EVERY);
                turns.take(Instant::now() + EVERY).await;
                taken += 1;
            }
            taken
        });
        assert!((2..100).contains(&turns_until_it_was_over), "{turns_until_it_was_over}");
    }
}
