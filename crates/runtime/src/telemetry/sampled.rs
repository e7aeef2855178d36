//! Gauges whose values must be read from their source: they are read at each scrape, and not before.
//!
//! Everything bounded shows how full it is as `only1mcp_limit_used` and `only1mcp_limit_max` of one `limit`, so that
//! one alert and one panel serve all limits.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use metrics::gauge;
use tokio::sync::mpsc;

/// How much of a limit is used, and the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    pub used: usize,
    pub max: usize,
}

/// Returns none when its source is gone.
type Look = Box<dyn FnMut() -> Option<()> + Send>;
type LookAtLimit = Box<dyn FnMut() -> Option<Fill> + Send>;

static SAMPLED: Mutex<Vec<Look>> = Mutex::new(Vec::new());
static LIMITS: Mutex<Vec<(&'static str, LookAtLimit)>> = Mutex::new(Vec::new());

/// Calls `look` before each scrape until it returns none. It must not wait, and not call this.
pub fn sampled(look: impl FnMut() -> Option<()> + Send + 'static) {
    lock(&SAMPLED).push(Box::new(look));
}

/// Shows how full something is, until `look` returns none. Of several with one name the fullest is shown.
pub fn limit(name: &'static str, mut look: impl FnMut() -> Option<Fill> + Send + 'static) {
    let mut limits = lock(&LIMITS);
    // Entries whose source is gone are removed here too, in case no scrape has removed them.
    limits.retain_mut(|(known, look)| *known != name || look().is_some());
    if look().is_some() {
        limits.push((name, Box::new(look)));
    }
}

/// Shows how full a channel is, for as long as other code holds a sender.
pub fn queue<T: Send + 'static>(name: &'static str, sender: &mpsc::Sender<T>) {
    let sender = sender.downgrade();
    limit(name, move || {
        let sender = sender.upgrade()?;
        Some(Fill { used: sender.max_capacity() - sender.capacity(), max: sender.max_capacity() })
    });
}

/// Shows which value of `label` is the present one, as 1. `shown` is the value shown last: its series becomes 0 and is
/// dropped after a while. To be called at each look.
pub fn present(name: &'static str, label: &'static str, shown: &mut Option<String>, now: Option<String>) {
    if let Some(before) = shown.take().filter(|before| Some(before) != now.as_ref()) {
        gauge!(name, label => before).set(0.0);
    }
    if let Some(now) = &now {
        gauge!(name, label => now.clone()).set(1.0);
    }
    *shown = now;
}

pub(super) fn look() {
    lock(&SAMPLED).retain_mut(|look| look().is_some());
    let mut fullest = BTreeMap::new();
    lock(&LIMITS).retain_mut(|(name, look)| {
        let fill = look();
        let shown = fullest.entry(*name).or_insert(Fill { used: 0, max: 0 });
        if let Some(fill) = fill.filter(|fill| fill.is_fuller_than(shown)) {
            *shown = fill;
        }
        fill.is_some()
    });
    for (name, Fill { used, max }) in fullest {
        gauge!("only1mcp_limit_used", "limit" => name).set(count(used));
        gauge!("only1mcp_limit_max", "limit" => name).set(count(max));
    }
}

impl Fill {
    fn is_fuller_than(&self, other: &Self) -> bool {
        other.max == 0 || self.used as u128 * other.max as u128 > other.used as u128 * self.max as u128
    }
}

/// A number as a gauge takes it.
#[expect(clippy::cast_precision_loss, reason = "nothing here is counted beyond 2^53")]
pub fn count(number: usize) -> f64 {
    number as f64
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
