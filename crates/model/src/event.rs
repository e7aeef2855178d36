//! What operators are told of as it happens: the kinds of events, in the words that services, filters and JSON share.

use std::fmt;

use crate::verdict::Verdict;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// A change of the configuration.
    Change,
    Router,
    Server,
    Drain,
    /// The connection of the one who watches: it says where the rest has gaps.
    Watch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// No router is there to vote on a change.
    Waiting,
    AttemptStarted,
    Vote,
    Refused,
    Committed,
    /// The state of the configuration file changed.
    Source,
    Attached,
    Detached,
    Acked,
    Behind,
    CaughtUp,
    /// A new verdict on a server.
    Verdict(Verdict),
    Weighted,
    Draining,
    Evicting,
    Done,
    Cancelled,
    Connected,
    Disconnected,
    /// The watcher was too slow for all events.
    Missed,
}

impl About {
    /// Each once.
    pub const ALL: [Self; 5] = [Self::Change, Self::Router, Self::Server, Self::Drain, Self::Watch];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Router => "router",
            Self::Server => "server",
            Self::Drain => "drain",
            Self::Watch => "watch",
        }
    }

    /// The kinds of events about it.
    pub fn kinds(self) -> Vec<EventKind> {
        use EventKind as Kind;
        match self {
            Self::Change => {
                vec![Kind::Waiting, Kind::AttemptStarted, Kind::Vote, Kind::Refused, Kind::Committed, Kind::Source]
            }
            Self::Router => vec![Kind::Attached, Kind::Detached, Kind::Acked, Kind::Behind, Kind::CaughtUp],
            Self::Server => Verdict::ALL.map(Kind::Verdict).into(),
            Self::Drain => vec![Kind::Weighted, Kind::Draining, Kind::Evicting, Kind::Done, Kind::Cancelled],
            Self::Watch => vec![Kind::Connected, Kind::Disconnected, Kind::Missed],
        }
    }
}

impl EventKind {
    /// The kind of that name.
    pub fn named(text: &str) -> Option<Self> {
        About::ALL.into_iter().flat_map(About::kinds).find(|kind| kind.as_str() == text)
    }

    pub fn about(self) -> About {
        match self {
            Self::Waiting | Self::AttemptStarted | Self::Vote | Self::Refused | Self::Committed | Self::Source => {
                About::Change
            }
            Self::Attached | Self::Detached | Self::Acked | Self::Behind | Self::CaughtUp => About::Router,
            Self::Verdict(_) => About::Server,
            Self::Weighted | Self::Draining | Self::Evicting | Self::Done | Self::Cancelled => About::Drain,
            Self::Connected | Self::Disconnected | Self::Missed => About::Watch,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::AttemptStarted => "attempt_started",
            Self::Vote => "vote",
            Self::Refused => "refused",
            Self::Committed => "committed",
            Self::Source => "source",
            Self::Attached => "attached",
            Self::Detached => "detached",
            Self::Acked => "acked",
            Self::Behind => "behind",
            Self::CaughtUp => "caught_up",
            Self::Verdict(verdict) => verdict.as_str(),
            Self::Weighted => "weighted",
            Self::Draining => "draining",
            Self::Evicting => "evicting",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Missed => "missed",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_name_of_its_own_and_is_about_one_thing() {
        for about in About::ALL {
            for kind in about.kinds() {
                assert_eq!((EventKind::named(kind.as_str()), kind.about()), (Some(kind), about));
            }
            assert_eq!(EventKind::named(about.as_str()), None, "a filter may name either");
        }
        assert_eq!(EventKind::named("Vote"), None);
    }
}
