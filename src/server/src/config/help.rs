//! Which settings each verb reads, and its help lists.

use clap::{Arg, Command, CommandFactory};

use super::{Cli, Config, Options};

/// What a verb that asks a running server reads of the settings.
pub(super) const TO_ASK: &[&str] = &["config", "admin_listen", "admin_token"];
/// What one that begins a canary reads.
pub(super) const TO_RELOAD: &[&str] = &["config", "admin_listen", "admin_token", "canary_s"];

impl Cli {
    /// The settings for a verb that asks a running server. Those that it does not read may be anything: the server has some of
    /// them from elsewhere, such as secrets from an environment of its own.
    pub(crate) fn load_to_ask(self) -> anyhow::Result<Config> {
        let config = self.given()?;
        config.check_admin()?;
        Ok(config)
    }
}

/// The command line as clap has it. Each verb takes every setting, so that one command line or environment serves all, and
/// its help lists those that it reads.
pub(super) fn command_line() -> Command {
    let mut command = Cli::command().mut_args(|arg| match is_empty_list(&arg) {
        true => arg.env(None),
        false => arg,
    });
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

/// Whether the environment has an empty variable for a list, as a template makes it where nobody has chosen anything
/// (`MOONRING_ANNOUNCED_IP=`): that counts as one that is not set. The same of the configuration file's name.
fn is_empty_list(arg: &Arg) -> bool {
    let is_one = arg.get_value_delimiter().is_some() || arg.get_id() == "config";
    is_one && arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty())
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
