//! `top`: what `status` shows, again and again, in a terminal.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use model::units::in_words;
use runtime::{exit, fault};
use serde_json::Value;
use tokio::time::MissedTickBehavior;
use unicode_width::UnicodeWidthStr;

use super::{Lines, Output, render, status};
use crate::{
    args::{AdminArgs, Format, TopArgs},
    failure::Failure,
};

/// Begins a picture over the one before it.
const HOME: &str = "\x1b[H";
/// After each line: what was there of the picture before goes.
const REST_OF_LINE: &str = "\x1b[K";
/// After the last line.
const REST_OF_SCREEN: &str = "\x1b[J";

/// The shortest time between two pictures.
const LEAST: Duration = Duration::from_millis(100);

/// Shows one picture after the other until it is interrupted or stdout is closed. Where stdout is no terminal, it shows
/// one.
pub(crate) async fn run(args: &TopArgs) -> Result<Output, Failure> {
    if !io::stdout().is_terminal() || args.admin.output.output == Format::Json {
        return status::run(&args.admin).await;
    }
    let mut signals = super::signals()?;
    let admin = args.admin.pinned()?;
    tokio::select! {
        ended = pictures(&admin, args.interval) => ended?,
        _ = signals.recv() => {}
    }
    Ok(Output::nothing_more())
}

/// Ends when stdout is closed.
async fn pictures(admin: &AdminArgs, interval: Duration) -> Result<(), Failure> {
    let mut due = tokio::time::interval(interval.max(LEAST));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Without a first answer there is nothing to look at; later, the gateway may come back.
    let mut seen = status::run(admin).await?;
    due.tick().await;
    loop {
        let picture = picture(&render::Reading::now(), interval, &seen);
        let rows = terminal_size::terminal_size().map(|(_, rows)| usize::from(rows.0));
        let columns = render::columns(io::stdout());
        let screen = screen(&picture.within(columns), columns, rows);
        if io::stdout().write_all(screen.as_bytes()).and_then(|()| io::stdout().flush()).is_err() {
            return Ok(());
        }
        due.tick().await;
        seen = match status::run(admin).await {
            Ok(seen) => seen,
            Err(failure) if failure.exit_code() == exit::UNAVAILABLE => {
                Output::done(Lines::of(format_args!("problem: {}", fault::chain(&failure))), Value::Null)
            }
            Err(failure) => return Err(failure),
        };
    }
}

pub(super) fn picture(now: &render::Reading, interval: Duration, seen: &Output) -> Lines {
    let mut picture = Lines::of(format_args!("{}, every {}", now.here(), in_words(interval)));
    picture.append(&seen.complaints);
    picture.append(&seen.text);
    picture
}

/// The picture over the one before it. A line that the terminal has no row for would move all others up.
fn screen(picture: &str, columns: Option<usize>, rows: Option<usize>) -> String {
    let lines: Vec<&str> = picture.lines().collect();
    // What cannot be folded, such as a path, goes on in the next row.
    let height = |line: &str| columns.map_or(1, |columns| line.width().div_ceil(columns.max(1)).max(1));
    let all: usize = lines.iter().map(|line| height(line)).sum();
    let shown = match rows {
        // The cursor has the last row.
        Some(rows) if all >= rows => {
            let mut left = rows.saturating_sub(2);
            let fits = |line: &&&str| left.checked_sub(height(line)).map(|rest| left = rest).is_some();
            lines.iter().take_while(fits).count()
        }
        Some(_) | None => lines.len(),
    };
    let cut = lines.len() - shown;
    let cut = (cut > 0).then(|| format!("… {cut} more lines; `only1mcp status` has all{REST_OF_LINE}\n"));
    let shown: String = lines[..shown].iter().map(|line| format!("{line}{REST_OF_LINE}\n")).collect();
    format!("{HOME}{shown}{}{REST_OF_SCREEN}", cut.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_leaves_nothing_of_the_one_before_it_and_does_not_scroll() {
        let picture = "now\nserver a\nserver b\nserver c\n";
        let all = "\x1b[Hnow\x1b[K\nserver a\x1b[K\nserver b\x1b[K\nserver c\x1b[K\n\x1b[J";
        assert_eq!([None, Some(5)].map(|rows| screen(picture, Some(40), rows)), [all, all]);
        let cut = "\x1b[Hnow\x1b[K\nserver a\x1b[K\n… 2 more lines; `only1mcp status` has all\x1b[K\n\x1b[J";
        assert_eq!(screen(picture, Some(40), Some(4)), cut);
        assert_eq!(screen(picture, None, Some(0)).lines().count(), 2, "a terminal without a size");
        let narrow = "\x1b[Hnow\x1b[K\nserver a\x1b[K\n… 2 more lines; `only1mcp status` has all\x1b[K\n\x1b[J";
        assert_eq!(screen(picture, Some(4), Some(5)), narrow, "each server takes two rows");
    }
}
