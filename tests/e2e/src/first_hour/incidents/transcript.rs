//! `docs/incidents.md`: what was typed and what it said, for people who read it before they need it.

use testkit::Fault;

use super::played::{Played, Step};
use crate::transcript;

const HEAD: &str = "\
# Incidents

Eight incidents as they look from a terminal: what the person on call is told, what they type, what it says, and what ends
it. Each was planted in a real gateway, and this page is what was printed there: `scripts/acceptance first-hour 2` plays
them all and compares (`UPDATE_GOLDEN=1` writes the page anew). The gateways probe more often than by default. What to do
when an alert fires is in [runbooks.md](runbooks.md).

";

/// The first line that is not as in the file, if any is not.
pub(super) fn differs(played: &[Played]) -> Result<Option<String>, Fault> {
    transcript::differs("incidents.md", &page(played))
}

fn page(played: &[Played]) -> String {
    let mut text = HEAD.to_owned();
    text.push_str("| incident | commands to the cause | steps to the cure |\n|---|---|---|\n");
    for one in played {
        let anchor = one.title.to_lowercase().replace(' ', "-");
        text.push_str(&format!("| [{}](#{anchor}) | {} | {} |\n", one.title, one.to_cause, one.to_cure));
    }
    for one in played {
        text.push_str(&format!("\n## {}\n\n> {}\n", one.title, one.page));
        for step in &one.steps {
            text.push_str(&told(step, one));
        }
        text.push_str(&format!("\nThen {}.\n", one.then));
    }
    text
}

fn told(step: &Step, of: &Played) -> String {
    match step {
        Step::Done { what } => format!("\nBy hand: {what}.\n"),
        Step::Typed(typed) => typed.shown(&of.places),
    }
}
