//! Attempts: what is brought up beside the live snapshot, and the outcome of each endpoint the attempt changes.

use mcp::Kind;

use super::{
    Act, Arc, AttemptId, CandidateOutcome, CandidateResult, Duration, Effect, EndpointKey, Layout, Member, Plan,
    Roster, SPARE, State, Time,
};

#[derive(Debug)]
pub(super) struct Attempt {
    id: AttemptId,
    pub(super) layout: Arc<Layout>,
    begun: Time,
    /// The endpoints that the attempt is judged by.
    changed: Vec<EndpointKey>,
    reported: bool,
}

impl Attempt {
    pub(super) fn id(&self) -> AttemptId {
        self.id
    }
}

impl Roster {
    /// A newer attempt takes the place of the one before.
    pub(super) fn prepare(&mut self, now: Time, id: AttemptId, layout: Arc<Layout>, within: Duration) {
        let changed: Vec<_> = layout.changed_from(self.layout().map(Arc::as_ref)).cloned().collect();
        let plan = self.plan(&layout);
        // Endpoints that must wait for their old copy are not even made: they are not needed without a commit.
        let beside = Plan { start: plan.start, ..Plan::default() };
        self.start(now, &layout, &beside, within);
        for key in &changed {
            let Some(member) = self.members.get_mut(key) else { continue };
            member.spare_until = None;
            // An earlier failure says nothing about the present.
            if let State::Down { .. } = member.state {
                member.state = State::Arriving;
                self.effects.push_back(Act::BringUp { serial: member.serial, timeout: member.connect }.into());
            }
        }
        self.attempt = Some(Attempt { id, layout, begun: now, changed, reported: false });
        self.spare_leftovers(now + SPARE);
    }

    pub(super) fn abort(&mut self, id: AttemptId, keep_until: Time) {
        if self.attempt.as_ref().is_some_and(|attempt| attempt.id == id) {
            self.attempt = None;
            self.spare_leftovers(keep_until);
        }
    }

    /// Members that are not wanted are kept a while for an equal endpoint of the next attempt.
    pub(super) fn spare_leftovers(&mut self, until: Time) {
        let attempt = self.attempt.as_ref();
        let unwanted = |(key, member): &(&EndpointKey, &Member)| {
            !member.live && !member.leaving && !attempt.is_some_and(|attempt| attempt.layout.has(key))
        };
        let unwanted: Vec<_> = self.members.iter().filter(unwanted).map(|(key, _)| key.clone()).collect();
        for key in unwanted {
            if let Some(member) = self.members.get_mut(&key) {
                member.spare_until.get_or_insert(until);
            }
        }
    }

    /// Reports the result of the attempt, once, when no endpoint of it is being brought up any more.
    pub(super) fn report_attempt(&mut self) {
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| !attempt.reported) else { return };
        let (members, begun) = (&self.members, attempt.begun);
        let state = |key: &EndpointKey| members.get(key).map(|member| &member.state);
        if attempt.changed.iter().any(|key| state(key).is_some_and(State::is_busy)) {
            return;
        }
        let outcome = |key: &EndpointKey| {
            let result = match state(key) {
                None | Some(State::Waiting) => CandidateResult::Unprobed,
                Some(State::Down { reason, .. }) => CandidateResult::Failed { reason: reason.full.to_string() },
                Some(State::Up | State::Arriving | State::Retrying { .. }) => {
                    let tools = self.known.get(key).map_or(0, |offered| offered.count(Kind::Tool));
                    let took = members.get(key).map(|member| member.up_since().since(begun)).unwrap_or_default();
                    CandidateResult::Ready { tools: u32::try_from(tools).unwrap_or(u32::MAX), took }
                }
            };
            CandidateOutcome { endpoint: key.clone(), result }
        };
        let outcomes = attempt.changed.iter().map(outcome).collect();
        attempt.reported = true;
        self.effects.push_back(Effect::Prepared { attempt: attempt.id, outcomes });
    }
}
