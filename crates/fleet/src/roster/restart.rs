//! A restart: the process of a server is ended so that another one takes its place. The reason is its policy when it
//! hangs, or an operator. And what has one that is down started sooner: an operator, or a call that waits for it.

use std::sync::Arc;

use model::{EndpointKey, Time, Transport, Verdict};

use super::member::{Member, State};
use super::{Act, Effect, RETRY, Roster, Serial};

impl Roster {
    pub(super) fn judged(&mut self, now: Time, key: &EndpointKey, verdict: Verdict, because: Option<Arc<str>>) {
        let by_itself = self.restarts_by_itself(key);
        let Some(member) = self.members.get_mut(key) else { return };
        (member.judged, member.because) = (verdict, because);
        let hangs = verdict == Verdict::Unhealthy && by_itself && member.state.is_up();
        member.restart_at = hangs.then(|| member.restart_at.unwrap_or_else(|| member.restarts.due(now)));
        self.effects.extend(member.restart_due(now).map(Effect::Act));
        self.pass_verdict(now, key);
    }

    /// As the live snapshot says; a leaving endpoint is left alone.
    fn restarts_by_itself(&self, key: &EndpointKey) -> bool {
        let Some(layout) = self.layout() else { return false };
        let program = layout.spec(key).is_some_and(|spec| matches!(spec.transport, Transport::Stdio { .. }));
        program && layout.backend(&key.backend).is_some_and(|one| one.backend.policy.restart_unhealthy)
    }

    /// Applies a changed policy to endpoints that hang already.
    pub(super) fn apply_restart_policy(&mut self, now: Time) {
        let hanging = self.members.iter().filter(|(_, member)| member.judged == Verdict::Unhealthy);
        let hanging = hanging.map(|(key, member)| (key.clone(), member.because.clone()));
        for (key, because) in hanging.collect::<Vec<_>>() {
            self.judged(now, &key, Verdict::Unhealthy, because);
        }
    }

    pub(super) fn restart(&mut self, now: Time, serial: Serial) {
        let Some(key) = self.keys.get(&serial).cloned() else { return };
        let Some(member) = self.members.get_mut(&key) else { return };
        let act = match member.state {
            State::Up => {
                let ends = member.ends(false);
                if ends.is_some() {
                    member.restarts.restarted(now);
                }
                ends
            }
            // There is no process to end: the endpoint is tried now instead of later.
            State::Down { .. } => {
                member.hurry();
                Some(Act::BringUp { serial, timeout: member.connect })
            }
            // The endpoint is being started already, or will be.
            State::Waiting | State::Arriving | State::Retrying { .. } => None,
        };
        self.effects.extend(act.map(Effect::Act));
        self.pass_verdict(now, &key);
    }

    /// A call waits for the endpoint: the next attempt comes as soon as after a first failure.
    pub(super) fn hasten(&mut self, now: Time, serial: Serial) {
        if let Some(member) = self.by_serial(serial) {
            member.hasten(now, RETRY.base);
        }
    }
}

impl Member {
    /// The action that is due now, if the time of the restart has come.
    pub(super) fn restart_due(&mut self, now: Time) -> Option<Act> {
        self.restart_at.take_if(|at| *at <= now)?;
        let ends = self.ends(true);
        if ends.is_some() {
            self.restarts.restarted(now);
        }
        ends
    }

    fn ends(&mut self, unhealthy: bool) -> Option<Act> {
        let begins = self.state.is_up() && !std::mem::replace(&mut self.restarting, true);
        begins.then_some(Act::Restart { serial: self.serial, unhealthy })
    }
}
