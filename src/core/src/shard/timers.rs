//! One heap of deadlines per shard: a client has at most one that counts.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::faults::Stage;
use super::{Shard, Timer, reporting};
use crate::command::{Event, LeaveCause, News, PlaceMessage};
use crate::room::client::Deadlines;
use crate::room::reports::Asked;
use crate::room::{Seat, probing, reports};
use moonring_policy::hook::HookCall;
use moonring_wire::id::{ClientKey, RoomKey};
use moonring_wire::packet::SendBatch;

/// A timer that is this late was not held up by work.
const STANDSTILL: Duration = Duration::from_secs(5);
/// Timers run in one call; the rest wait for the next tick.
const MAX_TIMERS: usize = 4_096;
/// How long a timer waits that is due again at once.
const TIMER_PAUSE: Duration = Duration::from_millis(10);
/// The least number of timers at which those that no longer count are taken out of the heap.
pub(super) const FIRST_SWEEP: usize = 4_096;

impl Shard {
    /// The part of [`Shard::handle_timeout`] that media waits for: everything but scripts.
    pub fn handle_timers(&mut self, now: Instant, out: &mut SendBatch) {
        self.forgive_a_standstill(now);
        self.run_timers(now, out);
        self.work.running_timer = None;
        self.drain_policy(now, out);
        self.end_unheard(now);
        self.flush_links(out);
    }

    /// True when [`Shard::run_scripts`] has something to do at `now`.
    pub fn has_scripts_due(&self, now: Instant) -> bool {
        !self.is_backed_up() && self.policy.engine.poll_timeout().is_some_and(|due| due <= now)
    }

    /// The other part: a slice of the scripts that are due, which takes as long as many packets.
    pub fn run_scripts(&mut self, now: Instant, out: &mut SendBatch) {
        if !self.is_backed_up() {
            self.policy.engine.handle_timeout(now);
        }
        self.drain_policy(now, out);
        self.end_unheard(now);
        self.flush_links(out);
    }

    pub(super) fn run_timers(&mut self, now: Instant, out: &mut SendBatch) {
        for _ in 0..MAX_TIMERS {
            match self.work.timers.peek() {
                Some(Reverse((at, _))) if *at <= now => {}
                _ => return,
            }
            let Some(Reverse((at, timer))) = self.work.timers.pop() else { return };
            self.work.running_timer = Some(timer);
            match timer {
                Timer::Client(key) => self.client_timer(now, at, key, out),
                Timer::Speakers(key) => self.speakers_timer(now, key),
                Timer::Sound(key) => self.sound_timer(now, key),
                Timer::Rooms => self.rooms_timer(now),
                Timer::Reloads => self.reloads_timer(now),
                Timer::Report => self.report_timer(now),
                Timer::Places => self.places_timer(now, out),
                Timer::Awaited => self.await_no_longer(now),
                Timer::Links => self.links_timer(now, out),
            }
        }
    }

    /// A process that stood still (SIGSTOP, a suspended machine) has heard nobody: silence counts from now. A deadline that
    /// was long over when it was set, as those of a client that has come from another shard may be, says nothing of that.
    pub(super) fn forgive_a_standstill(&mut self, now: Instant) {
        let seen = self.work.timers_seen.replace(now);
        let due = self.work.timers.peek().map(|Reverse((at, _))| seen.map_or(*at, |seen| seen.max(*at)));
        if due.is_none_or(|at| now.saturating_duration_since(at) < STANDSTILL) {
            return;
        }
        tracing::warn!("the process stood still for a while: nobody is taken for gone because of it");
        for client in self.world.clients.values_mut() {
            if let Some(transport) = &mut client.transport {
                transport.forgive_silence(now);
            }
            if client.deadlines.connect_by.is_some() {
                client.deadlines.connect_by = Some(now + self.settings.connect_timeout);
            }
        }
    }

    fn client_timer(&mut self, now: Instant, at: Instant, key: ClientKey, out: &mut SendBatch) {
        let Some(client) = self.world.clients.get_mut(key).filter(|c| c.deadlines.scheduled == Some(at)) else {
            return;
        };
        client.deadlines.scheduled = None;
        self.stage(Stage::ClientTimer);
        let Some(client) = self.world.clients.get_mut(key) else { return };
        if client.far.is_some() {
            return self.ask_far(now, key, out);
        }
        if client.deadlines.connect_by.is_some_and(|by| by <= now) {
            self.transport_failed(now, key, "the media transport did not come up in time");
            return;
        }
        let transport = client.transport.as_mut();
        let event = transport.and_then(|t| t.handle_timeout(now, &mut self.work.dtls_scratch, out));
        if let Some(event) = event {
            self.transport_event(now, key, event);
        }
        self.check_addresses_again(now, key, out);
        let moment = self.moment(now);
        let Some(client) = self.world.clients.get_mut(key) else { return };
        let is_report_due = client.deadlines.report <= now;
        if is_report_due {
            self.hold_publisher(now, key);
            self.release_layers(key);
        }
        let Some(client) = self.world.clients.get_mut(key) else { return };
        let mut asked = Asked { counts: &mut self.report.counters.key_frames, told: Vec::new() };
        reports::send_due(now, client, &mut self.world.tracks, &mut asked, out);
        for track in asked.told {
            self.work.events.push(Event::KeyFrame { client: client.id.clone(), track });
        }
        probing::send_due(moment, client, &self.world.tracks, out);
        if client.deadlines.pace.take_if(|at| *at <= now).is_some() {
            self.touch(key);
        }
        if self.world.clients[key].deadlines.former.is_some_and(|at| at <= now) {
            self.ask_former(now, key, out);
        }
        if is_report_due {
            self.choose_layers(now, key);
            let client = &self.world.clients[key];
            client.facts.traffic.path.set(reporting::path_figures(client));
            if !self.follow_live(now, key, out) {
                return;
            }
        }
        self.schedule(key);
        self.delay_what_is_due_again(now, key);
    }

    /// What is due again although its time has come and gone would keep all other timers of the shard waiting.
    fn delay_what_is_due_again(&mut self, now: Instant, key: ClientKey) {
        let Some(client) = self.world.clients.get_mut(key) else { return };
        if client.deadlines.scheduled.is_none_or(|at| at > now) {
            return;
        }
        debug_assert!(false, "a timer of {} is due again at once: {:?}", client.id, client.deadlines);
        client.deadlines.scheduled = Some(now + TIMER_PAUSE);
        self.set_timer(now + TIMER_PAUSE, Timer::Client(key));
    }

    /// Adds a timer. Those that no longer count are left in the heap until they are due, but only so many of them: whoever
    /// brings forward its next deadline again and again leaves one each time.
    pub(super) fn set_timer(&mut self, at: Instant, timer: Timer) {
        if self.work.timers.len() >= self.work.timers_swept_at {
            let (world, rooms_at, mut kept) = (&self.world, self.work.rooms_at, HashSet::new());
            self.work.timers.retain(|Reverse((at, timer))| {
                let counts = match timer {
                    Timer::Client(key) => world.clients.get(*key).is_some_and(|c| c.deadlines.scheduled == Some(*at)),
                    Timer::Speakers(key) | Timer::Sound(key) => world.rooms.contains_key(*key),
                    Timer::Rooms => rooms_at == Some(*at),
                    Timer::Reloads | Timer::Report | Timer::Places | Timer::Links | Timer::Awaited => true,
                };
                counts && kept.insert((*at, *timer))
            });
            self.work.timers_swept_at = FIRST_SWEEP.max(2 * self.work.timers.len());
        }
        self.work.timers.push(Reverse((at, timer)));
    }

    /// Sets the client's timer to its next deadline, if that is earlier than the one set.
    pub(super) fn schedule(&mut self, key: ClientKey) {
        let Some(client) = self.world.clients.get_mut(key) else { return };
        if client.far.is_some() {
            return self.schedule_far(key);
        }
        let Some(transport) = &client.transport else { return };
        let report = transport.srtp_out().map(|_| reports::deadline(client, &self.world.tracks));
        let path = client.outbound.congestion.as_ref().filter(|_| report.is_some());
        let probe = path.and_then(|path| path.poll_timeout());
        let Deadlines { connect_by, pace, former, .. } = client.deadlines;
        let deadlines = [transport.poll_timeout(), transport.check_timeout(), report, connect_by, pace, former, probe];
        let Some(at) = deadlines.into_iter().flatten().min() else { return };
        if client.deadlines.scheduled.is_none_or(|scheduled| at < scheduled) {
            client.deadlines.scheduled = Some(at);
            self.set_timer(at, Timer::Client(key));
        }
    }

    /// Sets the timer that looks who speaks in `room`.
    pub(super) fn schedule_speakers(&mut self, key: RoomKey, at: Instant) {
        self.set_timer(at, Timer::Speakers(key));
    }

    fn speakers_timer(&mut self, now: Instant, key: RoomKey) {
        self.stage(Stage::SpeakersTimer);
        self.tell_loudest(key);
        let Some(room) = self.world.rooms.get_mut(key) else { return };
        if let Seat::Wing { home, .. } = room.seat {
            let levels = room.speakers.levels(now);
            if let Some(at) = room.speakers.deadline() {
                self.schedule_speakers(key, at);
            }
            let id = |(track, level)| Some((self.world.tracks.get(track)?.info.id.clone(), level));
            let levels = levels.into_iter().filter_map(id).collect();
            return self.say(key, home, PlaceMessage::Loudness(levels));
        }
        let changed = room.speakers.evaluate(now).map(<[_]>::to_vec);
        if let Some(at) = room.speakers.deadline() {
            self.schedule_speakers(key, at);
        }
        let Some(speaking) = changed else { return };
        let facts: Vec<_> =
            speaking.iter().filter_map(|k| self.world.clients.get(*k)).map(|c| c.facts.clone()).collect();
        let speakers: Vec<_> = facts.iter().map(|f| f.id.clone()).collect();
        self.tell_room(key, None, News::ActiveSpeakers(speakers));
        self.notify_policy(now, key, HookCall::ActiveSpeakers { clients: facts });
    }

    pub(super) fn transport_failed(&mut self, now: Instant, key: ClientKey, reason: &str) {
        self.remove_client(now, key, LeaveCause::TransportFailed(reason.to_owned()), reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::for_tests;
    use moonring_policy::ScriptLibrary;

    #[test]
    fn timers_that_no_longer_count_are_bounded() {
        let now = Instant::now();
        let mut shard = for_tests::shard(now, ScriptLibrary::new(Vec::new()));
        shard.report_every(now, Duration::from_secs(1));
        for n in 0..100_000 {
            shard.set_timer(now + Duration::from_micros(n), Timer::Client(ClientKey::default()));
        }
        assert!(shard.work.timers.len() <= FIRST_SWEEP, "{}", shard.work.timers.len());
        assert!(shard.work.timers.iter().any(|Reverse((_, timer))| *timer == Timer::Report), "what counts stays");
    }
}
