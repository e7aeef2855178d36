//! Which log lines are written: one level for everything, others for single programs of ours.

use std::{collections::BTreeMap, fmt, str::FromStr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// Our crates that write log lines. Third-party libraries write at most at `info`: their lines below it contain the
/// bytes of connections, credentials among them.
const TARGETS: [&str; 6] = ["config_manager", "drain_coordinator", "health_monitor", "only1mcp", "router", "runtime"];
const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// Displays as, and is parsed from, `info,router=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    all: LevelFilter,
    targets: BTreeMap<&'static str, LevelFilter>,
    /// Without the lines about servers that cannot be brought up: the program tells that itself.
    told: bool,
}

/// Of the lines about servers that cannot be brought up.
pub const BRING_UP: &str = "router::bring_up";

/// The text is not a valid filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("`{level}` is no level; expected one of {}", levels())]
    Level { level: String },
    #[error("`{target}` writes no log; expected LEVEL, or TARGET=LEVEL with one of {}", TARGETS.join(", "))]
    Target { target: String },
    #[error("it says nothing of {what}; expected as info,router=debug, with the levels {} and the targets {}", levels(), TARGETS.join(", "))]
    Empty { what: &'static str },
    #[error("{what} has two levels")]
    Twice { what: String },
}

fn levels() -> String {
    LEVELS.map(|(name, _)| name).join(", ")
}

impl Filter {
    /// `warn`, for a program that tells by itself which servers cannot be brought up.
    pub fn warnings() -> Self {
        Self { all: LevelFilter::WARN, targets: BTreeMap::new(), told: true }
    }

    /// As it is parsed, and the default where nothing is said.
    ///
    /// # Errors
    /// As those of parsing.
    pub fn or_default(text: &str) -> Result<Self, FilterError> {
        if text.trim().is_empty() { Ok(Self::default()) } else { text.parse() }
    }
}

impl Default for Filter {
    /// `info`.
    fn default() -> Self {
        Self { all: LevelFilter::INFO, targets: BTreeMap::new(), told: false }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let (mut all, mut targets) = (None, BTreeMap::new());
        for part in text.split(',').map(str::trim) {
            if part.is_empty() {
                return Err(FilterError::Empty { what: "a level" });
            }
            let twice = match part.split_once('=') {
                None => all.replace(level(part)?).is_some(),
                Some((name, wanted)) => targets.insert(target(name)?, level(wanted)?).is_some(),
            };
            if twice {
                let what = part.split_once('=').map_or("everything", |(name, _)| name);
                return Err(FilterError::Twice { what: what.to_owned() });
            }
        }
        Ok(Self { all: all.unwrap_or(LevelFilter::INFO), targets, told: false })
    }
}

fn level(text: &str) -> Result<LevelFilter, FilterError> {
    let text = text.trim();
    let known = LEVELS.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, level)| *level);
    known.ok_or_else(|| FilterError::Level { level: text.to_owned() })
}

/// A program is called `config-manager`, its target `config_manager`: both are accepted.
fn target(text: &str) -> Result<&'static str, FilterError> {
    let name = text.trim().replace('-', "_");
    let known = TARGETS.iter().find(|target| **target == name).copied();
    known.ok_or_else(|| FilterError::Target { target: text.trim().to_owned() })
}

impl Filter {
    pub(super) fn targets(&self) -> Targets {
        let own = TARGETS.map(|target| (target, self.targets.get(target).copied().unwrap_or(self.all)));
        let told = self.told.then_some((BRING_UP, LevelFilter::ERROR));
        Targets::new().with_targets(own).with_targets(told).with_default(self.all.min(LevelFilter::INFO))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.all)?;
        self.targets.iter().try_for_each(|(target, level)| write!(f, ",{target}={level}"))
    }
}
