//! Which settings the help of each verb lists.

use clap::{Command, CommandFactory};

use super::{Cli, Options};

/// What a verb that asks a running server reads of the settings.
pub(super) const TO_ASK: &[&str] = &["config", "admin_listen", "admin_token"];
/// What one that begins a canary reads.
pub(super) const TO_RELOAD: &[&str] = &["config", "admin_listen", "admin_token", "canary_s"];

/// The command line as clap has it. Each verb takes every setting, so that one command line or environment serves all, and
/// its help lists those that it reads.
pub(super) fn command_line() -> Command {
    let mut command = Cli::command();
    // From here on the settings are options of the verbs, too.
    command.build();
    for verb in command.get_subcommands_mut() {
        match verb.get_name() {
            "run" => {}
            "check" | "test" | "replay" => list_only(verb, &[]),
            "reload" => list_only(verb, TO_RELOAD),
            _ => list_only(verb, TO_ASK),
        }
    }
    command
}

/// Leaves the settings that are not among `read` out of a verb's help.
fn list_only(verb: &mut Command, read: &[&str]) {
    let is_hidden = |id: &str| (id == "config" || Options::NAMES.contains(&id)) && !read.contains(&id);
    *verb = std::mem::take(verb).mut_args(|arg| match is_hidden(arg.get_id().as_str()) {
        true => arg.hide(true),
        false => arg,
    });
    for below in verb.get_subcommands_mut() {
        list_only(below, read);
    }
}
