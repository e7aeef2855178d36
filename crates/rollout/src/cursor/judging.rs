//! What is proposed from a source, and what the judgement of a proposal means for the next time.

use model::{Digest, Time};

use super::{AGAIN, Absence, Answer, Ask, Effect, Found, Judgement, RETRY, Retry, SourceCore, Stamp, Turn};

impl SourceCore {
    pub(super) fn was_read(&mut self, now: Time, stamp: Option<Stamp>, torn: bool, found: Found) {
        self.reading = false;
        let asked = self.asking.take();
        // What the first read finds serves at once. Whatever a later read finds must be whole.
        let judged = self.cursor.map_or_else(|| self.read_stamp.is_none(), |cursor| found == Found::Digest(cursor));
        let sure = judged || asked.is_some_and(|ask| ask.sure);
        if self.is_whole(now, stamp, torn, sure) {
            let absence = match found {
                Found::Digest(digest) => {
                    self.absence = None;
                    self.compare(digest, asked);
                    None
                }
                Found::Missing => Some((Absence::Missing, Answer::Missing)),
                Found::Unreadable(reason) => Some((Absence::Unreadable(reason.clone()), Answer::Unreadable(reason))),
            };
            if let Some((absence, answer)) = absence {
                let since = self.absence.take().map_or(now, |(since, _)| since);
                self.absence = Some((since, absence));
                self.answer(asked, answer);
            }
        } else if let Some(ask) = asked {
            // The answer is what it says once it holds still.
            self.ask.get_or_insert(Ask { sure: false, ..ask });
        }
        if std::mem::take(&mut self.read_again) {
            self.read();
        }
    }

    fn compare(&mut self, digest: Digest, asked: Option<Ask>) {
        self.seen = Some(digest);
        let retry = self.retry.as_ref().is_some_and(|retry| retry.due && retry.digest == digest);
        // By hand, a refusal is said again: nothing to do would be no answer to what is wrong.
        let again = asked.is_some() && self.refused == Some(digest);
        match self.under_way {
            Some((turn, judged)) if judged == digest => self.answer(asked, Answer::UnderWay { turn }),
            None if self.cursor == Some(digest) && !asked.is_some_and(|ask| ask.force) && !again && !retry => {
                self.retry.take_if(|retry| retry.digest != digest);
                self.answer(asked, Answer::Unchanged { digest });
            }
            Some(_) | None => self.propose(digest),
        }
    }

    fn propose(&mut self, digest: Digest) {
        let retry = self.refused == Some(digest);
        if !retry {
            self.refused = None;
            self.backoff = *RETRY.start();
        }
        self.retry = None;
        self.turn = Turn(self.turn.0 + 1);
        self.under_way = Some((self.turn, digest));
        self.effects.push_back(Effect::Propose { turn: self.turn, digest, retry });
    }

    pub(super) fn judged(&mut self, now: Time, turn: Turn, judgement: Judgement) {
        let Some((_, digest)) = self.under_way.take_if(|(under_way, _)| *under_way == turn) else { return };
        match judgement {
            Judgement::Applied => self.follows(digest),
            Judgement::NoChange => {
                self.follows(digest);
                self.effects.push_back(Effect::SaveCursor { digest });
            }
            Judgement::Refused { heals } => {
                self.cursor = Some(digest);
                self.refused = Some(digest);
                if heals && self.policy.enabled {
                    self.retry = Some(Retry { digest, at: now + self.backoff, due: false });
                    self.backoff = (self.backoff * 2).min(*RETRY.end());
                } else {
                    // Not before: a restart has to try again what can heal.
                    self.effects.push_back(Effect::SaveCursor { digest });
                }
            }
            Judgement::Overtaken => self.retry = Some(Retry { digest, at: now + AGAIN, due: false }),
        }
    }

    fn follows(&mut self, digest: Digest) {
        self.cursor = Some(digest);
        (self.refused, self.retry) = (None, None);
    }

    /// What was refused stays refused, and is judged again only for a caller: it may hold what the rollback undid.
    pub(super) fn rolled_back(&mut self, cursor: Digest, refused: bool) {
        // After a restart as well, unless it could heal: the restart would make it live.
        let kept = refused && self.retry.is_none() && self.under_way.is_none();
        self.follows(cursor);
        self.under_way = None;
        self.refused = Some(cursor).filter(|_| refused);
        if kept {
            self.effects.push_back(Effect::SaveCursor { digest: cursor });
        }
        // A caller that asked before the rollback must not bring back what the rollback undid.
        for ask in self.ask.iter_mut().chain(&mut self.asking) {
            ask.force = false;
        }
        // It changed between the rollback's proposal and its record, or was not read as it was then.
        if self.policy.enabled && self.seen != Some(cursor) {
            self.read();
        }
    }

    fn answer(&mut self, asked: Option<Ask>, answer: Answer) {
        if asked.is_some() {
            self.effects.push_back(Effect::Answer(answer));
        }
    }
}
