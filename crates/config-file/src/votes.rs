//! Keys that have an effect only where routers vote on a change before it is made.

use std::sync::Arc;

use model::{Draft, Position, Violation};
use serde_json::Value;

use crate::report::Report;

const SWITCH: &str = "hot_reload.two_phase_commit.enabled";
const RATIO: &str = "health.minimum_health_ratio";
const TIMEOUT: &str = "hot_reload.validation.timeout_seconds";

/// Refuses keys that would have no effect, since no router votes: accepting them would be a false promise.
pub(crate) fn refuse_unheld(draft: &Draft, report: &mut Report) {
    if draft.policy.validation.two_phase_commit {
        return;
    }
    let Some(switch) = report.set.get(SWITCH).cloned() else { return };
    let critical = draft.backends.iter().filter(|backend| backend.policy.critical).flat_map(|backend| &backend.written);
    let critical = critical.filter(|key| key.value == "critical").map(|key| (key.path.clone(), key.at.clone()));
    let mut unheld: Vec<(Arc<str>, Position)> = critical.collect();
    // A ratio of 0 requires nothing.
    let ratio = (draft.policy.validation.minimum_health_permille > 0).then_some(RATIO);
    let keys = ratio.into_iter().chain([TIMEOUT]);
    unheld.extend(keys.filter_map(|key| Some((key.into(), report.set.get(key)?.clone()))));
    for (path, at) in unheld {
        let message = format!(
            "this has no effect where `{SWITCH}` is `false` ({switch}), since routers are not asked before a change; \
             remove one of the two"
        );
        report.push(Violation::new(Some(at), &*path, message));
    }
}

/// Removes from a spelled document the keys that would be refused in it.
pub(crate) fn leave_out(document: &mut Value) {
    for path in [RATIO, TIMEOUT] {
        let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
        let section = document.pointer_mut(&format!("/{}", section.replace('.', "/")));
        section.and_then(Value::as_object_mut).map(|section| section.remove(key));
    }
}
