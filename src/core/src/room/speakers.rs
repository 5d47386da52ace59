//! Who speaks, from the audio levels that publishers send along (RFC 6464): smoothed, with hysteresis.

use std::time::{Duration, Instant};

use moonring_wire::id::{ClientKey, TrackKey};

/// Time between two looks at who speaks.
pub const INTERVAL: Duration = Duration::from_millis(250);
/// Loudness (127 + dBov) from which somebody starts to count as speaking.
const START: f32 = 77.0;
/// Loudness below which somebody is falling silent.
const STOP: f32 = 67.0;
/// How long somebody who fell silent still counts: pauses between words are no end.
const HOLD: Duration = Duration::from_millis(1_000);
/// Weight of a new packet (20 ms of sound) in the smoothed loudness.
const WEIGHT: f32 = 0.15;
/// Without a packet for this long a track is silent (discontinuous transmission sends none).
const STALE: Duration = Duration::from_millis(400);
/// Somebody takes the place of one of the loudest who is quieter by so much (in dB): two who are equally loud do not
/// take turns.
const LOUDER: f32 = 3.0;
/// For so long the pictures of who has spoken go on before those of others: in a conversation people take turns.
const LATELY: Duration = Duration::from_secs(10);
/// Most speakers told of.
pub const MAX_SPEAKERS: usize = 8;

#[derive(Debug)]
struct Voice {
    track: TrackKey,
    client: ClientKey,
    loudness: f32,
    heard: Instant,
    /// Until when its client counts as speaking.
    until: Option<Instant>,
}

/// The voices of one room.
#[derive(Debug, Default)]
pub struct Speakers {
    voices: Vec<Voice>,
    current: Vec<ClientKey>,
    /// Who has stopped to speak, and when, the last one last.
    former: Vec<(ClientKey, Instant)>,
    next: Option<Instant>,
    /// How many are heard at once; `None`: everybody.
    last_n: Option<usize>,
    /// Those, at most `last_n`.
    loudest: Vec<TrackKey>,
    /// Another shard decides on `loudest`.
    follows: bool,
    /// What other shards were told of `loudest`.
    told: Option<Option<Vec<TrackKey>>>,
}

/// What becomes of a packet of sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is forwarded.
    Yes,
    /// It is forwarded, and it is the first after some that were not.
    Again,
    /// Others are louder.
    No,
}

impl Speakers {
    /// Speakers of whom the `last_n` loudest are heard; `None`: everybody.
    pub fn new(last_n: Option<usize>) -> Self {
        Self { last_n, ..Self::default() }
    }

    /// Whether the sound of `track` is forwarded now.
    pub fn is_heard(&self, track: TrackKey) -> bool {
        self.last_n.is_none() || self.loudest.contains(&track)
    }

    /// Whether others are louder than `track`, of which levels have come.
    pub fn is_left_out(&self, track: TrackKey) -> bool {
        !self.is_heard(track) && self.voices.iter().any(|voice| voice.track == track)
    }

    /// Lets so many be heard at once from now on.
    pub fn set_last_n(&mut self, last_n: Option<usize>) {
        self.last_n = last_n;
        self.loudest.truncate(last_n.unwrap_or(usize::MAX));
    }

    /// How many are heard at once; `None`: everybody.
    pub fn last_n(&self) -> Option<usize> {
        self.last_n
    }

    /// Takes the level of a packet: 0 is the loudest, 127 silence. Whether it is to be forwarded.
    pub fn hear(&mut self, now: Instant, track: TrackKey, client: ClientKey, level: u8) -> Heard {
        let loudness = f32::from(127 - level.min(127));
        match self.voices.iter_mut().find(|v| v.track == track) {
            Some(voice) => {
                voice.loudness += (loudness - voice.loudness) * WEIGHT;
                voice.heard = now;
            }
            None => self.voices.push(Voice { track, client, loudness: loudness * WEIGHT, heard: now, until: None }),
        }
        self.next.get_or_insert(now + INTERVAL);
        let Some(n) = self.last_n.filter(|_| !self.loudest.contains(&track)) else { return Heard::Yes };
        if self.follows {
            return Heard::No;
        }
        if self.takes_a_place(now, track, n) { Heard::Again } else { Heard::No }
    }

    /// Takes the loudness of a track that is heard on another shard, smoothed there.
    pub fn hear_far(&mut self, now: Instant, track: TrackKey, client: ClientKey, loudness: f32) {
        match self.voices.iter_mut().find(|v| v.track == track) {
            Some(voice) => (voice.loudness, voice.heard) = (loudness, now),
            None => self.voices.push(Voice { track, client, loudness, heard: now, until: None }),
        }
        self.next.get_or_insert(now + INTERVAL);
        if let Some(n) = self.last_n.filter(|_| !self.loudest.contains(&track)) {
            self.takes_a_place(now, track, n);
        }
    }

    /// How loud each track is that was heard lately, and when to look again.
    pub fn levels(&mut self, now: Instant) -> Vec<(TrackKey, f32)> {
        let heard = self.voices.iter().filter(|v| now.saturating_duration_since(v.heard) <= STALE);
        let levels: Vec<_> = heard.map(|voice| (voice.track, voice.loudness)).collect();
        self.next = (!levels.is_empty()).then_some(now + INTERVAL);
        levels
    }

    /// The tracks whose sound is forwarded; `None`: all.
    pub fn loudest(&self) -> Option<&[TrackKey]> {
        self.last_n.map(|_| &self.loudest[..])
    }

    /// The same, when it is not what was given last.
    pub fn loudest_news(&mut self) -> Option<Option<Vec<TrackKey>>> {
        let news = self.loudest().map(<[_]>::to_vec);
        let before = self.told.replace(news.clone());
        (before.as_ref() != Some(&news)).then_some(news)
    }

    /// From now on another shard decides whose sound is forwarded: these tracks'.
    pub fn follow(&mut self, loudest: Option<Vec<TrackKey>>) {
        self.follows = true;
        self.last_n = loudest.as_ref().map(Vec::len);
        self.loudest = loudest.unwrap_or_default();
    }

    /// Notes who speaks from now on.
    pub fn set_current(&mut self, now: Instant, clients: Vec<ClientKey>) {
        let before = std::mem::replace(&mut self.current, clients);
        let stopped: Vec<_> = before.into_iter().filter(|client| !self.current.contains(client)).collect();
        // Of several who stop at once the loudest is the last.
        for client in stopped.into_iter().rev() {
            self.former.retain(|(other, at)| *other != client && now.saturating_duration_since(*at) < LATELY);
            self.former.push((client, now));
        }
    }

    /// Whether `client` speaks, has spoken a moment ago, or was the last one who has.
    pub fn has_spoken_lately(&self, now: Instant, client: ClientKey) -> bool {
        let is_last = || self.current.is_empty() && self.former.last().is_some_and(|(last, _)| *last == client);
        let lately = |(_, at): &(_, Instant)| now.saturating_duration_since(*at) < LATELY;
        let has_stopped = || self.former.iter().find(|(other, _)| *other == client).is_some_and(lately);
        self.is_speaking(client) || has_stopped() || is_last()
    }

    /// Makes `track` one of the `n` loudest, if it is.
    fn takes_a_place(&mut self, now: Instant, track: TrackKey, n: usize) -> bool {
        if self.loudest.len() < n {
            self.loudest.push(track);
            return true;
        }
        let loudness = |track: TrackKey| {
            let voice = self.voices.iter().find(|v| v.track == track);
            voice.filter(|v| now.saturating_duration_since(v.heard) <= STALE).map_or(0.0, |v| v.loudness)
        };
        let quietest = (0..self.loudest.len()).min_by(|a, b| {
            let [a, b] = [*a, *b].map(|place| loudness(self.loudest[place]));
            a.total_cmp(&b)
        });
        let place = quietest.filter(|place| loudness(self.loudest[*place]) + LOUDER < loudness(track));
        place.map(|place| self.loudest[place] = track).is_some()
    }

    /// When to look again; `None` while nobody can be speaking.
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Who spoke at the last look, loudest first.
    pub fn current(&self) -> &[ClientKey] {
        &self.current
    }

    /// Whether `client` is one of those told of last.
    pub fn is_speaking(&self, client: ClientKey) -> bool {
        self.current.contains(&client)
    }

    /// A track is gone.
    pub fn remove(&mut self, track: TrackKey) {
        self.voices.retain(|v| v.track != track);
        self.loudest.retain(|t| *t != track);
    }

    /// Looks; the speakers, loudest first, when they are others than before.
    pub fn evaluate(&mut self, now: Instant) -> Option<&[ClientKey]> {
        let mut speaking: Vec<(ClientKey, f32)> = Vec::new();
        for voice in &mut self.voices {
            let is_stale = now.saturating_duration_since(voice.heard) > STALE;
            if is_stale {
                voice.loudness = 0.0;
            }
            let was = voice.until.is_some_and(|until| now < until);
            if voice.loudness >= START || (was && voice.loudness >= STOP) {
                voice.until = Some(now + HOLD);
            }
            if voice.until.is_some_and(|until| now < until) {
                speaking.push((voice.client, voice.loudness));
            }
        }
        let anybody_heard = self.voices.iter().any(|v| now.saturating_duration_since(v.heard) <= STALE);
        self.next = (anybody_heard || !speaking.is_empty()).then_some(now + INTERVAL);
        speaking.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut clients: Vec<ClientKey> = Vec::with_capacity(speaking.len().min(MAX_SPEAKERS));
        for (client, _) in speaking {
            if !clients.contains(&client) && clients.len() < MAX_SPEAKERS {
                clients.push(client);
            }
        }
        let mut before = self.current.clone();
        let mut after = clients.clone();
        before.sort();
        after.sort();
        if before == after {
            return None;
        }
        self.set_current(now, clients);
        Some(&self.current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    #[test]
    fn somebody_speaks_after_some_loud_packets_and_stays_a_speaker_through_short_pauses() {
        let (mut tracks, mut clients) = (SlotMap::<TrackKey, ()>::with_key(), SlotMap::<ClientKey, ()>::with_key());
        let (track, client) = (tracks.insert(()), clients.insert(()));
        let t0 = Instant::now();
        let mut speakers = Speakers::default();
        assert_eq!(speakers.deadline(), None);
        let mut now = t0;
        let mut said = Vec::new();
        // (packets of 20 ms, level): a knock, silence, speech, a short pause, speech, silence
        for (packets, level) in [(2, 20), (50, 127), (50, 30), (10, 127), (25, 30), (100, 127)] {
            for _ in 0..packets {
                now += Duration::from_millis(20);
                speakers.hear(now, track, client, level);
                if speakers.deadline().is_some_and(|at| at <= now)
                    && let Some(current) = speakers.evaluate(now)
                {
                    said.push(current.to_vec());
                }
            }
        }
        assert_eq!(said, [vec![client], vec![]]);
    }

    #[test]
    fn only_the_loudest_are_heard_and_nobody_takes_the_place_of_one_who_is_as_loud() {
        let (mut tracks, mut clients) = (SlotMap::<TrackKey, ()>::with_key(), SlotMap::<ClientKey, ()>::with_key());
        let people: Vec<_> = (0..3).map(|_| (tracks.insert(()), clients.insert(()))).collect();
        let mut now = Instant::now();
        let mut speakers = Speakers::new(Some(2));
        // (packets of 20 ms, the levels of the three, who is heard at their end)
        for (packets, levels, expected) in [
            (50, [30, 30, 127], [true, true, false]),
            (50, [30, 30, 30], [true, true, false]),
            (50, [30, 90, 30], [true, false, true]),
            (50, [30, 30, 28], [true, false, true]),
            (50, [100, 20, 30], [false, true, true]),
        ] {
            let mut heard = [Heard::No; 3];
            for _ in 0..packets {
                now += Duration::from_millis(20);
                for (n, (track, client)) in people.iter().enumerate() {
                    heard[n] = speakers.hear(now, *track, *client, levels[n]);
                }
            }
            assert_eq!(heard.map(|heard| heard == Heard::Yes), expected, "{levels:?}");
        }
        // One who is gone, or whose packets have stopped, leaves the place.
        speakers.remove(people[1].0);
        assert_eq!(speakers.hear(now, people[0].0, people[0].1, 127), Heard::Again);
        speakers.set_last_n(None);
        assert_eq!(speakers.hear(now, people[1].0, people[1].1, 127), Heard::Yes);
    }

    #[test]
    fn who_has_spoken_counts_for_ten_seconds_and_the_last_one_until_somebody_else_speaks() {
        let mut clients = SlotMap::<ClientKey, ()>::with_key();
        let [a, b, c] = [(); 3].map(|()| clients.insert(()));
        let start = Instant::now();
        let mut speakers = Speakers::default();
        // (second, who speaks from then on, and who has spoken lately a second later)
        for (second, speaking, expected) in [
            (0, vec![a], [true, false, false]),
            (100, vec![], [true, false, false]),
            (200, vec![], [true, false, false]),
            (201, vec![b], [false, true, false]),
            (203, vec![b, a], [true, true, false]),
            (204, vec![c], [true, true, true]),
            (212, vec![c, a], [true, true, true]),
            (300, vec![], [true, false, true]),
            (320, vec![], [false, false, true]),
        ] {
            speakers.set_current(start + Duration::from_secs(second), speaking);
            let now = start + Duration::from_secs(second + 1);
            let lately = [a, b, c].map(|client| speakers.has_spoken_lately(now, client));
            assert_eq!(lately, expected, "{second}");
        }
    }

    #[test]
    fn when_packets_stop_the_room_falls_silent_and_needs_no_more_looks() {
        let (mut tracks, mut clients) = (SlotMap::<TrackKey, ()>::with_key(), SlotMap::<ClientKey, ()>::with_key());
        let (track, client) = (tracks.insert(()), clients.insert(()));
        let mut now = Instant::now();
        let mut speakers = Speakers::default();
        for _ in 0..50 {
            now += Duration::from_millis(20);
            speakers.hear(now, track, client, 10);
        }
        assert_eq!(speakers.evaluate(now), Some(&[client][..]));
        now += Duration::from_secs(2);
        assert_eq!(speakers.evaluate(now), Some(&[][..]));
        assert_eq!(speakers.deadline(), None);
    }
}
