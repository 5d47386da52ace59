//! What `moonring check` would say of a script stands in the log, too, when the script comes into use: not everybody asks it first.

use std::time::Instant;

use moonring_policy::Script;
use moonring_policy::tools::check::{Level, Role, check_compiled};
use moonring_policy::tools::names::Names;

/// Warnings about one script that are told; `moonring check` tells all.
const MOST: usize = 8;

/// The names that scripts may use.
#[derive(Debug)]
pub(super) struct Mistakes(Option<Names>);

impl Mistakes {
    /// Without names nothing is told.
    pub(super) fn new() -> Self {
        Self(Names::of_sandbox(Instant::now()).ok())
    }

    /// Tells of what a script, which was compiled of this source, probably does not mean.
    pub(super) fn tell(&self, script: &Script, source: &[u8]) {
        for warning in self.lines(script, source) {
            tracing::warn!(script = script.name(), "{warning}");
        }
    }

    fn lines(&self, script: &Script, source: &[u8]) -> Vec<String> {
        let Some(names) = &self.0 else { return Vec::new() };
        let name = script.name();
        let report = check_compiled(name, (script, source), names, Role::Script);
        let warnings = report.findings.iter().filter(|finding| finding.level == Level::Warning);
        let mut lines: Vec<_> =
            warnings.map(|finding| format!("{name}:{}: {}", finding.line.max(1), finding.message)).collect();
        if lines.len() > MOST {
            let more = lines.len() - MOST;
            lines.truncate(MOST);
            lines.push(format!("and {more} more of these: moonring check tells all"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_hook_is_told_of_and_of_many_mistakes_the_first() {
        let mistakes = Mistakes::new();
        let lines = |source: &str| {
            let script = Script::compile("a.lua", source.as_bytes()).unwrap();
            mistakes.lines(&script, source.as_bytes())
        };
        let good = "function on_client_connect() return true end function on_publish_request() return true end\n";
        assert_eq!(lines(good), Vec::<String>::new());
        let misspelt = lines(&format!("{good}function on_client_disconect() end"));
        assert_eq!(misspelt.len(), 1, "{misspelt:?}");
        assert!(misspelt[0].starts_with("a.lua:2: ") && misspelt[0].contains("on_client_disconnect"), "{misspelt:?}");
        let many = lines(&format!("{good}{}", (0..12).map(|n| format!("print(sfu.x{n})\n")).collect::<String>()));
        assert_eq!(
            (many.len(), many.last().map(String::as_str)),
            (9, Some("and 4 more of these: moonring check tells all"))
        );
    }
}
