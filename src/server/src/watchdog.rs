//! Notices a shard that has stopped answering, and ends the process rather than have it linger half dead: its
//! supervisor starts it anew, and its clients come back.

use std::thread;
use std::time::Duration;

use crate::ending;
use crate::event_loop::{BROKEN, Pulse};

/// How often is looked. Looks are counted instead of time passed, so that a process that stood still as a whole (SIGSTOP,
/// a suspended machine) is not taken for one that hangs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One shard that is watched.
#[derive(Debug)]
struct Watched {
    name: String,
    pulse: Pulse,
    ticks: u64,
    /// Looks in a row that found no tick.
    silent: u32,
}

/// The shards that are watched.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shards: Vec<Watched>,
    limit: u32,
}

impl Watchdog {
    /// Watches shards by name; `limit` looks without a tick are too many, 0 is never.
    pub(crate) fn new(shards: Vec<(String, Pulse)>, limit: u32) -> Self {
        let watch = |(name, pulse): (String, Pulse)| Watched { ticks: pulse.ticks(), name, pulse, silent: 0 };
        Self { shards: shards.into_iter().map(watch).collect(), limit }
    }

    /// Starts its thread, which lives as long as the shards; `alive` is called after each look that found all well.
    pub(crate) fn start(mut self, alive: impl Fn() + Send + 'static) -> std::io::Result<()> {
        let look = move || {
            while !self.shards.iter().all(|shard| shard.pulse.is_ending()) {
                thread::sleep(LOOK_EVERY);
                match self.look() {
                    None => alive(),
                    Some(words) => {
                        tracing::error!("{words}: the process ends");
                        ending::end_process(BROKEN);
                    }
                }
            }
        };
        thread::Builder::new().name("watchdog".into()).spawn(look).map(drop)
    }

    /// Looks once; words on a shard that has been silent for too long.
    fn look(&mut self) -> Option<String> {
        for shard in &mut self.shards {
            let ticks = shard.pulse.ticks();
            shard.silent = if ticks == shard.ticks { shard.silent + 1 } else { 0 };
            shard.ticks = ticks;
            let is_excused = shard.pulse.is_ending() || shard.pulse.is_handing_over();
            if self.limit > 0 && shard.silent >= self.limit && !is_excused {
                let (name, seconds, doing) = (&shard.name, shard.silent, shard.pulse.doing());
                return Some(format!("{name} has not answered for {seconds} s; it was at: {doing}"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_without_ticks_is_named_with_what_it_was_doing() {
        let (well, stuck) = (Pulse::default(), Pulse::default());
        let mut watchdog = Watchdog::new(vec![("shard-0".into(), well.clone()), ("shard-1".into(), stuck.clone())], 3);
        for _ in 0..2 {
            well.beat();
            assert_eq!(watchdog.look(), None);
        }
        stuck.beat();
        for _ in 0..3 {
            well.beat();
            assert_eq!(watchdog.look(), None, "a tick in between is enough");
        }
        well.beat();
        assert_eq!(watchdog.look().unwrap(), "shard-1 has not answered for 3 s; it was at: starting");
        stuck.begin_hand_over();
        assert_eq!(watchdog.look(), None, "who hands it over has patience of its own");
        let mut never = Watchdog::new(vec![("shard-0".into(), stuck)], 0);
        assert!((0..1000).all(|_| never.look().is_none()));
    }
}
