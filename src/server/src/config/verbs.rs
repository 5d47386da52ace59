//! The command line's verbs.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use moonring_wire::media::Source;
use moonring_wire::rights::Sources;

/// Seconds that the draining of a node takes unless it is told otherwise.
pub(crate) const DRAIN_S: u64 = 600;

/// What is to become of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CanaryVerb {
    /// Show it
    Status,
    /// All rooms get its version
    Promote,
    /// No room keeps its version
    Abort,
}

/// What is to become of uploaded scripts.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ScriptsVerb {
    /// Show which scripts are uploaded, and which nodes have them
    List,
    /// Upload a script, or all of a folder in the place of all that were uploaded; used by all nodes, or by none
    Push {
        /// The script, or the folder
        #[arg(value_name = "FILE|FOLDER")]
        path: PathBuf,
        /// The name of a script in the scripts folder, such as rooms/demo.lua; the file's own when nothing is said
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
    },
    /// Take uploaded scripts back; files of the scripts folder with the same name hold again
    Drop {
        /// The scripts, as moonring scripts list names them
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// What the program is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Subcommand)]
pub enum Verb {
    /// Run the server
    #[default]
    Run,
    /// Show the nodes of the cluster, as a running server sees them, asked at admin-listen
    Nodes {
        /// One JSON object per line instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Let a node of a cluster, asked at admin-listen, take no new rooms, and its clients go on at other nodes, where their rooms'
    /// homes follow; who is left at the deadline joins anew there
    Drain {
        /// After so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = DRAIN_S)]
        deadline_s: u64,
        /// Return when clients and homes have gone, or the deadline is over
        #[arg(long)]
        wait: bool,
    },
    /// Let it take new rooms and clients again
    Undrain,
    /// Show the rooms of a running server, and of all nodes of its cluster, asked at admin-listen
    Rooms {
        /// One JSON object per line instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show who is in a room of a running server, asked at admin-listen, and what each publishes and receives
    Clients {
        /// Which room
        room: String,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Let a running server, asked at admin-listen, read its scripts again
    Reload {
        /// Give this room its script's newest version without the state of the one that runs: when on_unload fails
        #[arg(long, value_name = "ROOM")]
        drop_state: Option<String>,
        /// Give the newest scripts to some rooms only, a share such as 5% or a glob of room ids, and let what happens decide
        #[arg(long, value_name = "ROOMS", conflicts_with = "drop_state")]
        canary: Option<String>,
        /// How long the canary is watched; canary-s when nothing is said
        #[arg(long = "for", value_name = "SECONDS", requires = "canary")]
        seconds: Option<u64>,
    },
    /// Scripts that are uploaded to a running server, asked at admin-listen, and with it to all nodes of its cluster
    Scripts {
        /// What is to be done
        #[command(subcommand)]
        order: ScriptsVerb,
    },
    /// Show the canary of a running server, or how the last one ended
    Canary {
        /// promote: all rooms get its version now; abort: none keeps it
        #[arg(value_enum)]
        order: Option<CanaryVerb>,
    },
    /// Let a script that was suspended after too many failures run again
    Resume {
        /// The room whose script is suspended
        room: String,
    },
    /// Open a room before anybody comes
    Open {
        /// The room
        room: String,
        /// What its script finds as sfu.room.metadata: an object of JSON
        #[arg(default_value = "{}")]
        metadata: String,
    },
    /// Call on_admin of a room's policy with a request, and show its answer
    Call {
        /// The room
        room: String,
        /// The request, as JSON
        request: String,
    },
    /// Disconnect a client
    Kick {
        /// The room
        room: String,
        /// The client
        client: String,
        /// What the client is told
        reason: Option<String>,
    },
    /// Disconnect everybody in a room
    Close {
        /// The room
        room: String,
        /// What the clients are told
        reason: Option<String>,
    },
    /// Mute a client's track for everybody
    Mute {
        /// The room
        room: String,
        /// The client
        client: String,
        /// The track
        track: String,
        /// Let it be heard again
        #[arg(long)]
        undo: bool,
    },
    /// Move a client to another shard of the server, or to another node of its cluster, where rooms are spread; its media goes on
    #[command(group = clap::ArgGroup::new("to").multiple(true).required(true))]
    Move {
        /// The room
        room: String,
        /// The client
        client: String,
        /// The node; this one when none is named
        #[arg(long, value_name = "NAME", group = "to")]
        node: Option<String>,
        /// The shard, 0 the first; of another node one of its choice when none is named
        #[arg(long, value_name = "N", group = "to")]
        shard: Option<u16>,
    },
    /// Say of a client what others can trust, in the place of what was said before
    Attributes {
        /// The room
        room: String,
        /// The client
        client: String,
        /// An object of JSON
        attributes: String,
    },
    /// Change what a client may do; what is not named stays as it is
    #[command(group = clap::ArgGroup::new("rights").multiple(true).required(true))]
    Rights {
        /// The room
        room: String,
        /// The client
        client: String,
        /// What it may publish: all, none, or sources with commas between them, such as microphone,screen
        #[arg(long, value_name = "SOURCES", group = "rights", value_parser = sources)]
        publish: Option<Sources>,
        /// Whether it may receive tracks
        #[arg(long, value_name = "true|false", group = "rights")]
        subscribe: Option<bool>,
        /// Whether it may send messages to the room's policy
        #[arg(long, value_name = "true|false", group = "rights")]
        message: Option<bool>,
        /// What it is told when a track or a subscription of it ends
        #[arg(long)]
        reason: Option<String>,
    },
    /// Send a message to everybody in a room, or to one client
    Message {
        /// The room
        room: String,
        /// The message, as JSON
        message: String,
        /// The client
        #[arg(long)]
        client: Option<String>,
    },
    /// Show what a room's policy does while it does it: events, verdicts, actions, times
    Trace {
        /// The room
        room: String,
        /// The lines as JSON, as they come
        #[arg(long)]
        json: bool,
    },
    /// Record a room's policy from now on, for moonring replay; on standard output, until Ctrl-C or the end of the room
    Record {
        /// The room
        room: String,
        /// For so many seconds
        #[arg(long = "for", value_name = "SECONDS")]
        seconds: Option<u64>,
    },
    /// Run a recording through another version of its script, offline, and show what differs; the exit code is 1 when
    /// something does, 2 when a file cannot be read
    Replay {
        /// The version to try
        #[arg(value_name = "SCRIPT")]
        script: PathBuf,
        /// What moonring record has written
        #[arg(value_name = "FILE")]
        recording: PathBuf,
        /// Write a test for moonring test out of the recording, for a script of this name, instead of comparing
        #[arg(long)]
        as_test: bool,
    },
    /// Look for mistakes in policy scripts without running them
    Check {
        /// Scripts, or folders of them
        #[arg(required = true, value_name = "SCRIPT")]
        scripts: Vec<PathBuf>,
        /// Fail on warnings too
        #[arg(long)]
        strict: bool,
    },
    /// Run the tests of policy scripts, offline
    Test {
        /// Test files (*_test.lua), or folders of them
        #[arg(required = true, value_name = "SCRIPT_test.lua")]
        tests: Vec<PathBuf>,
    },
}

/// The value of `--publish`.
fn sources(text: &str) -> Result<Sources, String> {
    match text {
        "all" => return Ok(Sources::ALL),
        "none" => return Ok(Sources::NONE),
        _ => {}
    }
    let known = || Source::ALL.map(Source::as_str).join(", ");
    let source = |word: &str| {
        Source::from_word(word).ok_or_else(|| format!("{word:?} is not all, none or a source ({})", known()))
    };
    text.split(',').map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_may_publish_is_all_none_or_a_list() {
        for (text, expected) in [
            ("all", Ok(Sources::ALL)),
            ("none", Ok(Sources::NONE)),
            ("microphone", Ok([Source::Microphone].into_iter().collect())),
            ("screen,camera", Ok([Source::Camera, Source::Screen].into_iter().collect())),
            ("", Err("\"\" is not all, none or a source (camera, microphone, screen, screen_audio, other)")),
            (
                "camera, screen",
                Err("\" screen\" is not all, none or a source (camera, microphone, screen, screen_audio, other)"),
            ),
        ] {
            assert_eq!(sources(text), expected.map_err(str::to_owned), "{text}");
        }
    }
}
