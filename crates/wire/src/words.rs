//! Words that several areas share.

use std::collections::HashMap;
use std::time::Duration;

use model::{BackendId, Digest, EndpointKey, LogId, NodeId, Position, VariantId, Verdict, Violation};
use rollout::Sender;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::pb::words::v1 as pb;

/// A message of a peer that does not say what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct Invalid {
    pub field: &'static str,
    pub problem: String,
}

impl Invalid {
    pub(crate) fn new(field: &'static str, problem: impl ToString) -> Self {
        Self { field, problem: problem.to_string() }
    }

    pub(crate) fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

impl From<Invalid> for tonic::Status {
    fn from(invalid: Invalid) -> Self {
        let message = invalid.to_string();
        let mut details = ErrorDetails::with_bad_request_violation(invalid.field, invalid.problem);
        // As every refusal of a field.
        details.set_error_info("INVALID_FIELD", "only1mcp", HashMap::new());
        Self::with_error_details(Code::InvalidArgument, message, details)
    }
}

/// What every sender puts on each message.
pub fn envelope(sender: Option<&Sender>, traceparent: &str, nonce: u64) -> pb::Envelope {
    pb::Envelope {
        traceparent: traceparent.into(),
        log_id: sender.map(|sender| sender.log.0.clone()).unwrap_or_default(),
        epoch: sender.map_or(0, |sender| sender.epoch),
        nonce,
        features: crate::FEATURES.iter().map(|feature| (*feature).into()).collect(),
    }
}

pub fn sender(envelope: &pb::Envelope) -> Sender {
    Sender { log: LogId(envelope.log_id.clone()), epoch: envelope.epoch }
}

pub(crate) fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, Invalid> {
    let bytes: [u8; 32] =
        bytes.try_into().map_err(|_| Invalid::new(field, format!("must be 32 bytes, not {}", bytes.len())))?;
    Ok(Digest::from_bytes(bytes))
}

/// Empty for none.
pub(crate) fn optional_digest(field: &'static str, bytes: &[u8]) -> Result<Option<Digest>, Invalid> {
    if bytes.is_empty() { Ok(None) } else { digest(field, bytes).map(Some) }
}

pub(crate) fn node(text: &str) -> Result<NodeId, Invalid> {
    NodeId::new(text).map_err(|error| Invalid::new("node", error))
}

pub fn endpoint_key(key: Option<pb::EndpointKey>) -> Result<EndpointKey, Invalid> {
    let key = key.ok_or_else(|| Invalid::missing("endpoint"))?;
    Ok(EndpointKey {
        backend: BackendId::new(&key.backend).map_err(|error| Invalid::new("endpoint.backend", error))?,
        variant: VariantId::new(&key.variant).map_err(|error| Invalid::new("endpoint.variant", error))?,
        digest: digest("endpoint.digest", &key.digest)?,
    })
}

pub fn endpoint_key_to_pb(key: &EndpointKey) -> pb::EndpointKey {
    pb::EndpointKey {
        backend: key.backend.to_string(),
        variant: key.variant.to_string(),
        digest: key.digest.as_bytes().to_vec(),
    }
}

/// A verdict that only a newer release knows becomes unknown here.
pub fn verdict(value: i32) -> Verdict {
    match pb::Verdict::try_from(value).unwrap_or_default() {
        pb::Verdict::Healthy => Verdict::Healthy,
        pb::Verdict::Degraded => Verdict::Degraded,
        pb::Verdict::Unhealthy => Verdict::Unhealthy,
        pb::Verdict::Starting => Verdict::Starting,
        pb::Verdict::Failing => Verdict::Failing,
        pb::Verdict::Unknown | pb::Verdict::Unspecified => Verdict::Unknown,
    }
}

pub fn verdict_to_pb(verdict: Verdict) -> i32 {
    let verdict = match verdict {
        Verdict::Healthy => pb::Verdict::Healthy,
        Verdict::Degraded => pb::Verdict::Degraded,
        Verdict::Unhealthy => pb::Verdict::Unhealthy,
        Verdict::Unknown => pb::Verdict::Unknown,
        Verdict::Starting => pb::Verdict::Starting,
        Verdict::Failing => pb::Verdict::Failing,
    };
    verdict.into()
}

pub fn violation(violation: pb::Violation) -> Violation {
    let at = (violation.line > 0).then(|| Position {
        file: violation.file.into(),
        line: violation.line,
        column: violation.column,
    });
    let suggestion = (!violation.suggestion.is_empty()).then_some(violation.suggestion);
    Violation::new(at, violation.path, violation.message).suggest(suggestion)
}

pub fn violation_to_pb(violation: &Violation) -> pb::Violation {
    let at = violation.at.as_ref();
    pb::Violation {
        file: at.map(|at| at.file.to_string()).unwrap_or_default(),
        line: at.map_or(0, |at| at.line),
        column: at.map_or(0, |at| at.column),
        path: violation.path.clone(),
        message: violation.message.clone(),
        suggestion: violation.suggestion.clone().unwrap_or_default(),
    }
}

/// A time from 0 on.
///
/// # Errors
/// When it is absent or negative, or has more nanoseconds than its type allows (`google/protobuf/duration.proto`),
/// which a mere conversion would carry over into the seconds.
pub fn duration(field: &'static str, value: Option<prost_types::Duration>) -> Result<Duration, Invalid> {
    let value = value.ok_or_else(|| Invalid::missing(field))?;
    if value.nanos >= 1_000_000_000 {
        return Err(Invalid::new(field, "has more nanoseconds than a second has"));
    }
    Duration::try_from(value).map_err(|_| Invalid::new(field, "must not be negative"))
}

pub fn optional_duration(
    field: &'static str,
    value: Option<prost_types::Duration>,
) -> Result<Option<Duration>, Invalid> {
    value.map(|value| duration(field, Some(value))).transpose()
}

pub fn duration_to_pb(value: Duration) -> prost_types::Duration {
    // Centuries are as good as for ever.
    prost_types::Duration::try_from(value).unwrap_or(prost_types::Duration { seconds: i64::MAX / 4, nanos: 0 })
}
