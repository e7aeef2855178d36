//! Flags that cannot hold together, of which clap knows only what the names of flags say.

use super::DrainArgs;

/// The only strategy that goes by steps.
const BY_STEPS: &str = "progressive";

impl DrainArgs {
    /// What is wrong with the flags together, if anything is.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let of_steps = [
            ("--rate", self.rate.is_some()),
            ("--weight-reduction", self.weight_reduction.is_some()),
            ("--interval", self.interval.is_some()),
        ];
        let flag = of_steps.into_iter().find_map(|(flag, is_there)| is_there.then_some(flag));
        match (self.strategy.as_deref(), flag) {
            (Some(strategy), Some(flag)) if strategy != BY_STEPS => {
                Some(format!("{flag} is of `--strategy {BY_STEPS}`, and `{strategy}` has no steps"))
            }
            (None, Some(flag)) => Some(format!("{flag} is of `--strategy {BY_STEPS}`, which has to stand beside it")),
            (Some("immediate"), None) if self.deadline.is_some() => {
                Some("--deadline is not for `--strategy immediate`, which leaves calls no time".to_owned())
            }
            _ => None,
        }
    }
}
