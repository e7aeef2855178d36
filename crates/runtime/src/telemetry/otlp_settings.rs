//! What the standard variables say about traces: `OTEL_…`, as OpenTelemetry's specifications name them.
//!
//! Unlike those specifications, this code refuses an invalid value instead of ignoring it: the operator set it on
//! purpose.

use std::{fmt::Display, str::FromStr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, uri::Scheme};

use super::sampler::{Sampler, SamplerError};

/// How spans leave the process.
#[derive(Clone, Debug)]
pub(super) struct Export {
    pub(super) sampler: Sampler,
    pub(super) protocol: Protocol,
    /// The URL of the collector; for HTTP with the path.
    pub(super) endpoint: Uri,
    /// Headers of each request; their values are secrets.
    pub(super) headers: HeaderMap,
    /// The timeout of one request.
    pub(super) request_timeout: Duration,
    /// The timeout of one batch, over all its requests.
    pub(super) batch_timeout: Duration,
    /// Spans that wait at most; more are dropped.
    pub(super) queue_max: usize,
    /// Spans per batch at most.
    pub(super) batch_max: usize,
    /// How long the first span of a batch waits for others.
    pub(super) delay: Duration,
    /// Attributes of the resource, over those that the service gives itself.
    pub(super) resource: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    HttpProtobuf,
}

/// A variable has an invalid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    #[error("{variable} is `{value}`; expected {expected}")]
    Value { variable: &'static str, value: String, expected: &'static str },
    /// Without the value, which is a secret.
    #[error("{variable}: entry {entry} is not of the form `name=value`, with a header's name and visible characters")]
    Header { variable: &'static str, entry: usize },
    #[error("{variable} is not supported: the system's root certificates count, or those in the file SSL_CERT_FILE")]
    Certificate { variable: &'static str },
    #[error(transparent)]
    Sampler(#[from] SamplerError),
}

const ENDPOINT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOL: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
const TIMEOUT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const COMPRESSION: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
const CERTIFICATES: [&str; 6] = [
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
];
const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
const QUEUE_LIMIT: usize = 1 << 20;

const GRPC_PORT: u16 = 4317;
const MILLISECONDS: &str = "a number of milliseconds above 0";

/// Reads the variables through `get`; `None`: spans are not wanted. An empty value counts as none.
pub(super) fn parse(get: impl Fn(&str) -> Option<String>) -> Result<Option<Export>, SettingError> {
    let get = Variables(|name: &str| get(name).filter(|value| !value.trim().is_empty()));
    if get.boolean("OTEL_SDK_DISABLED")? {
        return Ok(None);
    }
    let wanted = match get.text("OTEL_TRACES_EXPORTER").as_deref() {
        None => get.first(ENDPOINT).is_some(),
        Some("otlp") => true,
        Some("none") => false,
        Some(other) => return Err(value("OTEL_TRACES_EXPORTER", other, "otlp or none")),
    };
    get.without(CERTIFICATES)?;
    if let Some((variable, algorithm)) = get.first(COMPRESSION).filter(|(_, algorithm)| algorithm != "none") {
        return Err(value(variable, &algorithm, "none"));
    }
    let text = |name| get.text(name).unwrap_or_default();
    let (protocol, endpoint) = get.collector()?;
    let queue_max = get.number(QUEUE, 2048, "a number from 1 to 1048576", |size| (1..=QUEUE_LIMIT).contains(size))?;
    let batch_max = get.number(BATCH, queue_max.min(512), "a number from 1 to OTEL_BSP_MAX_QUEUE_SIZE", |size| {
        (1..=queue_max).contains(size)
    })?;
    let export = Export {
        sampler: Sampler::parse(&text("OTEL_TRACES_SAMPLER"), &text("OTEL_TRACES_SAMPLER_ARG"))?,
        protocol,
        endpoint,
        headers: get.headers()?,
        request_timeout: get.milliseconds(get.first(TIMEOUT).map_or(TIMEOUT[1], |(variable, _)| variable), 10_000)?,
        batch_timeout: get.milliseconds("OTEL_BSP_EXPORT_TIMEOUT", 30_000)?,
        queue_max,
        batch_max,
        delay: get.milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5_000)?,
        resource: get.resource()?,
    };
    Ok(wanted.then_some(export))
}

/// Where variables are read from; never an empty one.
struct Variables<G>(G);

impl<G: Fn(&str) -> Option<String>> Variables<G> {
    fn text(&self, name: &str) -> Option<String> {
        self.0(name).map(|value| value.trim().to_owned())
    }

    /// The variable for traces wins over the one for all signals.
    fn first(&self, names: [&'static str; 2]) -> Option<(&'static str, String)> {
        names.into_iter().find_map(|name| self.text(name).map(|value| (name, value)))
    }

    fn boolean(&self, name: &'static str) -> Result<bool, SettingError> {
        match self.text(name).map(|value| value.to_ascii_lowercase()).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(value(name, other, "true or false")),
        }
    }

    fn number<N: FromStr>(
        &self,
        name: &'static str,
        default: N,
        expected: &'static str,
        valid: impl Fn(&N) -> bool,
    ) -> Result<N, SettingError> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.parse().ok().filter(valid).ok_or_else(|| value(name, text, expected))
    }

    fn milliseconds(&self, name: &'static str, default: u32) -> Result<Duration, SettingError> {
        let milliseconds: u32 = self.number(name, default, MILLISECONDS, |number| *number > 0)?;
        Ok(Duration::from_millis(milliseconds.into()))
    }

    /// A secure connection is never less secure than was asked for.
    fn without(&self, names: [&'static str; 6]) -> Result<(), SettingError> {
        let given = names.into_iter().find(|name| self.text(name).is_some());
        given.map_or(Ok(()), |variable| Err(SettingError::Certificate { variable }))
    }

    fn collector(&self) -> Result<(Protocol, Uri), SettingError> {
        let given = self.first(ENDPOINT).map(|(name, url)| endpoint(name, &url).map(|uri| (name, uri))).transpose()?;
        let port = given.as_ref().and_then(|(_, uri)| uri.port_u16());
        let protocol = match self.first(PROTOCOL) {
            // On that port only gRPC is ever spoken.
            None if port == Some(GRPC_PORT) => Protocol::Grpc,
            None => Protocol::HttpProtobuf,
            Some((_, name)) if name == "grpc" => Protocol::Grpc,
            Some((_, name)) if name == "http/protobuf" => Protocol::HttpProtobuf,
            Some((variable, name)) => return Err(value(variable, name, "grpc or http/protobuf")),
        };
        let uri = match (given, protocol) {
            (None, Protocol::Grpc) => Uri::from_static("http://localhost:4317"),
            (None, Protocol::HttpProtobuf) => Uri::from_static("http://localhost:4318/v1/traces"),
            (Some((name, uri)), Protocol::HttpProtobuf) if name == ENDPOINT[1] => below(name, &uri)?,
            (Some((_, uri)), Protocol::Grpc | Protocol::HttpProtobuf) => uri,
        };
        Ok((protocol, uri))
    }

    fn headers(&self) -> Result<HeaderMap, SettingError> {
        let Some((variable, list)) = self.first(HEADERS) else { return Ok(HeaderMap::new()) };
        let mut headers = HeaderMap::new();
        for (at, entry) in list.split(',').map(str::trim).enumerate().filter(|(_, entry)| !entry.is_empty()) {
            let header = entry.split_once('=').and_then(|(name, value)| {
                let mut value: HeaderValue = decoded(value.trim())?.parse().ok()?;
                value.set_sensitive(true);
                Some((name.trim().parse::<HeaderName>().ok()?, value))
            });
            let (name, value) = header.ok_or(SettingError::Header { variable, entry: at + 1 })?;
            headers.append(name, value);
        }
        Ok(headers)
    }

    fn resource(&self) -> Result<Vec<(String, String)>, SettingError> {
        const LIST: &str = "OTEL_RESOURCE_ATTRIBUTES";
        const EXPECTED: &str = "a list `key=value,key=value`, percent-encoded";
        let list = self.text(LIST).unwrap_or_default();
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let attribute = |entry: &str| {
            let (key, value) = entry.split_once('=').filter(|(key, _)| !key.trim().is_empty())?;
            Some((decoded(key.trim())?, decoded(value.trim())?))
        };
        let attributes = entries.map(|entry| attribute(entry).ok_or_else(|| value(LIST, entry, EXPECTED)));
        let mut attributes: Vec<_> = attributes.collect::<Result<_, _>>()?;
        attributes.extend(self.text("OTEL_SERVICE_NAME").map(|name| ("service.name".to_owned(), name)));
        Ok(attributes)
    }
}

fn value(variable: &'static str, value: impl Display, expected: &'static str) -> SettingError {
    SettingError::Value { variable, value: value.to_string(), expected }
}

fn endpoint(variable: &'static str, url: &str) -> Result<Uri, SettingError> {
    const EXPECTED: &str = "http://HOST:PORT or https://HOST:PORT (credentials go into OTEL_EXPORTER_OTLP_HEADERS)";
    let known = |uri: &Uri| uri.scheme().is_some_and(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
    let plain = |uri: &Uri| uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    let uri = url.parse::<Uri>().ok().filter(|uri| known(uri) && plain(uri) && uri.query().is_none());
    // The part before an @ is a secret, and the part after a ? may be one.
    let shown = url.split(['?', '#']).next().unwrap_or_default();
    let shown = shown.rsplit_once('@').map_or(shown, |(_, host)| host);
    uri.ok_or_else(|| value(variable, shown, EXPECTED))
}

/// The endpoint of traces below the one of all signals.
fn below(variable: &'static str, base: &Uri) -> Result<Uri, SettingError> {
    let url = format!("{}/v1/traces", base.to_string().trim_end_matches('/'));
    endpoint(variable, &url)
}

/// Percent-encoded, as in W3C baggage.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    let digit = |byte: u8| char::from(byte).to_digit(16);
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
            out.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests;
