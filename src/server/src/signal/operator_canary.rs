//! `moonring reload --canary` and `moonring canary`.

use std::fmt::Write;

use serde_json::json;

use super::operator::{Admin, client_with, read, url};
use crate::config::CanaryVerb;
use crate::watch::{CanaryReport, SideReport};

/// Gives the newest scripts to some rooms.
pub(crate) async fn begin(admin: impl Into<Admin>, rooms: &str, seconds: u64) -> anyhow::Result<String> {
    let admin = admin.into();
    let body = json!({ "rooms": rooms, "seconds": seconds });
    let sent =
        client_with(&admin, Some(super::operator::TIMEOUT))?.post(url(&admin, "canary")).json(&body).send().await;
    Ok(told(&read(&admin, sent).await?))
}

/// Shows the canary, promotes it or takes it back.
pub(crate) async fn order(admin: impl Into<Admin>, verb: CanaryVerb) -> anyhow::Result<String> {
    let admin = admin.into();
    let client = client_with(&admin, Some(super::operator::TIMEOUT))?;
    let request = match verb {
        CanaryVerb::Status => client.get(url(&admin, "canary")),
        CanaryVerb::Promote => client.post(url(&admin, "canary/promote")),
        CanaryVerb::Abort => client.post(url(&admin, "canary/abort")),
    };
    Ok(told(&read(&admin, request.send().await).await?))
}

fn told(report: &CanaryReport) -> String {
    let CanaryReport { state, reason, rooms, scripts, seconds, of_seconds, canary, rest } = report;
    let state = match state.as_str() {
        "none" => return "there has been no canary\n".to_owned(),
        "running" => format!("runs for {seconds:.0} of {of_seconds:.0} s"),
        "promoted" => format!("was good after {seconds:.0} s: all rooms have been given the new version"),
        _ => format!("went back after {seconds:.0} s: {}", reason.as_deref().unwrap_or_default()),
    };
    let mut text = format!("the canary of {} in {rooms} {state}\n", scripts.join(", "));
    for (name, side) in [("canary", canary), ("rest", rest)] {
        let SideReport { rooms, failing, hooks, failures, allowed, rejected, mean_us } = side;
        let _ = writeln!(
            text,
            "{name:6} {rooms} rooms, {failing} of them failing; {hooks} hooks, {failures} failed; {allowed} allowed, \
             {rejected} rejected; {mean_us:.1} µs a step"
        );
    }
    text
}
