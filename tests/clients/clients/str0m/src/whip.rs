//! One request to join, one to leave (RFC 9725).

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, StatusCode, Url};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(20);

/// An endpoint and the right to use it.
pub(crate) struct Session {
    runtime: Runtime,
    client: Client,
    url: Url,
    token: String,
}

impl Session {
    pub(crate) fn new(url: &str, token: &str) -> anyhow::Result<Self> {
        // An error says that one is installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::builder().timeout(PATIENCE).build()?;
        Ok(Self { runtime, client, url: Url::parse(url)?, token: token.to_owned() })
    }

    /// The answer, and the address of the resource.
    pub(crate) fn post(&self, offer: &str) -> anyhow::Result<(String, Url)> {
        self.runtime.block_on(async {
            let request = self.client.post(self.url.clone()).bearer_auth(&self.token);
            let response = request.header(CONTENT_TYPE, "application/sdp").body(offer.to_owned()).send().await?;
            let status = response.status();
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let body = response.text().await?;
            if status != StatusCode::CREATED {
                bail!("POST {}: {} {}", self.url, status.as_u16(), body.trim());
            }
            let resource = self.url.join(&location.context("the answer has no Location")?)?;
            Ok((body, resource))
        })
    }

    pub(crate) fn delete(&self, resource: &Url) -> anyhow::Result<()> {
        let request = self.client.delete(resource.clone()).bearer_auth(&self.token);
        self.runtime.block_on(request.send())?;
        Ok(())
    }
}
