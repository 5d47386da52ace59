//! Structs of the server's crates are made of parts. (Flags and reports of the load test are lists by nature.)

use crate::{code, files};

/// Most fields of a struct: more are parts that want a name of their own.
const MAX_FIELDS: usize = 24;

#[test]
fn structs_have_few_fields() {
    let mut found = Vec::new();
    for path in files::with_extension("src", "rs") {
        let code = code::of(&files::read(&path));
        let many = structs(&code).into_iter().filter(|(_, fields)| *fields > MAX_FIELDS);
        found.extend(many.map(|(name, fields)| format!("{path}: {name} has {fields} fields, at most {MAX_FIELDS}")));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The structs with named fields in formatted code, and how many fields each has.
fn structs(code: &str) -> Vec<(&str, usize)> {
    let (mut found, mut open): (Vec<(&str, usize)>, Option<usize>) = (Vec::new(), None);
    for line in code.lines() {
        let indent = line.len() - line.trim_start().len();
        match open {
            Some(outer) if indent <= outer && line.trim_start().starts_with('}') => open = None,
            Some(outer) if indent == outer + 4 && is_field(line) => {
                if let Some((_, fields)) = found.last_mut() {
                    *fields += 1;
                }
            }
            Some(_) => {}
            None => {
                let Some((before, name)) = line.split_once("struct ") else { continue };
                let is_item = before.trim().is_empty() || before.trim_start().starts_with("pub");
                if is_item && line.trim_end().ends_with('{') {
                    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
                    found.push((&name[..end], 0));
                    open = Some(indent);
                }
            }
        }
    }
    found
}

fn is_field(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("pub").map_or(line, |rest| match rest.find(") ") {
        Some(end) if rest.starts_with('(') => &rest[end + 2..],
        _ => rest.trim_start(),
    });
    line.split_once(':').is_some_and(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
}

#[test]
fn fields_are_counted_and_what_stands_in_them_is_not() {
    let text = "pub(crate) struct Two<'a> {\n    a: &'a str,\n    pub(super) b: HashMap<u32, (u8, u8)>,\n}\nstruct One {\n    \
                #[serde(default)]\n    pub long_name_of_it:\n        Option<Vec<u8>>,\n}\nstruct Tuple(u8, u8);\n";
    assert_eq!(structs(text), [("Two", 2), ("One", 1)]);
}
