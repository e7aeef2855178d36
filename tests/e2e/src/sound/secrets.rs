//! Secrets are planted wherever a secret can be, and must be found only where they belong. A gateway with its most
//! verbose log is called, changed, refused and asked. Then everything that left it is searched: log, spans, metrics,
//! process list, files, answers to clients, and the output of commands.

mod planted;
mod stage;

use testkit::Fault;

use crate::{Figures, Size};
use planted::{PLANTED, Place};
use stage::{Heard, Stage};

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = Figures::default();
    figures.demand("planted", PLANTED.len(), "at least 30", PLANTED.len() >= 30);
    for format in size.pick(&["pretty", "json"][..], &["pretty"]) {
        let heard = Stage::new(format)?.play()?;
        judge(&mut figures, &heard);
    }
    Ok(figures)
}

fn judge(figures: &mut Figures, heard: &Heard) {
    // A place without any text would prove nothing.
    let silent = Place::ALL.iter().filter(|place| heard.texts_of(**place).next().is_none());
    figures.none("silent_places", silent.map(|place| format!("{place:?}")));
    let found = PLANTED.iter().flat_map(|secret| {
        let places = Place::ALL.iter().filter(|place| !secret.may_be_in.contains(place));
        places.flat_map(move |place| {
            let texts = heard.texts_of(*place).filter(|(_, text)| text.contains(secret.value));
            texts.map(move |(whose, text)| {
                format!("{} in {place:?} {whose}: {}", secret.what, around(text, secret.value))
            })
        })
    });
    let found: Vec<String> = found.collect();
    figures.note("found", found.len());
    found.into_iter().for_each(|one| figures.falls_short(one));
    let unseen = PLANTED.iter().filter(|secret| {
        secret.shows_in.is_some_and(|place| !heard.texts_of(place).any(|(_, text)| text.contains(secret.value)))
    });
    figures.none("never_played", unseen.map(|secret| secret.what));
    let twice = PLANTED.iter().filter(|secret| secret.may_be_in.contains(&Place::Ps)).filter(|secret| {
        heard.texts_of(Place::Ps).map(|(_, text)| text.matches(secret.value).count()).sum::<usize>() != 1
    });
    figures.none("arguments_not_seen_once", twice.map(|secret| secret.what));
    let raw = heard.for_terminals().filter_map(|(whose, text)| Some(format!("{whose}: {}", raw_escape(text)?)));
    figures.none("raw_escapes", raw.collect::<Vec<_>>());
    figures.none("open_files", &heard.open_files);
    let (asked, told) = (heard.strangers_asked, heard.strangers_told);
    figures.demand("strangers_told", told, "0 of several", told == 0 && asked > 0);
}

/// The line with the first character that a terminal should not get.
fn raw_escape(text: &str) -> Option<String> {
    let is_raw = |line: &&str| runtime::escape::paragraph(line) != *line;
    text.split('\n').find(is_raw).map(|line| format!("{line:?}"))
}

fn around(text: &str, value: &str) -> String {
    let line = text.lines().find(|line| line.contains(value)).unwrap_or_default();
    let at = line.find(value).unwrap_or_default();
    let start = line.char_indices().map(|(index, _)| index).rfind(|index| at >= 160 + *index).unwrap_or_default();
    line[start..].chars().take(320).collect()
}
