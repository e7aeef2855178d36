//! Eight incidents, each planted in a gateway of its own, found and ended by the command line alone.
//!
//! They are played side by side. The transcript of all of them is `docs/incidents.md`; with `UPDATE_GOLDEN` set it is
//! written anew.

mod played;
mod situations;
mod stage;
mod transcript;

use std::thread;

use testkit::{Fault, Scratch, fault};

use crate::{Figures, Size};
use played::Played;
use situations::SITUATIONS;

/// Both sizes are the same: each incident takes as long as it takes.
pub fn run(_: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let played = play_all()?;
    // All of them are cured: one that is not ends the run.
    figures.note("incidents", played.len());
    for format in ["text", "json"] {
        let lost = played.iter().filter(|one| !one.is_told(format)).map(|one| one.name);
        figures.note("format", format);
        figures.none("cause_not_told", lost);
    }
    let commands = [
        ("commands_to_cause", "cause_median", played.iter().map(|one| one.to_cause).collect::<Vec<_>>()),
        ("commands_to_cure", "cure_median", played.iter().map(|one| one.to_cure).collect()),
    ];
    for (all, middle, mut counts) in commands {
        figures.note(all, counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
        counts.sort_unstable();
        figures.note(middle, counts[counts.len() / 2]);
    }
    figures.none("second_command_not_named", played.iter().filter(|one| !one.named).map(|one| one.name));
    figures.none("transcript_differs", transcript::differs(&played)?);
    Ok(figures)
}

/// `status` never ends with 0 while anything is dead, and `watch` goes on telling.
pub fn during(_: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    let played = play_all()?;
    let looks = played.iter().map(|one| one.looks.len()).sum::<usize>();
    figures.demand("looks", looks, "several in each", played.iter().all(|one| one.looks.len() > 1));
    let looks = played.iter().flat_map(|one| one.looks.iter().map(move |look| (one, look)));
    let content = looks
        .filter(|(_, look)| look.is_dead && look.code == 0)
        .map(|(one, look)| format!("{}: {}", one.name, look.shown));
    figures.none("ended_with_0_while_dead", content);
    figures.note("watch_lines", played.iter().map(|one| one.watched.len()).sum::<usize>());
    figures.none("watch_no_json", played.iter().flat_map(|one| one.unreadable()));
    figures.none("watch_silent", played.iter().flat_map(Played::unsaid));
    Ok(figures)
}

fn play_all() -> Result<Vec<Played>, Fault> {
    let scratches = SITUATIONS.iter().map(|one| Scratch::new(one.name)).collect::<Result<Vec<_>, _>>()?;
    thread::scope(|scope| {
        let running: Vec<_> = SITUATIONS
            .iter()
            .zip(&scratches)
            .map(|(situation, scratch)| scope.spawn(move || played::play(situation, scratch)))
            .collect();
        let ended = SITUATIONS.iter().zip(running).map(|(situation, thread)| {
            let played = thread.join().unwrap_or_else(|_| Err(fault("it panicked")));
            played.map_err(|error| error.during(situation.name))
        });
        ended.collect()
    })
}
