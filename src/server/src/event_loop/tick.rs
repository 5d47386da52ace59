//! The tick and the sleep between two of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use super::hand_over::Parting;
use super::pulse::Doing;
use super::usage::Usage;
use super::{BROKEN, ControlEnds, Core, LoopSettings, Phase};
use crate::ending;
use crate::tcp::Tcp;
use crate::udp::{Received, Receiver, Udp};
use moonring_core::command::Event;
use moonring_core::report::IoStats;
use moonring_core::room::load::Backlog;
use moonring_core::room::pauses::Pauses;
use moonring_wire::packet::{AddressPair, SendBatch};

/// How often the kernel is asked what it dropped.
const DROPS_EVERY: Duration = Duration::from_secs(1);
/// Flushes of a core that says goodbye.
const GOODBYE_FLUSHES: usize = 64;

/// The main task of a shard.
pub(super) struct Ticker<C> {
    pub(super) settings: LoopSettings,
    pub(super) udp: Udp,
    pub(super) tcp: Option<Tcp>,
    pub(super) core: C,
    pub(super) out: SendBatch,
    pub(super) control: ControlEnds,
    /// An event that the full queue did not take.
    held: Option<Box<Event>>,
    next_drops: Instant,
    /// The last tick left datagrams in the receive queue.
    is_behind: bool,
    /// The last tick left packets to be forwarded.
    is_forwarding: bool,
    pauses: Pauses,
    usage: Usage,
    pub(super) parting: Parting,
    has_much_room: bool,
}

impl<C: Core> Ticker<C> {
    /// `has_much_room`: the sockets' receive buffers are those of a hand-over, and get their usual size after a second.
    pub(super) fn new(
        (settings, has_much_room): (LoopSettings, bool),
        (mut udp, tcp): (Udp, Option<Tcp>),
        core: C,
        control: ControlEnds,
    ) -> Self {
        udp.watch(&control.wake);
        Self {
            out: SendBatch::new(settings.send_bytes, settings.send_runs),
            settings,
            udp,
            tcp,
            core,
            control,
            held: None,
            next_drops: Instant::now() + DROPS_EVERY,
            is_behind: false,
            is_forwarding: false,
            pauses: Pauses::new(Instant::now()),
            usage: Usage::of_this_thread(Instant::now()),
            parting: Parting::default(),
            has_much_room,
        }
    }

    /// Runs until the shard is told to stop, without ever giving way to the executor.
    pub(super) fn run(mut self) {
        while !self.control.stop.load(Ordering::Acquire) {
            let began = Instant::now();
            if !self.core.coalescing().is_zero() {
                self.pauses.begin(began, self.udp.receive_fill());
            }
            let more = self.tick(began);
            if more {
                self.settings.pulse.begin(Doing::Flush);
                self.flush();
            }
            let ended = Instant::now();
            self.note_tick(began, ended);
            if !more {
                match self.core.coalescing() {
                    Duration::ZERO => self.flush_and_sleep(ended),
                    wanted => self.flush_and_pause(wanted),
                }
            }
            if self.is_asked_for() && self.answer_requests() {
                self.settings.pulse.begin(Doing::Goodbye);
                return;
            }
        }
        self.say_goodbye();
    }

    /// Everything that is due, as far as the bounds allow, up to the last flush; true when there is more.
    fn tick(&mut self, now: Instant) -> bool {
        self.settings.pulse.beat();
        let commands = self.handle_commands(now);
        self.settings.pulse.begin(Doing::Datagrams);
        let datagrams = self.handle_datagrams(now);
        self.settings.pulse.begin(Doing::Forward);
        let forwards = self.forward(now);
        self.settings.pulse.begin(Doing::Timers);
        self.handle_timeout(now);
        // A timer lets packets pass that a pacer or a hold has kept back.
        let mut forwards = self.forward(now) || forwards;
        if self.core.has_scripts_due(now) {
            forwards |= self.run_scripts(now);
        }
        let timeouts = self.core.poll_timeout().is_some_and(|due| due <= now);
        (self.is_behind, self.is_forwarding) = (datagrams, forwards);
        self.settings.pulse.begin(Doing::Events);
        self.send_events(now);
        if now >= self.next_drops {
            self.next_drops = now + DROPS_EVERY;
            self.udp.poll_kernel_drops();
            if let Some(tcp) = &mut self.tcp {
                tcp.look_after(now, |from| self.core.is_known(from));
            }
            // Not while what has waited fills them: a smaller buffer takes nothing more until it is empty.
            if !self.is_behind && std::mem::take(&mut self.has_much_room) {
                self.udp.restore_receive_buffers(&self.settings.udp);
            }
        }
        self.core.record_io(&self.stats());
        commands || datagrams || forwards || timeouts
    }

    /// Tells the core of a tick, and what of the core's time has been used.
    fn note_tick(&mut self, began: Instant, now: Instant) {
        let busy = self.usage.take(now, now.saturating_duration_since(began));
        let backlog = self.backlog();
        let _: Option<()> = self.guarded(now, Phase::Event, |core, _| core.note_tick(now, busy, backlog));
    }

    /// What the tick has left in the receive queues. A system call a socket, when there is any.
    fn backlog(&self) -> Backlog {
        if self.is_behind { Backlog::with_fill(self.udp.receive_fill()) } else { Backlog::Little }
    }

    fn handle_commands(&mut self, now: Instant) -> bool {
        for done in 0..self.settings.commands_per_tick {
            if done > 0 && now.elapsed() > self.settings.tick_budget {
                return true;
            }
            if self.core.is_backed_up() {
                self.send_events(now);
                // Commands wait, and are refused when too many do, until the control plane takes what it asked for.
                if self.core.is_backed_up() {
                    return false;
                }
            }
            let command = match self.control.commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => return false,
                // Nobody can ask for anything any more, not even to stop.
                Err(TryRecvError::Disconnected) => {
                    self.control.stop.store(true, Ordering::Release);
                    return true;
                }
            };
            self.make_room();
            self.settings.pulse.begin_command(&command);
            let _: Option<()> = self.guarded(now, Phase::Command, |core, out| core.handle_command(now, command, out));
        }
        true
    }

    fn handle_datagrams(&mut self, now: Instant) -> bool {
        let (all, part) = (self.settings.datagrams_per_tick, self.settings.datagrams_beside_forwards);
        let left = if self.is_forwarding { part } else { all };
        let over_udp = self.take_in(now, left, |udp, _, limit, intake| udp.receive_into(limit, intake));
        self.tcp.is_some()
            && self.take_in(now, part, |_, tcp, limit, intake| match tcp {
                Some(tcp) => tcp.receive_into(now, limit, intake),
                None => Received::default(),
            })
            || over_udp
    }

    /// Lets the core have up to `left` datagrams that `receive` brings, as far as the tick's time allows; true when there is more.
    fn take_in(
        &mut self,
        now: Instant,
        mut left: usize,
        receive: impl Fn(&mut Udp, Option<&mut Tcp>, usize, &mut Intake<'_, C>) -> Received,
    ) -> bool {
        let (part, replies) = (self.settings.datagrams_beside_forwards, self.settings.reply_datagrams);
        while left > 0 {
            self.make_room();
            let (udp, tcp, core, out) = (&mut self.udp, self.tcp.as_mut(), &mut self.core, &mut self.out);
            let mut intake = Intake { now, core, out, replies, handled: 0, current: None };
            // One guard around the whole call: the receive goes on behind the datagram that panicked.
            let received = catch_unwind(AssertUnwindSafe(|| receive(udp, tcp, left.min(part), &mut intake)));
            left -= intake.handled.min(left);
            match (received, intake.current) {
                (Ok(received), _) if !received.more => return false,
                (Ok(_), _) if now.elapsed() > self.settings.tick_budget => return true,
                (Ok(_), _) => {}
                (Err(_), Some(from)) => self.report_panic(now, Phase::Datagram(from)),
                (Err(panic), None) => std::panic::resume_unwind(panic),
            }
        }
        true
    }

    /// Takes one of the datagrams that were received already.
    pub(super) fn take_one(&mut self, now: Instant) {
        self.make_room();
        let (udp, core, out) = (&mut self.udp, &mut self.core, &mut self.out);
        let mut intake = Intake { now, core, out, replies: self.settings.reply_datagrams, handled: 0, current: None };
        let received = catch_unwind(AssertUnwindSafe(|| udp.receive_into(1, &mut intake)));
        if let (Err(_), Some(from)) = (received, intake.current) {
            self.report_panic(now, Phase::Datagram(from));
        }
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

    fn handle_timeout(&mut self, now: Instant) {
        if self.core.poll_timeout().is_some_and(|due| due <= now) {
            self.make_room();
            let _: Option<()> = self.guarded(now, Phase::Timeout, |core, out| core.handle_timeout(now, out));
        }
    }

    /// Runs scripts, and sends on what they let pass. What there is to send does not wait for them.
    fn run_scripts(&mut self, now: Instant) -> bool {
        self.flush();
        let _: Option<()> = self.guarded(now, Phase::Timeout, |core, out| core.run_scripts(now, out));
        self.forward(now)
    }

    /// Hands events over until there are none or the queue is full; the one that does not fit is kept for the next tick.
    pub(super) fn send_events(&mut self, now: Instant) {
        loop {
            let next = match self.held.take() {
                Some(event) => Some(*event),
                None => self.guarded(now, Phase::Event, |core, _| core.poll_event()).flatten(),
            };
            let Some(event) = next else { return };
            if let Err(event) = self.control.events.try_send(event) {
                self.held = Some(event);
                return;
            }
        }
    }

    /// The sockets' buffers stay as they are for a second, and until the loop has caught up.
    pub(super) fn expect_much(&mut self, now: Instant) {
        (self.has_much_room, self.next_drops) = (true, now + DROPS_EVERY);
    }

    fn make_room(&mut self) {
        if !self.out.has_room(self.settings.reply_datagrams) {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        self.flush_connections();
        self.udp.flush(&self.out);
        self.out.clear();
    }

    /// Writes what goes over TCP; the rest stays in the batch.
    fn flush_connections(&mut self) {
        if let Some(tcp) = &mut self.tcp {
            tcp.flush(Instant::now(), &mut self.out);
        }
    }

    fn stats(&self) -> IoStats {
        IoStats { tcp: self.tcp.as_ref().map(Tcp::stats).unwrap_or_default(), ..self.udp.stats() }
    }

    /// Calls the core; a panic ends what caused it and nothing else.
    pub(super) fn guarded<T>(
        &mut self,
        now: Instant,
        phase: Phase,
        call: impl FnOnce(&mut C, &mut SendBatch) -> T,
    ) -> Option<T> {
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
            if catch_unwind(AssertUnwindSafe(|| self.core.handle_second_panic(now))).is_err() {
                tracing::error!(?phase, "the shard cannot be put right again: the process ends");
                ending::end_process(BROKEN);
            }
        }
    }

    /// Sends what is left of the tick and blocks the thread until a datagram is there, a command comes or a timer is
    /// due: one system call, on the media sockets' own ring. (Sleeping in glommio's reactor instead, woken through the eventfd,
    /// cost three times the CPU time per wake-up.)
    fn flush_and_sleep(&mut self, now: Instant) {
        self.settings.pulse.begin(Doing::Sleep);
        self.flush_connections();
        let longest = now + self.settings.longest_sleep;
        let until = self.core.poll_timeout().map_or(longest, |due| due.min(longest));
        self.udp.flush_and_wait(&self.out, until.saturating_duration_since(now));
        self.out.clear();
    }

    /// Sends what is left of the tick, and lets what comes wait for others.
    fn flush_and_pause(&mut self, wanted: Duration) {
        self.settings.pulse.begin(Doing::Sleep);
        self.flush();
        std::thread::sleep(self.pauses.next(wanted).saturating_duration_since(Instant::now()));
    }

    fn say_goodbye(&mut self) {
        self.settings.pulse.begin(Doing::Goodbye);
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
        self.core.record_io(&self.stats());
    }
}

/// Hands what is received to the core.
struct Intake<'a, C> {
    now: Instant,
    core: &'a mut C,
    out: &'a mut SendBatch,
    /// Room in `out` that a datagram's answers may need.
    replies: usize,
    handled: usize,
    /// The sender of the datagram being handled.
    current: Option<AddressPair>,
}

impl<C: Core> Receiver for Intake<'_, C> {
    fn expect(&mut self, from: impl Iterator<Item = AddressPair>) {
        self.core.expect(from);
    }

    fn take(&mut self, from: AddressPair, bytes: &mut [u8]) -> bool {
        (self.handled, self.current) = (self.handled + 1, Some(from));
        self.core.handle_datagram(self.now, from, bytes, self.out);
        self.out.has_room(self.replies)
    }

    fn is_known(&self, from: AddressPair) -> bool {
        self.core.is_known(from)
    }
}
