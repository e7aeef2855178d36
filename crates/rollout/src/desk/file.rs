//! The file's side of the desk: who asked for it, and what its cursor wants.

use crate::cursor::{self, Answer, Cursor, Judged, Judgement, Turn};
use crate::{Exclusions, ProposalId};

use super::{CALLERS_MAX, Caller, Candidate, Desk, Effect, Papers, TurnedAway, Want};
use model::Digest;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileAnswer {
    /// `undone`: a rollback went over what the file says.
    Unchanged {
        undone: bool,
    },
    Missing,
    Unreadable(String),
}

impl<K: Papers> Desk<K> {
    pub(super) fn reload(&mut self, force: bool, caller: Caller<K>) {
        if self.source.is_none() {
            self.turn_away(caller, TurnedAway::NoFile);
        } else if self.callers() >= CALLERS_MAX {
            self.turn_away(caller, TurnedAway::Callers);
        } else {
            self.asked.push(caller);
            self.tell_source(cursor::Event::Asked { force, sure: true });
        }
    }

    /// The number of callers that wait for the result of the file.
    fn callers(&self) -> usize {
        let joined: usize = self.candidates.values().map(|candidate| candidate.callers.len()).sum();
        self.asked.len() + self.asking.len() + self.later.len() + joined
    }

    /// Forgets callers that wait no longer.
    pub fn forget_callers(&mut self, gone: impl Fn(&K::Caller) -> bool) {
        for candidate in self.candidates.values_mut() {
            candidate.callers.retain(|caller| !gone(&caller.handle));
        }
    }

    pub(super) fn tell_source(&mut self, event: cursor::Event) {
        if let Some(source) = &mut self.source {
            source.handle(self.now, event);
        }
    }

    pub(super) fn pass_sources(&mut self, effect: cursor::Effect) {
        let effect = match effect {
            cursor::Effect::Look => Effect::Look,
            cursor::Effect::Read => {
                self.asking.append(&mut self.asked);
                Effect::Read
            }
            cursor::Effect::Propose { turn, digest, retry } => return self.propose_file(turn, digest, retry),
            cursor::Effect::SaveCursor { digest } => {
                self.undone = None;
                let judged = if self.refused == Some(digest) { Judged::Refused } else { Judged::Live };
                Effect::SaveCursor(Cursor { digest, judged })
            }
            cursor::Effect::Answer(answer) => return self.answer(answer),
            cursor::Effect::StateChanged => Effect::SourceChanged,
        };
        self.effects.push_back(effect);
    }

    fn propose_file(&mut self, turn: Turn, digest: Digest, retry: bool) {
        // Another text is judged for itself.
        self.refused = self.refused.filter(|refused| *refused == digest);
        self.undone = self.undone.filter(|undone| *undone == digest);
        let Some((_, text)) = self.text.take_if(|(read, _)| *read == digest) else {
            // The text is not the one that was judged: the file is read again.
            return self.tell_source(cursor::Event::Judged { turn, judgement: Judgement::Overtaken });
        };
        let asking = std::mem::take(&mut self.asking);
        let without = Exclusions::of_all(asking.iter().map(|caller| &caller.without));
        let mut candidate = Candidate::new(Want::File { turn, digest }, text, without);
        for caller in asking {
            let whose = if candidate.serves(&caller) { &mut candidate.callers } else { &mut self.later };
            whose.push(caller);
        }
        // Of several callers at once, it goes back to the one whose exclusions it has.
        let by = candidate.callers.iter().position(|caller| caller.without == *candidate.without.named());
        self.enter(candidate, by, retry);
    }

    fn answer(&mut self, answer: Answer) {
        let answer = match answer {
            Answer::UnderWay { turn } => {
                let under_way = |want: &Want| matches!(want, Want::File { turn: of, .. } if *of == turn);
                let candidate = self.candidates.iter().find(|(_, candidate)| under_way(&candidate.want));
                return match candidate.map(|(id, _)| *id) {
                    Some(id) => self.join(id),
                    // The content was judged while this read was under way.
                    None => {
                        let callers = std::mem::take(&mut self.asking);
                        self.ask_again(callers);
                    }
                };
            }
            Answer::Unchanged { digest } => FileAnswer::Unchanged { undone: self.undone == Some(digest) },
            Answer::Missing => FileAnswer::Missing,
            Answer::Unreadable(reason) => FileAnswer::Unreadable(reason),
        };
        let callers = std::mem::take(&mut self.asking);
        self.effects.push_back(Effect::Answered { callers, answer });
    }

    /// What these callers waited for has ended without their answer. Their word that the file is whole has grown old.
    pub(super) fn ask_again(&mut self, callers: Vec<Caller<K>>) {
        self.asked.extend(callers);
        self.tell_source(cursor::Event::Asked { force: false, sure: false });
    }

    /// Joins the callers to the candidate: the content they ask for is being judged already. A caller that the
    /// candidate does not serve also waits for its end, and then the file is asked for again.
    fn join(&mut self, proposal: ProposalId) {
        for caller in std::mem::take(&mut self.asking) {
            let Some(candidate) = self.candidates.get_mut(&proposal) else { return };
            candidate.without.hear(&caller.without);
            let without = caller.without.clone();
            if candidate.serves(&caller) {
                candidate.callers.push(caller);
                self.effects.push_back(Effect::Joined { proposal });
            } else {
                self.later.push(caller);
            }
            self.joined(proposal, without);
        }
    }

    /// Whether this proposal is what the file says now.
    pub fn is_present(&self, turn: Turn) -> bool {
        self.source.as_ref().is_some_and(|source| source.awaits(turn))
    }

    /// Whether the live configuration wants the file to be followed.
    pub fn follows_file(&self) -> bool {
        self.rollout.head().is_none_or(|head| head.content.snapshot.policy.source.enabled)
    }
}
