//! How a candidate ends, gives way, or begins again.

use std::ops::Bound;

use crate::cursor::{self, Judgement};
use crate::{Applied, Outcome, ProposalId, Reason, Votes};

use super::said::{Said, Saying};
use super::{Candidate, Desk, Effect, Papers, Want};
use model::Revision;

/// Why a candidate did not become live.
#[derive(Debug, thiserror::Error)]
pub enum Refused<F> {
    /// It is no configuration, or cannot be had.
    #[error("{0}")]
    Unusable(F),
    #[error(transparent)]
    Reason(Reason),
}

#[derive(Debug)]
pub enum End<F> {
    Applied(Applied),
    /// It was live already.
    NoChange {
        revision: Revision,
    },
    /// Of a trial: what routers found. Nothing has changed.
    Tried(Votes),
    /// A newer change of its owner took its place, and answers its callers where it can.
    Superseded,
    Refused(Refused<F>),
}

/// The end of a candidate. Each has exactly one.
#[derive(Debug)]
pub struct Ended<K: Papers> {
    pub proposal: ProposalId,
    pub candidate: Candidate<K>,
    pub end: End<K::Fault>,
    /// Whether to write an audit record and report [`super::Event::Recorded`]. False for an applied revision (its
    /// append was the record), a retry without a caller that repeats a recorded refusal, and a trial.
    pub record: bool,
    /// For that report.
    pub saying: Option<Saying>,
}

impl<F: std::fmt::Display> Refused<F> {
    /// See [`Reason::gist`].
    fn gist(&self) -> String {
        match self {
            Self::Reason(reason) => reason.gist(),
            Self::Unusable(fault) => fault.to_string(),
        }
    }
}

impl<F> End<F> {
    /// What the end of a candidate of the file says of its content.
    fn judgement(&self) -> Judgement {
        match self {
            Self::Applied(_) => Judgement::Applied,
            Self::NoChange { .. } => Judgement::NoChange,
            Self::Superseded
            | Self::Tried(_)
            | Self::Refused(Refused::Reason(Reason::Overtaken { .. } | Reason::StaleBase { .. })) => {
                Judgement::Overtaken
            }
            Self::Refused(Refused::Reason(reason)) => Judgement::Refused { heals: reason.heals() },
            Self::Refused(Refused::Unusable(_)) => Judgement::Refused { heals: false },
        }
    }
}

impl<K: Papers> Desk<K> {
    pub(super) fn resolved(&mut self, id: ProposalId, outcome: Outcome) {
        let Some(candidate) = self.candidates.remove(&id) else { return };
        match outcome {
            Outcome::Applied(applied) => self.end(id, candidate, End::Applied(applied)),
            Outcome::NoChange { revision } => self.end(id, candidate, End::NoChange { revision }),
            Outcome::Tried(votes) => self.end(id, candidate, End::Tried(votes)),
            Outcome::Refused(Reason::Superseded { by }) => self.give_way(id, candidate, by),
            Outcome::Refused(Reason::StaleBase { .. } | Reason::Overtaken { .. }) if candidate.may_follow() => {
                match self.newer(id, &candidate) {
                    Some(newer) => self.give_way(id, candidate, newer),
                    None => {
                        self.candidates.insert(id, candidate);
                        self.start_merging(id);
                    }
                }
            }
            Outcome::Refused(reason) => self.refuse(id, candidate, Refused::Reason(reason)),
        }
    }

    /// The newer candidate of the same owner. It may not have been proposed yet: if the older one were merged anew, it
    /// would come after the newer one and take its place.
    fn newer(&self, id: ProposalId, candidate: &Candidate<K>) -> Option<ProposalId> {
        let owner = candidate.want.owner();
        let mut newer = self.candidates.range((Bound::Excluded(id), Bound::Unbounded));
        newer.rfind(|(_, newer)| newer.want.owner() == owner).map(|(id, _)| *id)
    }

    /// Gives way to a newer candidate of the same owner, which also answers the callers, if it can.
    fn give_way(&mut self, id: ProposalId, mut candidate: Candidate<K>, newer: ProposalId) {
        if let Some(by) = self.candidates.get_mut(&newer)
            && by.take_over(&mut candidate)
            && by.is_proposed()
        {
            let without = by.without.barred().clone();
            self.joined(newer, without);
        }
        self.supersede(id, candidate);
    }

    pub(super) fn supersede(&mut self, id: ProposalId, candidate: Candidate<K>) {
        self.end(id, candidate, End::Superseded);
    }

    pub(super) fn refuse(&mut self, id: ProposalId, candidate: Candidate<K>, refused: Refused<K::Fault>) {
        self.end(id, candidate, End::Refused(refused));
    }

    /// Tells the cursor of the file how its content was judged, then the shell. The end of an edit says nothing of the
    /// file if that says something else by now.
    fn end(&mut self, proposal: ProposalId, candidate: Candidate<K>, end: End<K::Fault>) {
        let is_trial = matches!(candidate.want, Want::Trial { .. });
        let (mut record, mut saying) = (!is_trial && !matches!(end, End::Applied(_)), None);
        if let Want::File { turn, digest } = candidate.want {
            if let End::Refused(refused) = &end {
                let new = Saying { digest, gist: refused.gist() };
                record = !candidate.callers.is_empty() || self.said.is_new(&new);
                saying = Some(new).filter(|_| record);
            }
            let judgement = end.judgement();
            match judgement {
                _ if !self.is_present(turn) => {}
                Judgement::Applied | Judgement::NoChange => {
                    self.refused = None;
                    self.said = Said::default();
                }
                Judgement::Refused { .. } => self.refused = Some(digest),
                Judgement::Overtaken => {}
            }
            self.tell_source(cursor::Event::Judged { turn, judgement });
        }
        self.unrecorded += usize::from(record);
        if let Some(saying) = saying.clone().filter(|saying| self.refused == Some(saying.digest)) {
            self.said.say(saying);
        }
        let of_file = matches!(candidate.want, Want::File { .. });
        let ended = Ended { proposal, candidate, end, record, saying };
        self.effects.push_back(Effect::Ended(Box::new(ended)));
        if of_file && !self.later.is_empty() {
            let callers = std::mem::take(&mut self.later);
            self.ask_again(callers);
        }
    }
}
