//! The documents list what there is: messages with their fields, error codes and drop reasons. Other tests do it for settings
//! (`src/server/src/config/tests.rs`), hooks and functions of policies (`tests/policy_docs.rs`) and metrics
//! (`src/server/src/signal/admin/tests.rs`).
#![allow(missing_docs, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use moonring_wire::drops::DropReason;
use moonring_wire::message::{ClientMessage, ErrorCode, ServerMessage};
use serde::de::DeserializeOwned;
use serde_json::json;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)).unwrap()
}

/// The first cells of a document's rows below a heading, as far as they are code.
fn rows(document: &str, heading: &str) -> BTreeSet<String> {
    let text = read(document);
    let section = text.split("\n## ").find(|section| section.lines().next() == Some(heading));
    let section = section.unwrap_or_else(|| panic!("{document} has no section {heading:?}"));
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    cells.map(|(name, _)| name.to_owned()).filter(|name| name != "type" && name != "code").collect()
}

/// The variants that a type accepts: serde lists them when it refuses another one.
fn variants<T: DeserializeOwned>(unknown: serde_json::Value) -> BTreeSet<String> {
    let error = serde_json::from_value::<T>(unknown).err().expect("an unknown variant").to_string();
    let (_, list) = error.split_once("expected one of ").expect("a list");
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_protocols_document_has_a_row_for_each_message_and_error_code() {
    let unknown = || json!({ "type": "?" });
    assert_eq!(rows("docs/protocol.md", "Messages of the client"), variants::<ClientMessage>(unknown()));
    assert_eq!(rows("docs/protocol.md", "Messages of the server"), variants::<ServerMessage>(unknown()));
    assert_eq!(rows("docs/protocol.md", "Error codes"), variants::<ErrorCode>(json!("?")));
}

/// The fields of each variant of a type of the declarations that are made from the Rust types, by the name in `type`.
fn declared(of: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = read("web/protocol.d.ts");
    let (_, rest) = text.split_once(&format!("export type {of} =\n")).expect("the type");
    let body = rest.split("\nexport type ").next().unwrap_or_default();
    let variants = body.split("type: '").skip(1).map(|variant| {
        let (name, fields) = variant.split_once('\'').expect("a name");
        let fields = fields.lines().filter_map(|line| line.trim_start().split_once(':'));
        let fields = fields.map(|(field, _)| field.trim_end_matches('?').to_owned());
        (name.to_owned(), fields.filter(|field| field.chars().all(|c| c.is_ascii_lowercase() || c == '_')).collect())
    });
    variants.collect()
}

/// The fields that the rows below a heading of the protocol's document name in their second cell.
fn told(heading: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = read("docs/protocol.md");
    let section = text.split("\n## ").find(|section| section.lines().next() == Some(heading)).expect("the section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows = rows.filter(|(name, _)| *name != "type").map(|(name, cells)| {
        let fields = cells.split(" |").next().unwrap_or_default();
        (name.to_owned(), fields.split('`').skip(1).step_by(2).map(str::to_owned).collect())
    });
    rows.collect()
}

#[test]
fn the_protocols_document_names_the_fields_of_each_message() {
    for (of, heading) in [("ClientMessage", "Messages of the client"), ("ServerMessage", "Messages of the server")] {
        let declared = declared(of);
        assert!(declared.len() >= 10, "{declared:?}");
        assert_eq!(told(heading), declared, "{heading}");
    }
}

#[test]
fn the_metrics_document_has_a_row_for_each_drop_reason() {
    let labels = DropReason::ALL.iter().map(|reason| reason.label().to_owned()).collect();
    assert_eq!(rows("docs/metrics.md", "Drop reasons"), labels);
}
