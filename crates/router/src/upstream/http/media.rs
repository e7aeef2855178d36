//! The form of a response: what it is by its content type and its coding.

use http::StatusCode;
use mcp::http_rules::JSON;

use super::http1::Headers;
use super::pool::Body;
use crate::secrets::{Echo, Said};

#[derive(PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Events,
    Other,
}

pub(super) fn media(headers: &Headers) -> Media {
    if headers.content_type.as_ref().is_some_and(|value| value == JSON) {
        return Media::Json;
    }
    let value = headers.content_type.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(JSON) {
        Media::Json
    } else if essence.eq_ignore_ascii_case("text/event-stream") {
        Media::Events
    } else {
        Media::Other
    }
}

/// The form in which a response came, with the expected one; then what the server calls its form.
pub(super) fn form(echo: &Echo, status: StatusCode, headers: &Headers, body: &Body) -> (String, Said) {
    if let Some(coding) = body.coding() {
        let said = echo.said(coding).set_in(|coding| format!("Content-Encoding: {coding}"));
        return ("a content coding, although it was asked for identity".to_owned(), said);
    }
    let said = headers.content_type.as_ref().map(|found| echo.said(found));
    let found = if said.is_some() { "another content type" } else { "no content type" };
    let form = format!("status {status} and {found}; expected application/json or text/event-stream");
    (form, said.map(|found| found.set_in(|found| format!("Content-Type: {found}"))).unwrap_or_default())
}
