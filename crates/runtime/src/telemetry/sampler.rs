//! Which traces are recorded: `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`, as OpenTelemetry's specification of
//! environment variables names them.

use super::TraceContext;

/// Decides once per span, by the parent and the trace's id alone, so that all processes agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Whether a parent decides, by being recorded or not.
    parent_based: bool,
    /// How many of 2^63 trace ids are recorded.
    share: u64,
}

/// A variable's value makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    #[error(
        "OTEL_TRACES_SAMPLER is `{0}`; expected always_on, always_off, traceidratio, parentbased_always_on, \
         parentbased_always_off or parentbased_traceidratio"
    )]
    Name(String),
    #[error("OTEL_TRACES_SAMPLER_ARG is `{0}`; expected a number from 0 to 1")]
    Share(String),
}

const ALL: u64 = 1 << 63;

impl Default for Sampler {
    fn default() -> Self {
        Self { parent_based: true, share: ALL }
    }
}

impl Sampler {
    /// Reads the values of the two variables; an empty one counts as unset.
    pub fn parse(name: &str, argument: &str) -> Result<Self, SamplerError> {
        let (parent_based, kind) = match name.trim() {
            "" => (true, "always_on"),
            name => name.strip_prefix("parentbased_").map_or((false, name), |kind| (true, kind)),
        };
        // A wrong argument is refused even where the sampler would not use it.
        let ratio = share(argument.trim())?;
        let share = match kind {
            "always_on" => ALL,
            "always_off" => 0,
            "traceidratio" => ratio,
            _ => return Err(SamplerError::Name(name.to_owned())),
        };
        Ok(Self { parent_based, share })
    }

    pub(super) fn samples(self, parent: Option<&TraceContext>) -> bool {
        match parent {
            Some(parent) if self.parent_based => parent.is_sampled(),
            // The low half of an id is random, whichever program made the id.
            Some(parent) => parent.trace_low() >> 1 < self.share,
            None => rand::random::<u64>() >> 1 < self.share,
        }
    }

    /// The root of a recorded trace. Every sampler with this share records its id.
    pub(super) fn root(self) -> TraceContext {
        let root = TraceContext::new_root();
        if self.share == 0 { root } else { root.with_trace_low(root.trace_low() % self.share.saturating_mul(2)) }
    }

    pub(super) const fn is_off(self) -> bool {
        self.share == 0
    }
}

fn share(text: &str) -> Result<u64, SamplerError> {
    if text.is_empty() {
        return Ok(ALL);
    }
    let share: f64 = text.parse().map_err(|_| SamplerError::Share(text.to_owned()))?;
    if !(0.0..=1.0).contains(&share) {
        return Err(SamplerError::Share(text.to_owned()));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2^63")]
    Ok((share * ALL as f64) as u64)
}

#[cfg(test)]
mod tests;
