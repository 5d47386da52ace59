//! Which module imports which, within a crate.

use std::collections::HashMap;

use crate::modules::{Crate, Module};
use crate::{code, files};

/// The imports of a crate, as pairs of modules: by `use`, and by paths in the code. Tests are left out, and so are
/// imports of a module from its own ancestors and descendants: a parent re-exports its children, and the `impl` blocks
/// of one type may be spread over the children of the module that has it.
pub(crate) struct Imports {
    /// Every import, once.
    pub(crate) all: Vec<Import>,
}

/// One module names something of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    /// The file in which it stands.
    pub(crate) file: String,
    /// The path of the importing module.
    pub(crate) from: Vec<String>,
    /// The path of the module that has what is imported; re-exports are followed.
    pub(crate) to: Vec<String>,
}

/// A path as it is written, and the name that it has where it is written.
type Named = (Vec<String>, String);

impl Imports {
    /// Reads the files of a crate.
    pub(crate) fn of(krate: &Crate) -> Self {
        let modules = krate.modules.iter().filter(|module| !module.for_tests);
        let sources: Vec<_> = modules.map(|module| (module, code::of(&files::read(&module.file)))).collect();
        let tree = Tree::new(krate, &sources);
        let mut all: Vec<Import> = Vec::new();
        for (module, source) in &sources {
            for (path, _) in paths(source) {
                let Some(to) = tree.resolve(&module.path, &path) else { continue };
                let import = Import { file: module.file.clone(), from: module.path.clone(), to };
                let is_kin = import.from.starts_with(&import.to) || import.to.starts_with(&import.from);
                if !is_kin && !all.contains(&import) {
                    all.push(import);
                }
            }
        }
        Self { all }
    }
}

/// The modules of a crate with what each has by `use`.
struct Tree<'a> {
    krate: &'a Crate,
    names: HashMap<&'a [String], HashMap<String, Vec<String>>>,
}

impl<'a> Tree<'a> {
    fn new(krate: &'a Crate, sources: &[(&'a Module, String)]) -> Self {
        let mut tree = Self { krate, names: HashMap::new() };
        for (module, source) in sources {
            let named = uses(source).into_iter().filter_map(|(path, name)| Some((name, tree.absolute(module, path)?)));
            let named = named.collect();
            tree.names.insert(&module.path, named);
        }
        tree
    }

    /// The path from the crate's root; `None` for another crate's.
    fn absolute(&self, module: &Module, path: Vec<String>) -> Option<Vec<String>> {
        let first = path.first()?;
        if matches!(first.as_str(), "crate" | "super" | "self") {
            return Some(from_root(&module.path, &path));
        }
        let child = [module.path.clone(), vec![first.clone()]].concat();
        self.krate.find(&child).map(|_| [module.path.clone(), path].concat())
    }

    /// The module that has what `path`, written in the module `from`, leads to.
    fn resolve(&self, from: &[String], path: &[String]) -> Option<Vec<String>> {
        let mut path = from_root(from, path);
        // A re-export may lead to another one.
        for _ in 0..8 {
            let depth = (0..=path.len()).rev().find(|depth| self.krate.find(&path[..*depth]).is_some())?;
            let (module, rest) = path.split_at(depth);
            let next = rest.first().and_then(|name| self.names.get(module)?.get(name));
            match next {
                Some(next) => path = [next, &rest[1..]].concat(),
                None => return Some(module.to_vec()),
            }
        }
        None
    }
}

/// `path`, which begins with `crate`, `super` or `self`, from the root.
fn from_root(from: &[String], path: &[String]) -> Vec<String> {
    let mut base = from.to_vec();
    let mut rest = path;
    while let Some((first, others)) = rest.split_first() {
        match first.as_str() {
            "crate" => base.clear(),
            "super" => _ = base.pop(),
            "self" => {}
            _ => break,
        }
        rest = others;
    }
    base.extend(rest.iter().filter(|name| *name != "self").cloned());
    base
}

/// Every path in `code` that begins with `crate`, `super` or `self`.
fn paths(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|c| code::is_name(c) || c == ':') {
                tree(&code[at..], &mut Vec::new(), &mut found);
            }
        }
    }
    found
}

/// Every path of a `use`.
fn uses(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    for at in code::places(code, "use") {
        tree(code[at + "use".len()..].trim_start(), &mut Vec::new(), &mut found);
    }
    found
}

/// Reads a path, or a group of paths in braces, that `text` begins with; what is behind it.
fn tree<'a>(text: &'a str, before: &mut Vec<String>, found: &mut Vec<Named>) -> &'a str {
    let depth = before.len();
    let mut rest = text.trim_start();
    loop {
        if let Some(mut group) = rest.strip_prefix('{') {
            while !group.trim_start().starts_with('}') {
                group = tree(group, before, found).trim_start();
                match group.strip_prefix(',') {
                    Some(more) => group = more,
                    None => break,
                }
            }
            before.truncate(depth);
            group = group.trim_start();
            return group.strip_prefix('}').unwrap_or(group);
        }
        let name = code::name(rest);
        if name.is_empty() {
            // `*`, or `::<`.
            found.push((before.clone(), String::new()));
            before.truncate(depth);
            return rest.strip_prefix('*').unwrap_or(rest);
        }
        before.push(name.to_owned());
        rest = &rest[name.len()..];
        match rest.strip_prefix("::") {
            Some(more) => rest = more,
            None => break,
        }
    }
    let alias = rest.trim_start().strip_prefix("as ").map(|rest| code::name(rest.trim_start()));
    if let Some(alias) = alias {
        rest = rest.trim_start()["as ".len()..].trim_start().strip_prefix(alias).unwrap_or_default();
    }
    let own = before.iter().rfind(|name| *name != "self").cloned().unwrap_or_default();
    found.push((before.clone(), alias.map_or(own, str::to_owned)));
    before.truncate(depth);
    rest
}

#[test]
fn paths_are_read_from_groups_and_from_code() {
    let code =
        "use crate::a::{self, b::{C, D as E}, f::*,};\nfn g(x: super::h::I) { crate::j::<u8>(); other::crate_k(); }";
    let found: Vec<_> = paths(code).into_iter().map(|(path, name)| (path.join("::"), name)).collect();
    let expected = [
        ("crate::a::self", "a"),
        ("crate::a::b::C", "C"),
        ("crate::a::b::D", "E"),
        ("crate::a::f", ""),
        ("crate::j", ""),
        ("super::h::I", "I"),
    ];
    assert_eq!(found, expected.map(|(path, name)| (path.to_owned(), name.to_owned())));
}
