//! A client of WHIP (RFC 9725) or WHEP: one request to join, one to leave.

use std::time::Instant;

use anyhow::{Context as _, bail};
use reqwest::header::{CONTENT_TYPE, LOCATION};

use super::{ClientPlan, Context, Receive, told_to_leave};

/// Joins, and leaves when told to. A client of WHIP only publishes, one of WHEP only receives: see [`crate::scenario::sessions`].
pub(super) async fn live(context: &Context, url: &str, client: usize, plan: &ClientPlan) -> anyhow::Result<()> {
    let publishes = !plan.publish.is_empty();
    if !publishes && plan.receive == Receive::Nothing {
        return Ok(());
    }
    let began = Instant::now();
    let kind = if publishes { "whip" } else { "whep" };
    let url = url.replace("{kind}", kind).replace("{room}", plan.room.as_str());
    let receive = if publishes { &[][..] } else { &plan.expects[..] };
    let description = context.describe((client, plan), began, &plan.publish, receive).await?;
    let request = context.http.post(&url).bearer_auth(&context.token).header(CONTENT_TYPE, "application/sdp");
    let response = request.body(description.sdp).send().await?;
    let status = response.status();
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let base = response.url().clone();
    let body = response.text().await?;
    if !status.is_success() {
        bail!("{kind}: {status} {}", body.trim());
    }
    context.answer(client, body);
    told_to_leave(context, plan).await;
    context.leaves(client).await;
    let resource = base.join(&location.context("the answer has no Location")?)?;
    context.http.delete(resource).bearer_auth(&context.token).send().await?;
    Ok(())
}
