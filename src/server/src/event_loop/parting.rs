//! A tick loop that hands its shard over: see [`super::hand_over`].

use std::io;
use std::sync::mpsc::{SyncSender, TryRecvError};
use std::time::Instant;

use super::hand_over::{Parted, Request, Verdict};
use super::pulse::Doing;
use super::tick::Ticker;
use super::{Core, Phase};

/// Flushes of a core that lets everything leave.
const LAST_FLUSHES: usize = 256;

impl<C: Core> Ticker<C> {
    /// Whether somebody wants to hand this shard over. Looked at after each tick.
    pub(super) fn is_asked_for(&mut self) -> bool {
        match self.control.requests.try_recv() {
            Ok(Request::Rest { until, rested }) => self.parting.resting.push((until, rested)),
            Ok(Request::HandOver(reply)) => self.parting.asked = Some(reply),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        self.parting.asked.is_some() || !self.parting.resting.is_empty()
    }

    /// Does what it is asked for; true when another process has the shard now.
    pub(super) fn answer_requests(&mut self) -> bool {
        let now = Instant::now();
        let is_at_rest = self.core.is_at_rest();
        self.parting.resting.retain(|(until, rested)| {
            let is_over = is_at_rest || now >= *until;
            if is_over {
                // Who has given up does not hear it.
                let _ = rested.try_send(());
            }
            !is_over
        });
        match self.parting.asked.take() {
            Some(reply) => self.part(now, &reply),
            None => false,
        }
    }

    fn part(&mut self, now: Instant, reply: &SyncSender<io::Result<Parted>>) -> bool {
        self.settings.pulse.begin_hand_over();
        // What comes from here on waits in the kernel for whoever goes on.
        self.udp.enlarge_receive_buffers();
        if let Some(tcp) = &mut self.tcp {
            // The other process listens already; connections end with this one, and their clients come again.
            tcp.stop_listening();
        }
        while self.udp.holds_received() {
            self.take_one(now);
        }
        for _ in 0..LAST_FLUSHES {
            let more = self.guarded(now, Phase::Forward, |core, out| core.forward_all(now, out)).unwrap_or(false);
            self.flush();
            if !more {
                break;
            }
        }
        let sockets = self.udp.share_sockets();
        let state = self.guarded(now, Phase::Stop, |core, _| core.hand_over(now)).flatten();
        self.send_events(now);
        let parted = match (sockets, state) {
            (Ok(sockets), Some(state)) => Ok(Parted::new(sockets, state)),
            (Err(error), _) => Err(error),
            (_, None) => Err(io::Error::other("the shard cannot tell its state")),
        };
        let verdict = match parted {
            Ok((parted, verdict)) => reply.send(Ok(parted)).ok().and_then(|()| verdict.recv().ok()),
            Err(error) => reply.send(Err(error)).ok().and(None),
        };
        match verdict {
            Some(Verdict::End(unloaded)) => {
                self.settings.pulse.begin(Doing::Goodbye);
                let each = &mut |room| drop(unloaded.send(room));
                let _: Option<()> = self.guarded(now, Phase::Stop, |core, _| core.hand_over_policies(now, each));
                true
            }
            None => {
                self.settings.pulse.begin(Doing::Datagrams);
                // What has come meanwhile fills them: they get their usual size later. The other process may have made them
                // smaller than they were, if it is not allowed as much as this one.
                self.udp.enlarge_receive_buffers();
                self.expect_much(now);
                if let Some(tcp) = &mut self.tcp {
                    tcp.listen_again(now);
                }
                false
            }
        }
    }
}
