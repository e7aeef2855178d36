//! The content that each router is known to hold, so that it can be sent a difference.

use std::collections::{BTreeMap, VecDeque};

use model::{Digest, NodeId};

use crate::reconciler::{Event, Link};
use crate::{Content, Directive, Report};

/// How many contents are remembered because a router may hold them.
const RECENT: usize = 8;

#[derive(Debug)]
pub(super) struct Bases {
    /// The newest last.
    recent: VecDeque<Content>,
    /// By the router's present stream. None is known while the router swaps.
    held: BTreeMap<NodeId, (Link, Option<Content>)>,
}

impl Bases {
    pub(super) fn new(live: Option<Content>) -> Self {
        Self { recent: live.into_iter().collect(), held: BTreeMap::new() }
    }

    pub(super) fn remember(&mut self, content: Content) {
        self.recent.retain(|known| known.digest != content.digest);
        self.recent.push_back(content);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    fn known(&self, digest: &Digest) -> Option<Content> {
        self.recent.iter().find(|content| content.digest == *digest).cloned()
    }

    pub(super) fn hear<P>(&mut self, event: &Event<P>) {
        match event {
            Event::Report { node, link, report: Report::Hello { digest, .. } } => {
                let holds = digest.as_ref().and_then(|digest| self.known(digest));
                self.held.insert(node.clone(), (*link, holds));
            }
            Event::Report { node, link, report: Report::Ack { digest, .. } } => {
                let holds = self.known(digest);
                if let Some((_, held)) = self.held.get_mut(node).filter(|(of, _)| of == link) {
                    *held = holds;
                }
            }
            Event::RouterDetached { node, link } => {
                if self.held.get(node).is_some_and(|(of, _)| of == link) {
                    self.held.remove(node);
                }
            }
            Event::Report { report: Report::Vote { .. } | Report::Nack { .. }, .. }
            | Event::Proposed(_)
            | Event::Withdrawn { .. }
            | Event::Joined { .. }
            | Event::Appended { .. }
            | Event::AppendFailed { .. }
            | Event::EpochRaised { .. }
            | Event::Woke => {}
        }
    }

    /// The base for that directive. What the router holds after a swap, it says.
    pub(super) fn of(&mut self, node: &NodeId, link: Link, directive: &Directive) -> Option<Content> {
        let (_, held) = self.held.get_mut(node).filter(|(of, _)| *of == link)?;
        match directive {
            Directive::Prepare { .. } => held.clone(),
            Directive::Commit { .. } | Directive::Offer { .. } => held.take(),
            Directive::Renew { .. } | Directive::Abort { .. } => None,
        }
    }
}
