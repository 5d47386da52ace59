//! The loads: who joins which room, publishes and receives what, and when.

use std::collections::HashMap;
use std::time::Duration;

use clap::ValueEnum;
use moonring_wire::id::RoomId;
use moonring_wire::media::CodecName;

use crate::signalling::{ClientPlan, Receive, Target};

/// Between the last publisher and the first subscriber of a webinar, or of a room over WHIP and WHEP.
const AUDIENCE_WAITS: Duration = Duration::from_millis(500);

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A few publish video (with-audio: and sound), many receive (publishers, subscribers).
    Webinar,
    /// Everybody publishes video (with-audio: and sound) and receives everybody (clients).
    Meeting,
    /// Everybody publishes sound and receives everybody (clients).
    AudioRoom,
    /// Many meetings (rooms, clients each; --idle: sound that nobody speaks into).
    Rooms,
    /// A webinar whose audience comes all at once.
    JoinStorm,
    /// A webinar whose audience leaves and comes again (stay-s).
    Churn,
    /// A meeting while a script file is touched every second (touch).
    Reload,
    /// Many meetings whose clients are moved between shards and nodes (rooms, clients each; admin, moves-per-s).
    Move,
}

/// How large a load is.
#[derive(Clone, Debug)]
pub struct Size {
    /// The room, or the rooms' common prefix.
    pub room: RoomId,
    /// Rooms.
    pub rooms: usize,
    /// Publishers of a webinar.
    pub publishers: usize,
    /// Subscribers of a webinar.
    pub subscribers: usize,
    /// Clients of a meeting.
    pub clients: usize,
    /// Whether webinars and meetings have sound as well.
    pub with_audio: bool,
    /// Whether webinars have sound only.
    pub no_video: bool,
    /// Whether rooms have sound only, which is to be silent.
    pub idle: bool,
    /// Joins in a second.
    pub joins_per_s: f64,
    /// Mean time that a client of [`Scenario::Churn`] stays.
    pub stay: Duration,
}

impl Scenario {
    /// Who does what.
    pub fn plan(self, size: &Size) -> Result<Vec<ClientPlan>, String> {
        match self {
            Self::Webinar => webinar(size, size.joins_per_s, None),
            Self::JoinStorm => webinar(size, f64::INFINITY, None),
            Self::Churn => webinar(size, size.joins_per_s, Some(size.stay)),
            Self::Meeting | Self::Reload => meetings(size, 1, true),
            Self::AudioRoom => meetings(size, 1, false),
            Self::Rooms | Self::Move => meetings(size, size.rooms, !size.idle),
        }
    }

    /// What a ramp grows: subscribers, clients or rooms.
    pub fn load(self, size: &Size) -> usize {
        match self {
            Self::Webinar | Self::JoinStorm | Self::Churn => size.subscribers,
            Self::Meeting | Self::Reload | Self::AudioRoom => size.clients,
            Self::Rooms | Self::Move => size.rooms,
        }
    }

    /// The size with another load.
    pub fn with_load(self, size: &Size, load: usize) -> Size {
        match self {
            Self::Webinar | Self::JoinStorm | Self::Churn => Size { subscribers: load, ..size.clone() },
            Self::Meeting | Self::Reload | Self::AudioRoom => Size { clients: load, ..size.clone() },
            Self::Rooms | Self::Move => Size { rooms: load, ..size.clone() },
        }
    }
}

/// The sessions that `plans` are at `target`: with WHIP and WHEP whoever publishes and receives is two. WHEP knows nobody's own
/// tracks, so the second one receives all of the room, and comes when all have come, as it is not told of others.
pub fn sessions(target: &Target, plans: Vec<ClientPlan>) -> Vec<ClientPlan> {
    if matches!(target, Target::WebSocket(_)) {
        return plans;
    }
    let mut published: HashMap<_, Vec<CodecName>> = HashMap::new();
    let publishers = || plans.iter().filter(|plan| !plan.publish.is_empty());
    publishers().for_each(|plan| published.entry(plan.room.clone()).or_default().extend(&plan.publish));
    let all_there = publishers().map(|plan| plan.starts).max().unwrap_or_default() + AUDIENCE_WAITS;
    let split = |plan: ClientPlan| {
        if plan.publish.is_empty() || plan.receive == Receive::Nothing {
            return [Some(plan), None];
        }
        let expects = published.get(&plan.room).cloned().unwrap_or_default();
        let listener = ClientPlan { publish: Vec::new(), expects, starts: all_there + plan.starts, ..plan.clone() };
        [Some(ClientPlan { receive: Receive::Nothing, ..plan }), Some(listener)]
    };
    plans.into_iter().flat_map(split).flatten().collect()
}

fn webinar(size: &Size, joins_per_s: f64, stay: Option<Duration>) -> Result<Vec<ClientPlan>, String> {
    let codecs = codecs(!size.no_video, size.with_audio || size.no_video);
    let publisher = |n: usize| ClientPlan {
        room: size.room.clone(),
        publish: codecs.clone(),
        receive: Receive::Nothing,
        expects: Vec::new(),
        starts: after(n, size.joins_per_s),
        stays: None,
        viewing: None,
    };
    let audience = after(size.publishers, size.joins_per_s) + AUDIENCE_WAITS;
    let subscriber = |n: usize| ClientPlan {
        room: size.room.clone(),
        publish: Vec::new(),
        receive: Receive::Everything,
        expects: codecs.clone(),
        starts: audience + after(n, joins_per_s),
        // From half to one and a half times the mean, evenly spread.
        stays: stay.map(|mean| mean.mul_f64(0.5 + (n % 16) as f64 / 15.0)),
        viewing: None,
    };
    Ok((0..size.publishers).map(publisher).chain((0..size.subscribers).map(subscriber)).collect())
}

fn meetings(size: &Size, rooms: usize, video: bool) -> Result<Vec<ClientPlan>, String> {
    let publish = codecs(video, size.with_audio || !video);
    let mut plans = Vec::with_capacity(rooms * size.clients);
    for room in 0..rooms {
        let name = if rooms == 1 { size.room.as_str().to_owned() } else { format!("{}-{room}", size.room) };
        let name = RoomId::parse(&name).map_err(|error| format!("the room {name:?} {error}"))?;
        for _ in 0..size.clients {
            plans.push(ClientPlan {
                room: name.clone(),
                publish: publish.clone(),
                receive: Receive::Everything,
                expects: Vec::new(),
                starts: after(plans.len(), size.joins_per_s),
                stays: None,
                viewing: None,
            });
        }
    }
    Ok(plans)
}

fn codecs(video: bool, audio: bool) -> Vec<CodecName> {
    [(audio, CodecName::Opus), (video, CodecName::Vp8)]
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, codec)| codec)
        .collect()
}

fn after(joins: usize, per_second: f64) -> Duration {
    Duration::try_from_secs_f64(joins as f64 / per_second).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn size() -> Size {
        Size {
            room: RoomId::parse("load").unwrap(),
            rooms: 4,
            publishers: 1,
            subscribers: 50,
            clients: 3,
            with_audio: false,
            no_video: false,
            idle: false,
            joins_per_s: 100.0,
            stay: Duration::from_secs(10),
        }
    }

    #[test]
    fn every_scenario_has_its_clients_rooms_and_tracks() {
        for (scenario, clients, rooms, tracks, last) in [
            (Scenario::Webinar, 51, 1, 1, 1_000),
            (Scenario::JoinStorm, 51, 1, 1, 510),
            (Scenario::Churn, 51, 1, 1, 1_000),
            (Scenario::Meeting, 3, 1, 3, 20),
            (Scenario::AudioRoom, 3, 1, 3, 20),
            (Scenario::Rooms, 12, 4, 12, 110),
            (Scenario::Reload, 3, 1, 3, 20),
            (Scenario::Move, 12, 4, 12, 110),
        ] {
            let plans = scenario.plan(&size()).unwrap();
            let mut names: Vec<_> = plans.iter().map(|plan| plan.room.clone()).collect();
            names.sort();
            names.dedup();
            let published: usize = plans.iter().map(|plan| plan.publish.len()).sum();
            let starts = plans.iter().map(|plan| plan.starts).max().unwrap();
            assert_eq!((plans.len(), names.len(), published), (clients, rooms, tracks), "{scenario:?}");
            assert_eq!(starts, Duration::from_millis(last), "{scenario:?}");
        }
    }

    #[test]
    fn who_publishes_and_receives_is_two_sessions_for_whip_and_whep() {
        let [http, websocket] =
            ["whip+https://a", "wss://a/ws"].map(|target| |plans| sessions(&Target::parse(target).unwrap(), plans));
        let rooms = || Scenario::Rooms.plan(&Size { rooms: 2, with_audio: true, ..size() }).unwrap();
        assert_eq!(websocket(rooms()).len(), 6);
        let there = http(rooms());
        let (publishers, listeners): (Vec<_>, Vec<_>) = there.iter().partition(|plan| !plan.publish.is_empty());
        assert_eq!((publishers.len(), listeners.len()), (6, 6));
        assert!(publishers.iter().all(|plan| plan.receive == Receive::Nothing && plan.publish.len() == 2));
        for listener in listeners {
            assert_eq!((listener.receive, listener.expects.len()), (Receive::Everything, 6), "all of the room");
            assert!(publishers.iter().all(|plan| plan.starts < listener.starts));
        }
        let webinar = http(Scenario::Webinar.plan(&size()).unwrap());
        assert_eq!(webinar.len(), 51, "each of them does one of the two");
    }

    #[test]
    fn an_idle_room_has_sound_only_and_a_long_name_is_refused() {
        let idle = Scenario::Rooms.plan(&Size { idle: true, ..size() }).unwrap();
        assert!(idle.iter().all(|plan| plan.publish == [CodecName::Opus]));
        let long = Size { room: RoomId::parse(&"x".repeat(64)).unwrap(), ..size() };
        assert!(Scenario::Rooms.plan(&long).is_err());
    }
}
