//! A rollback: what it brings back, and what it undoes. The file still has the content that was undone, and must not
//! bring it back by itself.

use std::sync::Arc;
use std::time::Duration;

use model::{Digest, Owner, Revision};
use rollout::cursor;
use rollout::{ProposalId, Reason};

use super::candidate::{Candidate, Merged, Want};
use super::outcome::Refused;
use super::{Done, Engine};
use crate::command::Asker;
use crate::log::{Kept, Layer, Log, Unavailable, is_undone};
use crate::source::text_of;

/// How long to wait for a read of the file, which may lie on a network: after that the rollback does without it.
const LOOK_MAX: Duration = Duration::from_millis(250);

impl Engine {
    /// Without `to`, brings back the revision before the live one, as long as that one is live: a request that is sent
    /// twice undoes one change.
    pub(super) fn roll_back(&mut self, to: Option<Revision>, base: Option<Revision>, reason: String, asker: Asker) {
        let base = base.or_else(|| to.is_none().then(|| self.head_revision()));
        self.apply(Want::Rollback { to: to.unwrap_or(Revision::NONE), base, reason, over: None }, asker);
    }

    /// The rollback goes over the present content of the file: an edit that was not read yet precedes it, too.
    pub(super) fn look_before_rollback(&mut self, id: ProposalId) {
        let origin = self.origin.clone();
        self.work.spawn(async move {
            let text = tokio::task::spawn_blocking(move || text_of(&origin));
            let text = tokio::time::timeout(LOOK_MAX, text).await;
            Done::Looked(id, text.ok().and_then(Result::ok).flatten())
        });
    }

    pub(super) fn looked(&mut self, id: ProposalId, text: Option<(Digest, Layer)>) {
        let (live, digest, recorded) = (self.head_revision(), self.live_digest(), self.layers.clone());
        let Some(Candidate { want: Want::Rollback { to, over, .. }, .. }) = self.candidates.get_mut(&id) else {
            return;
        };
        *over = text.as_ref().map(|(digest, _)| *digest);
        let (to, log) = (*to, self.log.clone());
        self.work.spawn_blocking(move || {
            let target = if to == Revision::NONE { before(&log, live) } else { Ok(to) };
            let kept = target.and_then(|target| log.kept(target));
            let merged = kept.map(|kept| brought_back(kept, text).with_recorded(digest, &recorded));
            Done::Merged(id, merged.map_err(Refused::from))
        });
    }

    /// Ends every candidate of the file, wherever it is. A later refusal of it would be shown although the file is
    /// rolled back.
    pub(super) fn undo(&mut self, by: ProposalId, cursor: Option<Digest>) {
        self.undone = cursor.filter(|said| is_undone(&self.layers, *said));
        self.refusal = None;
        if let Some(cursor) = cursor {
            self.tell_source(cursor::Event::RolledBack { cursor });
        }
        let of_file = |_: &_, candidate: &mut Candidate| matches!(candidate.want, Want::File { .. });
        for (_, candidate) in self.candidates.extract_if(.., of_file).collect::<Vec<_>>() {
            self.refused(candidate, Refused::Reason(Reason::Overtaken { by }));
        }
    }
}

/// A file that differs from its content of then in comments alone is not undone: its present text is recorded.
fn brought_back(kept: Kept, text: Option<(Digest, Layer)>) -> Merged {
    let mut merged = Merged::from(kept);
    if let (Some((_, now)), Some(then)) = (text, merged.layers.get(&Owner::file()))
        && now.means(then)
    {
        Arc::make_mut(&mut merged.layers).insert(Owner::file(), now);
    }
    merged
}

/// The parent of the live revision. A rollback does not undo another one: that would bring back what is bad.
fn before(log: &Log, live: Revision) -> Result<Revision, Unavailable> {
    if live == Revision::NONE {
        return Err(Unavailable::Unknown { revision: live, oldest: live, newest: live });
    }
    let record = log.revision(live)?.0;
    match record.parent {
        _ if record.is_rollback() => Err(Unavailable::RolledBack { revision: live, by: record.source }),
        Revision::NONE => Err(Unavailable::First { revision: live }),
        parent => Ok(parent),
    }
}
