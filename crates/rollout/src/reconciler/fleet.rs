//! The routers as config-manager sees them: what each has live, what it was asked, and since when it is behind.

use std::time::Duration;

use model::{Digest, NodeId, Revision, Time};

use crate::{Directive, Refusal};

use super::{ACK_TIMEOUT, Effect, Head, Link, Notice, RETRY, Rollout};

#[derive(Debug)]
pub(super) struct Router {
    pub(super) link: Link,
    pub(super) boot: String,
    pub(super) applied: Revision,
    pub(super) digest: Option<Digest>,
    /// The commit or offer that the router has not answered.
    asked: Option<Asked>,
    pub(super) behind: Option<Behind>,
}

#[derive(Debug)]
struct Asked {
    revision: Revision,
    answer_by: Time,
}

#[derive(Debug)]
pub(super) struct Behind {
    pub(super) refusal: Refusal,
    pub(super) since: Time,
    pub(super) retry_at: Time,
    backoff: Duration,
}

impl Router {
    pub(super) fn new(link: Link, boot: String, applied: Revision, digest: Option<Digest>) -> Self {
        Self { link, boot, applied, digest, asked: None, behind: None }
    }

    pub(super) fn has(&self, head: &Head) -> bool {
        self.applied == head.revision && self.digest == Some(head.content.digest)
    }

    /// Whether the router has refused the head, rather than not answered.
    pub(super) fn has_refused(&self) -> bool {
        self.behind.as_ref().is_some_and(|behind| behind.refusal != Refusal::Silent)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match (&self.asked, &self.behind) {
            (Some(asked), _) => Some(asked.answer_by),
            (None, Some(behind)) => Some(behind.retry_at),
            (None, None) => None,
        }
    }
}

impl<P> Rollout<P> {
    pub(super) fn attach(&mut self, now: Time, node: NodeId, router: Router) {
        // First: the end of the old stream may decide a revision, whose number must be above what the router applied.
        self.highest = self.highest.max(router.applied);
        if let Some(old) = self.routers.get(&node).map(|router| router.link) {
            // The end of its old stream has not been noticed yet.
            self.detach(now, &node, old);
        }
        self.notice(Notice::Attached { node: node.clone(), applied: router.applied });
        let offer = self.head.as_ref().is_some_and(|head| router.applied < head.revision);
        self.routers.insert(node.clone(), router);
        if offer {
            self.offer(now, &node);
        }
    }

    pub(super) fn detach(&mut self, now: Time, node: &NodeId, link: Link) {
        if self.routers.get(node).is_some_and(|router| router.link == link) {
            self.routers.remove(node);
            self.notice(Notice::Detached { node: node.clone() });
            self.leave_round(now, node);
        }
    }

    pub(super) fn offer(&mut self, now: Time, node: &NodeId) {
        let Some(Head { revision, content, layers: _ }) = self.head.clone() else { return };
        self.asked(now, node, revision);
        self.send(node, Directive::Offer { revision, content });
    }

    pub(super) fn asked(&mut self, now: Time, node: &NodeId, revision: Revision) {
        if let Some(router) = self.routers.get_mut(node) {
            router.asked = Some(Asked { revision, answer_by: now + ACK_TIMEOUT });
        }
    }

    pub(super) fn ack(&mut self, now: Time, node: &NodeId, revision: Revision, digest: Digest) {
        // A router never goes back to an older revision: an older report is one that was delayed.
        let Some(router) = self.routers.get_mut(node).filter(|router| router.applied <= revision) else { return };
        router.applied = revision;
        router.digest = Some(digest);
        self.obeyed.insert(node.clone());
        self.highest = self.highest.max(revision);
        if router.asked.as_ref().is_some_and(|asked| asked.revision <= revision) {
            router.asked = None;
        }
        let arrived = self.head.as_ref().is_some_and(|head| router.has(head));
        let was_behind = arrived && router.behind.take().is_some();
        self.notice(Notice::Acked { node: node.clone(), revision });
        if was_behind {
            self.notice(Notice::CaughtUp { node: node.clone(), revision });
        }
        if arrived {
            self.answered(now, node);
        }
    }

    pub(super) fn nack(&mut self, now: Time, node: &NodeId, revision: Revision, refusal: Refusal) {
        if revision != self.head_revision() {
            return;
        }
        if refusal == Refusal::NotHeld || self.outran(&refusal) {
            self.offer(now, node);
        } else {
            self.note_younger(now, node, &refusal);
            self.fall_behind(now, node, refusal);
        }
    }

    fn fall_behind(&mut self, now: Time, node: &NodeId, refusal: Refusal) {
        let revision = self.head_revision();
        let Some(router) = self.routers.get_mut(node) else { return };
        let (since, backoff) = match &router.behind {
            Some(behind) => (behind.since, (behind.backoff * 2).min(*RETRY.end())),
            None => (now, *RETRY.start()),
        };
        router.asked = None;
        router.behind = Some(Behind { refusal: refusal.clone(), since, retry_at: now + backoff, backoff });
        self.notice(Notice::Behind { node: node.clone(), revision, refusal, retry_in: backoff });
        self.answered(now, node);
    }

    pub(super) fn expire_routers(&mut self, now: Time) {
        let due = self.routers.iter().filter(|(_, router)| router.deadline().is_some_and(|at| at <= now));
        let due: Vec<_> = due.map(|(node, router)| (node.clone(), router.asked.is_some())).collect();
        for (node, asked) in due {
            if asked {
                self.fall_behind(now, &node, Refusal::Silent);
            } else {
                self.offer(now, &node);
            }
        }
    }

    /// Whether the refusal was sent to this manager before its epoch was raised.
    pub(super) fn outran(&self, refusal: &Refusal) -> bool {
        matches!(refusal, Refusal::Stale { epoch } if *epoch < self.sender.epoch)
    }

    /// A router that obeyed a younger manager before it knew this one remembers a manager that is gone: this log was
    /// restored from a backup. A router that obeyed this manager before has heard of a living one. Which of the two
    /// managers should be obeyed is for operators to say.
    pub(super) fn note_younger(&mut self, now: Time, node: &NodeId, refusal: &Refusal) {
        let Refusal::Stale { epoch } = *refusal else { return };
        let raised = !self.obeyed.contains(node) && self.renumber_after <= now;
        self.notice(Notice::Deposed { epoch, raised });
        if raised && !self.raising {
            self.raising = true;
            self.effects.push_back(Effect::RaiseEpoch { above: epoch });
        }
    }

    /// Routers that refused the lower epoch are asked again.
    pub(super) fn epoch_raised(&mut self, now: Time, epoch: Option<u64>) {
        self.raising = false;
        let Some(epoch) = epoch else {
            self.renumber_after = now + *RETRY.start();
            return;
        };
        self.sender.epoch = epoch;
        let stale = |behind: &Behind| matches!(behind.refusal, Refusal::Stale { .. });
        let refused = self.routers.iter().filter(|(_, router)| router.behind.as_ref().is_some_and(stale));
        for node in refused.map(|(node, _)| node.clone()).collect::<Vec<_>>() {
            self.offer(now, &node);
        }
    }
}
