//! What follows a redirect, and what of the request goes with it.

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, PROXY_AUTHORIZATION};
use reqwest::{Method, Response, StatusCode, Url};

/// A request that can be made again.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Hop {
    /// The request that `response` asks for in this one's place; `None` when it asks for none. RFC 9110 section 15.4.
    pub(super) fn next(&self, response: &Response) -> Option<Result<Self, String>> {
        let status = response.status();
        let location = response.headers().get(LOCATION)?;
        let keeps_method = match status {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method != Method::POST,
            StatusCode::SEE_OTHER => matches!(self.method, Method::GET | Method::HEAD),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
            _ => return None,
        };
        let url = location.to_str().ok().and_then(|location| self.url.join(location).ok());
        let Some(url) = url else { return Some(Err("the redirect leads to no URL".to_owned())) };
        let mut next = Self { url, ..self.clone() };
        if !keeps_method {
            next.method = Method::GET;
            next.body.clear();
            next.headers.remove(CONTENT_TYPE);
            next.headers.remove(CONTENT_LENGTH);
        }
        // What proves who asks is for the one who was asked.
        if next.url.origin() != self.url.origin() {
            for header in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
                next.headers.remove(header);
            }
        }
        Some(Ok(next))
    }
}
