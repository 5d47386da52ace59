//! Crates and their modules, found the way the compiler finds them: from the manifests by `mod` declarations.

use crate::files;

/// A module that has a file of its own.
pub(crate) struct Module {
    /// The module's path within its crate; empty for the root.
    pub(crate) path: Vec<String>,
    /// Its file, relative to the repository's root.
    pub(crate) file: String,
    /// It, or a module above it, is compiled for tests only.
    pub(crate) for_tests: bool,
}

/// A target of Cargo's: a library, a program, a test, a benchmark, an example.
pub(crate) struct Crate {
    /// The package's folder.
    pub(crate) package: String,
    /// Its root module first, then the others in the order of their declaration.
    pub(crate) modules: Vec<Module>,
}

impl Crate {
    /// The file of the root module.
    pub(crate) fn root(&self) -> &str {
        &self.modules[0].file
    }

    /// The module of that path.
    pub(crate) fn find(&self, path: &[String]) -> Option<&Module> {
        self.modules.iter().find(|module| module.path == path)
    }
}

/// Every target of every package of the repository, those of `fuzz/` too.
pub(crate) fn crates() -> Vec<Crate> {
    let all = files::below("");
    let manifests = all.iter().filter(|path| *path == "Cargo.toml" || path.ends_with("/Cargo.toml"));
    let mut crates = Vec::new();
    for manifest in manifests {
        let text = files::read(manifest);
        if !text.contains("[package]") {
            continue;
        }
        let package = files::folder_of(manifest);
        for root in roots(package, &text, &all) {
            let mut modules = Vec::new();
            walk(&mut modules, Module { path: Vec::new(), file: root, for_tests: false });
            crates.push(Crate { package: package.to_owned(), modules });
        }
    }
    crates
}

/// The root files of a package: those that its manifest names, and those that Cargo finds by their place.
fn roots(package: &str, manifest: &str, all: &[String]) -> Vec<String> {
    let named = manifest.lines().filter_map(|line| line.trim().strip_prefix("path = \"")?.strip_suffix(".rs\""));
    let mut roots: Vec<_> = named.filter_map(|path| files::join(package, &format!("{path}.rs"))).collect();
    for path in all {
        let Some(inside) = path.strip_prefix(package).and_then(|path| path.strip_prefix('/')) else { continue };
        let parts: Vec<_> = inside.split('/').collect();
        let is_root = match parts[..] {
            ["src", "lib.rs" | "main.rs"] | ["build.rs"] => true,
            ["tests" | "examples" | "benches", file] => file.ends_with(".rs"),
            ["tests" | "examples" | "benches", _, "main.rs"] => true,
            _ => false,
        };
        if is_root && !roots.contains(path) {
            roots.push(path.clone());
        }
    }
    roots
}

/// Adds a module, and those that it declares.
fn walk(modules: &mut Vec<Module>, module: Module) {
    let Module { path, file, for_tests } = &module;
    let text = if files::exists(file) { files::read(file) } else { String::new() };
    let folder = files::folder_of(file);
    let has_own_folder = path.is_empty() || file.ends_with("/mod.rs");
    let children = if has_own_folder { folder } else { file.trim_end_matches(".rs") };
    let found = declared(&text).into_iter().filter_map(|child| {
        let file = match child.place {
            Some(place) => files::join(folder, &place)?,
            None => ["", "/mod"].iter().find_map(|end| {
                Some(format!("{children}/{}{end}.rs", child.name)).filter(|path| files::exists(path))
            })?,
        };
        let path = [path.clone(), vec![child.name]].concat();
        Some(Module { path, file, for_tests: *for_tests || child.for_tests })
    });
    let found: Vec<_> = found.collect();
    modules.push(module);
    found.into_iter().for_each(|child| walk(modules, child));
}

/// A module that is declared without a body.
#[derive(Debug, Default, PartialEq, Eq)]
struct Declared {
    name: String,
    /// What `#[path]` says.
    place: Option<String>,
    for_tests: bool,
}

/// The modules that a file declares.
fn declared(text: &str) -> Vec<Declared> {
    let mut found = Vec::new();
    let mut next = Declared::default();
    for line in text.lines().map(str::trim) {
        if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            next.place = Some(path.to_owned());
        }
        next.for_tests |= line == "#[cfg(test)]";
        let item = line.strip_prefix("pub").map_or(line, |rest| {
            let rest = rest.trim_start();
            if rest.starts_with('(') { rest.split_once(')').map_or(rest, |(_, rest)| rest.trim_start()) } else { rest }
        });
        if let Some(name) = item.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            found.push(Declared { name: name.trim().to_owned(), ..std::mem::take(&mut next) });
        } else if !line.starts_with("#[") && !line.starts_with("//") && !line.is_empty() {
            next = Declared::default();
        }
    }
    found
}

#[test]
fn declarations_are_found_with_their_places() {
    let text = "mod a;\n#[cfg(test)]\npub(crate) mod b;\n#[path = \"../x/mod.rs\"]\n#[allow(dead_code)]\nmod c;\n// mod d;\nmod e {\n";
    let found: Vec<_> = declared(text).into_iter().map(|found| (found.name, found.place, found.for_tests)).collect();
    let expected = [("a", None, false), ("b", None, true), ("c", Some("../x/mod.rs"), false)];
    assert_eq!(found, expected.map(|(name, place, tests)| (name.to_owned(), place.map(str::to_owned), tests)));
}

#[test]
fn the_crates_and_their_modules_are_found() {
    let crates = crates();
    for (root, module) in [
        ("src/wire/src/lib.rs", "src/wire/src/rtp/dependency/structure.rs"),
        ("src/server/src/lib.rs", "src/server/src/signal/http/tests.rs"),
        ("tests/world/main.rs", "fuzz/src/world/shard.rs"),
        ("fuzz/src/lib.rs", "tests/world/sim/mod.rs"),
        ("benches/forward.rs", "benches/common/mod.rs"),
    ] {
        let found = crates.iter().find(|found| found.root() == root).unwrap_or_else(|| panic!("{root}"));
        assert!(found.modules.iter().any(|found| found.file == module), "{root} {module}");
    }
}
