//! The tick and the sleep between two of them.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::task::Poll;
use std::time::{Duration, Instant};

use glommio::timer::Timer;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{Core, LoopSettings, Park, Phase};
use crate::probe::StartError;
use crate::udp::{Alarm, Bell, Udp};
use moonring_core::command::{Command, Event};
use moonring_wire::packet::SendBatch;

/// A second timer, out of step with the sleep's: glommio may park while tasks are runnable, and then only a timer that
/// is still to fire wakes it.
const HEARTBEAT: Duration = Duration::from_millis(97);
/// The longest sleep inside glommio, for the same reason.
const LONGEST_PARK: Duration = Duration::from_millis(10);
/// How often the kernel is asked what it dropped.
const DROPS_EVERY: Duration = Duration::from_secs(1);
/// Flushes of a core that says goodbye.
const GOODBYE_FLUSHES: usize = 64;

/// The main task of a shard.
pub(super) struct Ticker<C> {
    settings: LoopSettings,
    udp: Udp,
    core: C,
    out: SendBatch,
    commands: Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// An event that the full queue did not take.
    held: Option<Event>,
    /// Listens to the bell when the sleep is glommio's.
    alarm: Option<Alarm>,
    timer: Option<(Instant, Pin<Box<Timer>>)>,
    stop: Arc<AtomicBool>,
    next_drops: Instant,
}

impl<C: Core> Ticker<C> {
    pub(super) fn new(
        settings: LoopSettings,
        mut udp: Udp,
        core: C,
        commands: Receiver<Command>,
        events: mpsc::Sender<Event>,
        bell: &Bell,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, StartError> {
        let alarm = match settings.park {
            Park::Ring => {
                udp.watch(bell);
                None
            }
            Park::Executor => {
                udp.ring(bell).map_err(StartError::Thread)?;
                Some(Alarm::new(bell).map_err(StartError::Thread)?)
            }
        };
        Ok(Self {
            out: SendBatch::new(settings.send_bytes, settings.send_runs),
            alarm,
            settings,
            udp,
            core,
            commands,
            events,
            held: None,
            timer: None,
            stop,
            next_drops: Instant::now() + DROPS_EVERY,
        })
    }

    pub(super) async fn run(mut self) {
        let heartbeat = glommio::spawn_local(async {
            loop {
                glommio::timer::sleep(HEARTBEAT).await;
            }
        })
        .detach();
        while !self.stop.load(Ordering::Acquire) {
            if !self.tick() {
                self.sleep().await;
            }
            // The reactor's turn, whenever its timer says so.
            glommio::yield_if_needed().await;
        }
        self.say_goodbye();
        drop(self.udp);
        heartbeat.cancel();
        if let Some(alarm) = self.alarm {
            alarm.close().await;
        }
    }

    /// Everything that is due, as far as the bounds allow; true when there is more.
    fn tick(&mut self) -> bool {
        let now = Instant::now();
        let commands = self.handle_commands(now);
        let datagrams = self.handle_datagrams(now);
        let forwards = self.forward(now);
        let timeouts = self.handle_timeout(now);
        self.flush();
        self.send_events(now);
        if now >= self.next_drops {
            self.next_drops = now + DROPS_EVERY;
            self.udp.poll_kernel_drops();
        }
        self.core.record_io(&self.udp.stats());
        commands || datagrams || forwards || timeouts
    }

    fn handle_commands(&mut self, now: Instant) -> bool {
        for done in 0..self.settings.commands_per_tick {
            if done > 0 && now.elapsed() > self.settings.tick_budget {
                return true;
            }
            let command = match self.commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => return false,
                // Nobody can ask for anything any more, not even to stop.
                Err(TryRecvError::Disconnected) => {
                    self.stop.store(true, Ordering::Release);
                    return true;
                }
            };
            self.make_room();
            let _: Option<()> = self.guarded(now, Phase::Command, |core, out| core.handle_command(now, command, out));
        }
        true
    }

    fn handle_datagrams(&mut self, now: Instant) -> bool {
        let mut left = self.settings.datagrams_per_tick;
        while left > 0 {
            self.make_room();
            let replies = self.settings.reply_datagrams;
            let (mut handled, mut current) = (0, None);
            let (udp, core, out) = (&mut self.udp, &mut self.core, &mut self.out);
            // One guard around the whole call: the receive goes on behind the datagram that panicked.
            let call = AssertUnwindSafe(|| {
                udp.receive(left, |from, bytes| {
                    (handled, current) = (handled + 1, Some(from));
                    core.handle_datagram(now, from, bytes, out);
                    out.has_room(replies)
                })
            });
            let received = catch_unwind(call);
            left -= handled.min(left);
            match (received, current) {
                (Ok(received), _) if !received.more => return false,
                (Ok(_), _) => {}
                (Err(_), Some(from)) => self.report_panic(now, Phase::Datagram(from)),
                (Err(panic), None) => std::panic::resume_unwind(panic),
            }
        }
        true
    }

    fn forward(&mut self, now: Instant) -> bool {
        while self.guarded(now, Phase::Forward, |core, out| core.forward(now, out)).unwrap_or(false) {
            self.flush();
            if now.elapsed() > self.settings.tick_budget {
                return true;
            }
        }
        false
    }

    fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.core.poll_timeout().is_none_or(|due| due > now) {
            return false;
        }
        self.make_room();
        let _: Option<()> = self.guarded(now, Phase::Timeout, |core, out| core.handle_timeout(now, out));
        self.core.poll_timeout().is_some_and(|due| due <= now)
    }

    /// Hands events over until there are none or the queue is full; the one that does not fit is kept for the next tick.
    fn send_events(&mut self, now: Instant) {
        loop {
            let next = match self.held.take() {
                Some(event) => Some(event),
                None => self.guarded(now, Phase::Event, |core, _| core.poll_event()).flatten(),
            };
            let Some(event) = next else { return };
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.held = Some(event);
                    return;
                }
                Err(TrySendError::Closed(_)) => {}
            }
        }
    }

    fn make_room(&mut self) {
        if !self.out.has_room(self.settings.reply_datagrams) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.udp.flush(&self.out);
        self.out.clear();
    }

    /// Calls the core; a panic ends what caused it and nothing else.
    fn guarded<T>(&mut self, now: Instant, phase: Phase, call: impl FnOnce(&mut C, &mut SendBatch) -> T) -> Option<T> {
        let (core, out) = (&mut self.core, &mut self.out);
        match catch_unwind(AssertUnwindSafe(|| call(core, out))) {
            Ok(value) => Some(value),
            Err(_) => {
                self.report_panic(now, phase);
                None
            }
        }
    }

    fn report_panic(&mut self, now: Instant, phase: Phase) {
        tracing::error!(?phase, "a panic on the shard: what caused it is ended");
        self.make_room();
        let (core, out) = (&mut self.core, &mut self.out);
        if catch_unwind(AssertUnwindSafe(|| core.handle_panic(now, phase, out))).is_err() {
            tracing::error!(?phase, "and another one while ending it");
        }
    }

    /// Until a datagram is there, the bell rings or a timer is due.
    async fn sleep(&mut self) {
        let now = Instant::now();
        let longest = now + self.settings.longest_sleep;
        let until = self.core.poll_timeout().map_or(longest, |due| due.min(longest));
        if self.alarm.is_none() {
            self.udp.wait(until.saturating_duration_since(now));
        } else if self.udp.prepare_sleep() {
            self.park(now, until.min(now + LONGEST_PARK)).await;
            self.udp.awake();
        }
    }

    /// Sleeps in glommio.
    async fn park(&mut self, now: Instant, until: Instant) {
        // A timer that is already set is early enough mostly: waking once too often is cheaper than setting another.
        if self.timer.as_ref().is_none_or(|(due, _)| *due > until) {
            self.timer = Some((until, Box::pin(Timer::new(until.saturating_duration_since(now)))));
        }
        let (alarm, timer) = (&mut self.alarm, &mut self.timer);
        poll_fn(|cx| {
            if let Some((_, pending)) = timer
                && pending.as_mut().poll(cx).is_ready()
            {
                *timer = None;
                return Poll::Ready(());
            }
            alarm.as_mut().map_or(Poll::Ready(()), |alarm| alarm.poll(cx))
        })
        .await;
    }

    fn say_goodbye(&mut self) {
        let now = Instant::now();
        let _: Option<()> = self.guarded(now, Phase::Stop, |core, out| core.handle_stop(now, out));
        for _ in 0..GOODBYE_FLUSHES {
            let more = self.guarded(now, Phase::Forward, |core, out| core.forward(now, out)).unwrap_or(false);
            self.flush();
            if !more {
                break;
            }
        }
        self.send_events(now);
        self.core.record_io(&self.udp.stats());
    }
}
