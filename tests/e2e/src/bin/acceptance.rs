//! Runs acceptance lines at full size and prints one line each; `scripts/acceptance` builds and calls it.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use e2e::{
    Figures, Line, Size, first_hour, leaving,
    ledger::{Ledger, Run},
    main_job, run_anywhere, second_cut, sound,
};
use testkit::{Fault, scratch};
use tokio::time::Instant;

/// Runs the acceptance lines of NAME; those that passed before with the same code are only shown again
#[derive(Debug, Parser)]
struct CommandLine {
    /// Which lines: main-job, run-anywhere, sound, second-cut, first-hour or leaving
    name: String,
    /// Run these, whether they passed before or not; without any, all that have not
    lines: Vec<u8>,
    /// The short forms instead, which the ledger does not hold; nor does it hold runs with programs from
    /// ONLY1MCP_BIN_DIR
    #[arg(long)]
    short: bool,
}

fn main() -> ExitCode {
    let asked = CommandLine::parse();
    let known: &[Line] = match asked.name.as_str() {
        "main-job" => &main_job::LINES,
        "run-anywhere" => run_anywhere::LINES,
        "sound" => sound::LINES,
        "second-cut" => &second_cut::LINES,
        "first-hour" => first_hour::LINES,
        "leaving" => leaving::LINES,
        other => {
            return usage(&format!(
                "there are no acceptance lines `{other}`; expected main-job, run-anywhere, sound, second-cut, \
                 first-hour or leaving"
            ));
        }
    };
    if let Some(line) = asked.lines.iter().find(|line| known.iter().all(|known| known.number != **line)) {
        return usage(&format!("{} has no line {line}", asked.name));
    }
    let chosen = known.iter().filter(|line| asked.lines.is_empty() || asked.lines.contains(&line.number));
    let mut passed = true;
    for line in chosen {
        match judge(&asked, line) {
            Ok(holds) => passed &= holds,
            Err(error) => return usage(&error.to_string()),
        }
    }
    if passed { ExitCode::SUCCESS } else { runtime::exit::REFUSED.into() }
}

fn judge(asked: &CommandLine, line: &Line) -> Result<bool, Fault> {
    let ledger = Ledger::open()?;
    let name = asked.name.as_str();
    if asked.lines.is_empty()
        && !asked.short
        && let Some(figures) = ledger.passed(name, line.number)
    {
        writeln!(io::stdout(), "{name} {} PASS {figures} (earlier, same code)", line.number)?;
        return Ok(true);
    }
    writeln!(io::stderr(), "{name} {}: {} …", line.number, line.title)?;
    let start = Instant::now();
    let size = if asked.short { Size::Short } else { Size::Full };
    let passes = |ran: &Result<Figures, Fault>| ran.as_ref().is_ok_and(|figures| figures.shortfalls().is_empty());
    let (ran, kept) = scratch::judged(|| (line.run)(size), passes);
    let seconds = start.elapsed().as_secs_f64();
    let (figures, mut shortfalls) = match &ran {
        Ok(figures) => (figures.to_string(), Figures::shortfalls(figures).to_vec()),
        Err(error) => (String::new(), vec![error.to_string()]),
    };
    let passed = shortfalls.is_empty();
    shortfalls.extend(kept.iter().map(|folder| format!("logs and state are in {}", folder.display())));
    let word = if passed { "PASS" } else { "FAIL" };
    writeln!(io::stdout(), "{name} {} {word} {figures} seconds={seconds:.1}", line.number)?;
    for shortfall in shortfalls {
        writeln!(io::stdout(), "{name} {}   {}", line.number, shortfall.replace('\n', "\n    "))?;
    }
    if !asked.short && !testkit::binaries::are_elsewhere() {
        ledger.add(&Run { name, line: line.number, passed, figures: &figures, seconds })?;
    }
    Ok(passed)
}

fn usage(text: &str) -> ExitCode {
    drop(writeln!(io::stderr(), "acceptance: {text}"));
    runtime::exit::USAGE.into()
}
