//! Whether a file is a policy or a test of one: each is useless in the place of the other, and says so in a way that
//! nobody understands.

use super::bytecode::uses;
use crate::hook_table::is_hook;

/// What a file is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// It defines hooks, this one first, and knows nothing of `test`.
    Policy(String),
    /// It calls `test.it`, and defines no hook.
    Test,
    /// Neither is certain.
    Unknown,
}

/// Looks at what a compiled file does with its globals.
pub(super) fn kind_of(bytecode: &[u8]) -> FileKind {
    let uses = uses(bytecode).unwrap_or_default();
    let hook = uses.iter().find(|one| one.assigned && is_hook(&one.path));
    match hook {
        Some(hook) if !uses.iter().any(|one| one.path == "test") => FileKind::Policy(hook.path.clone()),
        None if uses.iter().any(|one| one.path == "test.it" && !one.assigned) => FileKind::Test,
        _ => FileKind::Unknown,
    }
}
