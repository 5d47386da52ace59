//! No modules that import each other: of the children of one module, each can be read before those that use it.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::{Import, Imports};
use crate::modules::crates;

/// Circles that are still there: the parent module, by its crate's folder and its path, and the modules in the circle.
/// The list only gets shorter: a circle that is mended leaves it.
const KNOWN: &[(&str, &[&str])] = &[];

/// What is below one module, collapsed to its children: for each pair the imports that lead from one to the other.
type Edges = BTreeMap<(String, String), Vec<Import>>;

#[test]
fn no_modules_import_each_other() {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for krate in crates().iter().filter(|krate| krate.modules.len() > 1) {
        for (parent, edges) in siblings(&Imports::of(krate)) {
            for circle in circles(&edges) {
                let place = format!("{} {parent}", krate.package).trim_end().to_owned();
                let names: Vec<_> = circle.iter().map(String::as_str).collect();
                if KNOWN.contains(&(place.as_str(), &names[..])) {
                    seen.insert((place, names.join(" ")));
                } else {
                    found.push(format!("{place}: {} import each other:\n{}", names.join(", "), shown(&edges, &circle)));
                }
            }
        }
    }
    let mended = KNOWN.iter().filter(|(place, names)| !seen.contains(&((*place).to_owned(), names.join(" "))));
    found.extend(mended.map(|known| format!("{known:?} is no circle any more: take it off the list")));
    found.dedup();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The imports between the children of each module, by the module's path.
fn siblings(imports: &Imports) -> BTreeMap<String, Edges> {
    let mut parents: BTreeMap<String, Edges> = BTreeMap::new();
    for import in &imports.all {
        let shared = import.from.iter().zip(&import.to).take_while(|(from, to)| from == to).count();
        let edge = (import.from[shared].clone(), import.to[shared].clone());
        let edges = parents.entry(import.from[..shared].join("::")).or_default();
        edges.entry(edge).or_default().push(import.clone());
    }
    parents
}

/// The groups of modules that reach each other, each sorted by name.
fn circles(edges: &Edges) -> BTreeSet<Vec<String>> {
    let names: BTreeSet<&str> = edges.keys().flat_map(|(from, to)| [from.as_str(), to.as_str()]).collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> = names.iter().map(|name| (*name, reach(edges, name))).collect();
    let mut found = BTreeSet::new();
    for name in names {
        let others = reached[name].iter().filter(|other| reached[**other].contains(name));
        let circle: Vec<_> = others.map(|other| (*other).to_owned()).collect();
        if !circle.is_empty() {
            found.insert(circle);
        }
    }
    found
}

/// What `start` imports, and what that imports, and so on.
fn reach<'a>(edges: &'a Edges, start: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![start];
    while let Some(name) = open.pop() {
        for (_, to) in edges.keys().filter(|(from, _)| from == name) {
            if found.insert(to.as_str()) {
                open.push(to);
            }
        }
    }
    found
}

fn shown(edges: &Edges, circle: &[String]) -> String {
    let inside = edges.iter().filter(|((from, to), _)| circle.contains(from) && circle.contains(to));
    let lines =
        inside.flat_map(|(_, imports)| imports).map(|import| format!("  {} → {}", import.file, import.to.join("::")));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_circle_is_found_and_a_chain_is_not() {
    let import = |from: &str, to: &str| Import {
        file: format!("{from}.rs"),
        from: from.split("::").map(str::to_owned).collect(),
        to: to.split("::").map(str::to_owned).collect(),
    };
    let found = |pairs: &[(&str, &str)]| {
        let imports = Imports { all: pairs.iter().map(|(from, to)| import(from, to)).collect() };
        let parents = siblings(&imports);
        parents
            .iter()
            .flat_map(|(parent, edges)| circles(edges).into_iter().map(move |c| format!("{parent}/{}", c.join(" "))))
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&[("a", "b"), ("b", "c"), ("a", "c")]), Vec::<String>::new());
    assert_eq!(found(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]), ["/a b c"]);
    // By way of their children, and one module further down.
    assert_eq!(found(&[("a::x", "b::y"), ("b::z", "a")]), ["/a b"]);
    assert_eq!(found(&[("a::x", "a::y"), ("a::y::z", "a::x")]), ["a/x y"]);
}
