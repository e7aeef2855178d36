//! From a candidate to a proposal: one is merged at a time.

use model::Owner;

use crate::cursor::SourceCore;
use crate::reconciler;
use crate::{Kind, Proposal, ProposalId, Source};

use super::candidate::Stage;
use super::{Desk, Effect, Merged, Papers, Refused, Want};

impl<K: Papers> Desk<K> {
    pub(super) fn start_merging(&mut self, proposal: ProposalId) {
        let head = self.head_revision();
        let Some(candidate) = self.candidates.get_mut(&proposal) else { return };
        candidate.merges += 1;
        candidate.voters.clear();
        match candidate.want {
            Want::Rollback { .. } => {
                candidate.stage = Stage::Merging { base: head };
                self.effects.push_back(Effect::Merge { proposal });
            }
            Want::File { .. } | Want::Layer { .. } | Want::Trial { .. } => {
                candidate.stage = Stage::ToMerge;
                self.to_merge.push_back(proposal);
                self.merge_next();
            }
        }
    }

    /// The oldest change; a trial only if no change waits.
    fn next_to_merge(&mut self) -> Option<ProposalId> {
        let is_change = |id: &ProposalId| self.candidates.get(id).is_none_or(|candidate| !candidate.is_trial());
        let at = self.to_merge.iter().position(is_change).unwrap_or_default();
        self.to_merge.remove(at)
    }

    fn merge_next(&mut self) {
        let base = self.head_revision();
        while self.merging.is_none()
            && let Some(proposal) = self.next_to_merge()
        {
            // One that gave way while it waited is gone.
            let Some(candidate) = self.candidates.get_mut(&proposal) else { continue };
            candidate.stage = Stage::Merging { base };
            self.merging = Some(proposal);
            self.effects.push_back(Effect::Merge { proposal });
        }
    }

    pub(super) fn merged(&mut self, proposal: ProposalId, merged: Result<Merged<K::Payload>, K::Fault>) {
        let took_turn = self.merging.take_if(|merging| *merging == proposal).is_some();
        match merged {
            Ok(merged) => self.propose(proposal, merged),
            Err(fault) => {
                if let Some(candidate) = self.candidates.remove(&proposal) {
                    self.refuse(proposal, candidate, Refused::Unusable(fault));
                }
            }
        }
        if took_turn {
            self.merge_next();
        }
    }

    fn propose(&mut self, id: ProposalId, merged: Merged<K::Payload>) {
        let Some(candidate) = self.candidates.get_mut(&id) else { return };
        let Stage::Merging { base } = candidate.stage else { return };
        candidate.stage = Stage::Proposed { digest: merged.content.digest, file: merged.file };
        let (kind, base, cursor) = match &mut candidate.want {
            Want::File { digest, .. } => (Kind::Change, Some(base), Some(*digest)),
            Want::Layer { .. } | Want::Trial { .. } => (Kind::Change, Some(base), None),
            Want::Rollback { to, base } => {
                let to = *to.insert(merged.back);
                // Where the file is read at request only, an edit that was not read waits for a request.
                let over = merged.over.filter(|_| merged.content.snapshot.policy.source.enabled);
                let read = || self.source.as_ref().and_then(SourceCore::rollback_cursor);
                (Kind::Rollback { to }, *base, over.or_else(read))
            }
        };
        let proposal = Proposal {
            id,
            source: Source { owner: candidate.want.owner(), actor: merged.actor },
            kind,
            base,
            content: merged.content,
            layers: merged.layers,
            payload: merged.payload,
            cursors: cursor.map(|cursor| (Owner::file(), cursor)).into_iter().collect(),
            without: candidate.without.clone(),
            trial: matches!(candidate.want, Want::Trial { .. }),
        };
        self.rollout.handle(self.now, reconciler::Event::Proposed(proposal));
    }
}
