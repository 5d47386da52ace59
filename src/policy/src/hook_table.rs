//! The table of hooks: one row for each global function that the engine calls in a script.
//!
//! Whatever else depends on the hooks reads this table: the prelude is given names, arguments and verdicts from it, a
//! missing hook's default comes from it, and so do the findings of `moonring check`. `tests/policy_docs.rs` compares
//! `docs/policy.md` and `docs/moonring.lua` with it.

/// A hook. Its number in the prelude is its row in [`HOOKS`], counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    Init,
    ClientConnect,
    ClientDisconnect,
    PublishRequest,
    TrackPublished,
    TrackUnpublished,
    SubscribeRequest,
    Message,
    ActiveSpeakers,
    Admin,
    Close,
    Unload,
    Load,
}

/// How the prelude builds the arguments of a hook from what the engine passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// The values as they are.
    Plain,
    /// A client's number becomes its object; further values stay as they are.
    Client,
    /// A client's number becomes its object, the fields of a track become a table.
    ClientAndTrack,
    /// A list of clients' numbers becomes a list of objects.
    Clients,
}

impl Arguments {
    /// The name that the prelude knows.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Client => "client",
            Self::ClientAndTrack => "client and track",
            Self::Clients => "clients",
        }
    }
}

/// What happens to an event when the script does not define its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenMissing {
    /// Nothing is lost.
    Ignore,
    /// The request is allowed.
    Allow,
    /// The request is rejected with [`super::hook::NOT_DEFINED`].
    Reject,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct HookSpec {
    pub hook: Hook,
    /// The global function's name.
    pub name: &'static str,
    /// The names of its parameters, as the documentation shows them.
    pub parameters: &'static [&'static str],
    pub arguments: Arguments,
    /// True when its first return value is a verdict: only the boolean `true` allows.
    pub decides: bool,
    pub when_missing: WhenMissing,
    /// True when it may wait (`sfu.http`, `sfu.sleep`, `sfu.shared`).
    pub may_wait: bool,
}

/// The name of a timer's function in log lines.
pub(crate) const TIMER: &str = "timer";

const TRACK_HOOK: HookSpec = HookSpec {
    hook: Hook::TrackPublished,
    name: "on_track_published",
    parameters: &["client", "track"],
    arguments: Arguments::ClientAndTrack,
    decides: false,
    when_missing: WhenMissing::Ignore,
    may_wait: true,
};
const ROOM_HOOK: HookSpec = HookSpec {
    hook: Hook::Init,
    name: "on_init",
    parameters: &[],
    arguments: Arguments::Plain,
    decides: false,
    when_missing: WhenMissing::Ignore,
    may_wait: false,
};

/// All hooks, in the order of [`Hook`] and of the documentation.
pub const HOOKS: [HookSpec; 13] = [
    ROOM_HOOK,
    HookSpec {
        hook: Hook::ClientConnect,
        name: "on_client_connect",
        parameters: &["client", "auth_token"],
        arguments: Arguments::Client,
        decides: true,
        when_missing: WhenMissing::Reject,
        may_wait: true,
    },
    HookSpec {
        hook: Hook::ClientDisconnect,
        name: "on_client_disconnect",
        parameters: &["client", "reason"],
        arguments: Arguments::Client,
        decides: false,
        when_missing: WhenMissing::Ignore,
        may_wait: true,
    },
    HookSpec {
        hook: Hook::PublishRequest,
        name: "on_publish_request",
        decides: true,
        when_missing: WhenMissing::Reject,
        ..TRACK_HOOK
    },
    TRACK_HOOK,
    HookSpec { hook: Hook::TrackUnpublished, name: "on_track_unpublished", ..TRACK_HOOK },
    HookSpec {
        hook: Hook::SubscribeRequest,
        name: "on_subscribe_request",
        decides: true,
        when_missing: WhenMissing::Allow,
        ..TRACK_HOOK
    },
    HookSpec {
        hook: Hook::Message,
        name: "on_message",
        parameters: &["client", "message"],
        arguments: Arguments::Client,
        decides: false,
        when_missing: WhenMissing::Ignore,
        may_wait: true,
    },
    HookSpec {
        hook: Hook::ActiveSpeakers,
        name: "on_active_speakers",
        parameters: &["clients"],
        arguments: Arguments::Clients,
        decides: false,
        when_missing: WhenMissing::Ignore,
        may_wait: true,
    },
    HookSpec { hook: Hook::Admin, name: "on_admin", parameters: &["request"], may_wait: true, ..ROOM_HOOK },
    HookSpec { hook: Hook::Close, name: "on_close", parameters: &["reason"], may_wait: true, ..ROOM_HOOK },
    HookSpec { hook: Hook::Unload, name: "on_unload", ..ROOM_HOOK },
    HookSpec { hook: Hook::Load, name: "on_load", parameters: &["state", "old_version"], ..ROOM_HOOK },
];

impl Hook {
    /// Its row of the table.
    pub fn spec(self) -> &'static HookSpec {
        &HOOKS[self as usize]
    }

    /// Its number in the prelude.
    pub(crate) fn number(self) -> i64 {
        self as i64 + 1
    }
}

/// True when the engine calls a global function of this name.
pub fn is_hook(name: &str) -> bool {
    HOOKS.iter().any(|spec| spec.name == name)
}

/// True when what runs under this name in log lines may wait: hooks by their row, and timers.
pub(crate) fn may_wait(name: &str) -> bool {
    name == TIMER || HOOKS.iter().any(|spec| spec.name == name && spec.may_wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_stands_in_its_own_row() {
        for (row, spec) in HOOKS.iter().enumerate() {
            assert_eq!(spec.hook as usize, row, "{}", spec.name);
            assert_eq!(spec.hook.spec().name, spec.name);
        }
    }

    #[test]
    fn only_hooks_that_decide_reject_when_they_are_missing() {
        for spec in &HOOKS {
            assert_eq!(spec.decides, spec.when_missing != WhenMissing::Ignore, "{}", spec.name);
        }
    }
}
