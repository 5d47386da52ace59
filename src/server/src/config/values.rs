//! The types of settings that have a form of their own.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use axum::http::HeaderName;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command, ValueEnum};
use globset::Glob;
use serde::Deserialize;

/// The secret as long as nobody chose one; the server warns of it loudly.
pub(crate) const DEFAULT_SECRET: &str = "moonring";

pub(super) const NO_SOCKET: &str = "not an IP address with a port, such as 127.0.0.1:8080 or [::]:8080";
pub(super) const NO_IP: &str = "not an IP address, such as 203.0.113.7 or 2001:db8::7";

/// A path that may be empty, which clap's own parser of paths refuses.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| NO_SOCKET)
}

pub(super) fn ip_address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| NO_IP)
}

/// A range of ports, both ends included: `40000-40100`, or one: `40000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl PortRange {
    /// How many.
    #[expect(clippy::len_without_is_empty, reason = "a range has at least one port")]
    pub fn len(self) -> usize {
        usize::from(self.last - self.first) + 1
    }
    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl FromStr for PortRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(Self { first, last }),
            _ => Err(format!("{text:?} is not a range of ports; write it like 40000-40100")),
        }
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Which rooms run which script: `meeting-*=meeting.lua`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RoomScript {
    /// Which room ids.
    pub pattern: Glob,
    /// A file name in the folder of scripts.
    pub script: String,
}

impl FromStr for RoomScript {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, script) =
            text.split_once('=').ok_or_else(|| format!("{text:?} is not <glob of room ids>=<script>"))?;
        let pattern = Glob::new(pattern.trim()).map_err(|error| error.to_string())?;
        let script = script.trim();
        let safe = script.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        if !safe || !script.ends_with(".lua") {
            return Err(format!("{script:?} is not a .lua file below the folder of scripts"));
        }
        Ok(Self { pattern, script: script.to_owned() })
    }
}

impl TryFrom<String> for RoomScript {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What scripts find in `sfu.config`: `"<name>=<value>"`, the value as JSON, or as text when it is none.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(try_from = "String")]
pub struct ScriptSetting {
    /// The name in `sfu.config`.
    pub name: String,
    /// What scripts find there.
    pub value: serde_json::Value,
}

/// Reads one on the command line or in the environment; clap's own error would repeat the value.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScriptSettings;

impl TypedValueParser for ScriptSettings {
    type Value = ScriptSetting;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> Result<ScriptSetting, clap::Error> {
        let read = value.to_str().ok_or_else(|| "it is not UTF-8".to_owned()).and_then(str::parse);
        read.map_err(|why: String| {
            let words = format!(
                "{why}; a comma ends a setting here: tables, and texts with a comma, stand in the configuration file\n"
            );
            clap::Error::raw(ErrorKind::ValueValidation, words).with_cmd(command)
        })
    }
}

impl FromStr for ScriptSetting {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // The text itself may be a key: it is not repeated.
        let (name, value) = text.split_once('=').ok_or("a setting of script_config is not <name>=<value>")?;
        let (name, value) = (name.trim(), value.trim());
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(fits) {
            return Err("the name of a setting of script_config is not of letters, digits and '_'".into());
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        Ok(Self { name: name.to_owned(), value })
    }
}

impl TryFrom<String> for ScriptSetting {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Debug for ScriptSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=...", self.name)
    }
}

/// The name of a header of HTTP requests, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RequestHeader(pub HeaderName);

impl RequestHeader {
    /// Longest name.
    const MAX_BYTES: usize = 64;
}

impl FromStr for RequestHeader {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fits = text.len() <= Self::MAX_BYTES;
        let name = HeaderName::try_from(text).ok().filter(|_| fits);
        name.map(Self).ok_or_else(|| format!("{text:?} is not the name of a header"))
    }
}

impl TryFrom<String> for RequestHeader {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A text that is not shown in logs.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Secret(pub String);

impl Secret {
    /// True while nobody chose a secret.
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT_SECRET
    }
}

impl FromStr for Secret {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("an empty secret lets everybody in".into()) } else { Ok(Self(text.into())) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(...)")
    }
}

/// A part of what the process gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SandboxPart {
    /// It opens only scripts, certificates, its data folder and what the system needs (Landlock).
    Files,
    /// It starts no programs and does no administration (seccomp).
    Calls,
    /// It keeps only the capabilities that it needs.
    Capabilities,
    /// No core dumps, and no other process of the user reads its memory.
    Dumps,
    /// Nothing: for a list that is otherwise empty.
    None,
}

impl SandboxPart {
    /// Everything.
    pub const ALL: [Self; 4] = [Self::Files, Self::Calls, Self::Capabilities, Self::Dumps];
}

/// A store of policies that all nodes of a cluster share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ClusterStore {
    /// `sfu.store`.
    Store,
    /// `sfu.shared`.
    Shared,
    /// Neither: for a list that is otherwise empty.
    None,
}

impl ClusterStore {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Store, Self::Shared];
}

/// A text that is not shown in logs; empty: there is none.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct OptionalSecret(pub String);

impl FromStr for OptionalSecret {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for OptionalSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OptionalSecret(...)")
    }
}

/// Whether DTLS 1.3 is spoken with clients that offer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dtls13 {
    /// DTLS 1.2 with everybody; takes RSA certificates of browsers, too.
    Off,
    /// Where the client's first SRTP profile is AES-GCM: with DTLS 1.3 that one is used.
    Fast,
    /// With everybody who offers it.
    Always,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// What clients are told when the server shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ShutdownSays {
    /// It restarts: clients come back by themselves.
    Restarting,
    /// It stops for good: clients do not come back.
    Closing,
}

/// Whether the clients of one room may be on several shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RoomSpread {
    /// All are on one.
    #[default]
    Never,
    /// Those who come while it is busy are on others.
    Load,
    /// Each is on the next one.
    Always,
}

/// What becomes of a script that is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnSave {
    /// All rooms that run it get the new version.
    Reload,
    /// Some rooms get it, and all of them when it is good.
    Canary,
    /// Nothing, until an operator reloads.
    Nothing,
}
