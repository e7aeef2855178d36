//! W3C trace context: the ids that join log lines and spans of several processes into one story.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use tonic::Request;

/// The header, metadata key and `_meta` key of a trace context.
pub const TRACEPARENT: &str = "traceparent";

/// One position in a trace. Displays as, and is parsed from, a `traceparent` value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Never 0.
    trace_id: u128,
    /// The span that sends this context. Never 0.
    parent_id: u64,
    /// Bit 0: recorded by the sender.
    flags: u8,
}

/// The text is no valid `traceparent`; the specification says to go on as if there were none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceParseError {
    #[error("expected 55 characters of the form 00-<32 hex>-<16 hex>-<2 hex>")]
    Shape,
    #[error("expected lower-case hexadecimal digits")]
    Digits,
    #[error("version ff is forbidden")]
    Version,
    #[error("an id of zeros is invalid")]
    Zero,
}

const SAMPLED: u8 = 1;
const LENGTH: usize = 55;

impl TraceContext {
    /// A new trace, sampled.
    pub fn new_root() -> Self {
        Self { trace_id: random_u128(), parent_id: random_u64(), flags: SAMPLED }
    }

    /// A new trace that is not recorded: its id ties log lines together.
    pub fn new_unsampled() -> Self {
        Self { flags: 0, ..Self::new_root() }
    }

    /// `None` when an id is 0.
    pub const fn from_parts(trace_id: u128, parent_id: u64, flags: u8) -> Option<Self> {
        if trace_id == 0 || parent_id == 0 { None } else { Some(Self { trace_id, parent_id, flags }) }
    }

    /// The same trace, seen from a new span.
    pub fn child(&self) -> Self {
        Self { parent_id: random_u64(), ..*self }
    }

    /// The same position, marked as recorded.
    #[must_use]
    pub(super) const fn sampled(mut self) -> Self {
        self.flags |= SAMPLED;
        self
    }

    /// Whether the sender records the trace.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    pub const fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The low half of the trace's id.
    #[expect(clippy::cast_possible_truncation, reason = "half of it is asked for")]
    pub(super) const fn trace_low(&self) -> u64 {
        self.trace_id as u64
    }

    #[must_use]
    pub(super) const fn with_trace_low(mut self, low: u64) -> Self {
        self.trace_id = self.trace_id >> 64 << 64 | low as u128;
        // 0 is the only invalid id.
        if self.trace_id == 0 {
            self.trace_id = 1 << 64;
        }
        self
    }

    pub const fn parent_id(&self) -> u64 {
        self.parent_id
    }

    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// The trace a call belongs to: the one in its metadata, if that is valid.
    pub fn of_call<T>(request: &Request<T>) -> Option<Self> {
        // Several values count as none: it is unclear which one is meant.
        let mut values = request.metadata().get_all(TRACEPARENT).iter();
        let (first, second) = (values.next(), values.next());
        first.filter(|_| second.is_none())?.to_str().ok()?.parse().ok()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = TraceParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let dashed = bytes.len() >= LENGTH && [2, 35, 52].iter().all(|at| bytes[*at] == b'-');
        if !dashed {
            return Err(TraceParseError::Shape);
        }
        let [version] = hex(&bytes[..2])?;
        let trace_id = u128::from_be_bytes(hex(&bytes[3..35])?);
        let parent_id = u64::from_be_bytes(hex(&bytes[36..52])?);
        let [flags] = hex(&bytes[53..55])?;
        match version {
            0xff => return Err(TraceParseError::Version),
            0 if bytes.len() != LENGTH => return Err(TraceParseError::Shape),
            // A later version may append fields, after a dash.
            _ if bytes.get(LENGTH).is_some_and(|next| *next != b'-') => return Err(TraceParseError::Shape),
            _ => {}
        }
        // In a later version only the sampled bit is known.
        let flags = flags & if version == 0 { 0xff } else { SAMPLED };
        Self::from_parts(trace_id, parent_id, flags).ok_or(TraceParseError::Zero)
    }
}

/// Twice `N` digits.
fn hex<const N: usize>(digits: &[u8]) -> Result<[u8; N], TraceParseError> {
    let mut bytes = [0; N];
    let decoded = HEXLOWER.decode_mut(digits, &mut bytes);
    decoded.map(|_| bytes).map_err(|_| TraceParseError::Digits)
}

fn random_u128() -> u128 {
    rand::random::<u128>().max(1)
}

fn random_u64() -> u64 {
    rand::random::<u64>().max(1)
}

#[cfg(test)]
mod tests;
