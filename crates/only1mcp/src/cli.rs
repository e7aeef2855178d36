//! Runs one command of an operator: sends the request, prints the answer, and tells the outcome by its exit code.

mod changes;
mod diff;
mod drains;
mod events;
mod history;
mod import;
mod log;
mod logs;
mod progress;
mod reader;
mod render;
mod restart;
mod show;
mod stats;
mod status;
#[cfg(test)]
mod tests;
mod tools;
mod top;
mod validate;

use std::{
    future::Future,
    io::{self, Write},
    process::ExitCode,
};

use runtime::escape::{self, say};
use runtime::{
    exit, fault,
    shutdown::{self, Signals},
};
use serde_json::{Value, json};

pub(crate) use render::{Lines, because, count, duration, first_of};

use crate::{
    args::{Format, Operate, OutputArgs},
    failure::Failure,
};

/// The output of a command. Text and complaints are written in the text format; the JSON has the same content, and what
/// is wrong stands beside it as the [`Output::error`].
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) text: Lines,
    /// What is wrong, on stderr.
    pub(crate) complaints: Lines,
    /// What to do about it.
    pub(crate) next: Option<String>,
    pub(crate) json: Value,
    pub(crate) code: u8,
}

impl Output {
    pub(crate) fn done(text: Lines, json: Value) -> Self {
        Self { text, complaints: Lines::default(), next: None, json, code: exit::DONE }
    }

    /// What is wrong and what to do about it, for people.
    fn on_stderr(&self) -> Lines {
        let mut lines = self.complaints.clone();
        self.next.iter().for_each(|next| lines.line(format_args!("  next: {next}")));
        lines
    }

    /// All there was to say has been said.
    pub(crate) fn nothing_more() -> Self {
        Self::done(Lines::default(), Value::Null)
    }

    /// What is wrong, if the command has not done what was asked for.
    pub(crate) fn error(&self) -> Option<String> {
        if [exit::DONE, exit::NOTHING_TO_DO].contains(&self.code) {
            return None;
        }
        // Some answers say it in their text, the others have nothing but that.
        let problems: Vec<&str> =
            self.text.as_str().lines().filter_map(|line| line.strip_prefix("problem: ")).collect();
        let said = match (self.complaints.is_empty(), problems.is_empty()) {
            (false, _) => self.complaints.as_str().to_owned(),
            (true, false) => problems.join("\n"),
            (true, true) => self.text.as_str().to_owned(),
        };
        Some(said.trim_start_matches("only1mcp: ").trim_end().to_owned())
    }
}

/// Runs `command` to its end.
pub(crate) fn run(command: Operate) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => return fail(&Failure::System { what: "cannot start", source }, Format::Text),
    };
    let code = runtime.block_on(async {
        match command {
            Operate::Validate(args) => print(args.admin.output, validate::run(&args)).await,
            Operate::Import(args) => print(args.output, std::future::ready(import::import(&args))).await,
            Operate::Export(args) => print(args.output, std::future::ready(import::export(&args))).await,
            Operate::Schema => {
                let schema = config_file::schema();
                let output = OutputArgs { output: Format::Json };
                print(output, std::future::ready(Ok(Output::done(Lines::default(), schema)))).await
            }
            Operate::Status(args) => print(args.admin.output, status::run(&args.admin)).await,
            Operate::Top(args) => print(args.admin.output, top::run(&args)).await,
            Operate::Reload(args) => print(args.admin.output, changes::reload(&args)).await,
            Operate::History(args) => print(args.admin.output, history::run(&args)).await,
            Operate::Rollback(args) => print(args.admin.output, changes::rollback(&args)).await,
            Operate::Apply(args) => print(args.admin.output, Box::pin(changes::apply(&args))).await,
            Operate::Show(args) => print(args.admin.output, show::run(&args)).await,
            Operate::Diff(args) => print(args.admin.output, diff::run(&args)).await,
            Operate::Watch(args) => print(args.admin.output, events::run(&args)).await,
            Operate::Log(args) => print(args.admin.output, log::run(&args)).await,
            Operate::Logs(args) => print(args.admin.output, logs::run(&args)).await,
            Operate::Drain(args) => print(args.admin.output, drains::drain(&args)).await,
            Operate::Drains(args) => print(args.admin.output, drains::list(&args)).await,
            Operate::Stats(args) => print(args.admin.output, stats::run(&args)).await,
            Operate::Restart(args) => print(args.admin.output, restart::run(&args)).await,
            Operate::Disable(args) => print(args.admin.output, drains::disable(&args)).await,
            Operate::Enable(args) => print(args.admin.output, drains::enable(&args)).await,
            Operate::Connect(args) => print(OutputArgs { output: Format::Text }, crate::connect::run(&args)).await,
            Operate::Tools(args) => print(args.mcp.output, tools::list(&args)).await,
            Operate::Call(args) => print(args.mcp.output, tools::call(&args)).await,
        }
    });
    runtime.shutdown_background();
    code
}

async fn print(output: OutputArgs, answer: impl Future<Output = Result<Output, Failure>>) -> ExitCode {
    let answer = match answer.await {
        Ok(answer) => answer,
        Err(failure) => return fail(&failure, output.output),
    };
    let text = match output.output {
        Format::Text => {
            say(&answer.on_stderr().within(render::columns(io::stderr())));
            answer.text.within(render::columns(io::stdout()))
        }
        Format::Json => {
            if let Some(error) = answer.error() {
                fail_as_json(&error, answer.next.as_deref(), answer.code);
            }
            // Null: there is no answer, or everything was printed before the end.
            let none = answer.json.is_null();
            if none { String::new() } else { escape::json(&format!("{:#}\n", answer.json)).into_owned() }
        }
    };
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // A reader that has seen enough (`| head`) is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&Failure::System { what: "the answer cannot be written", source: error }, output.output)
        }
        Ok(()) | Err(_) => answer.code.into(),
    }
}

/// Prints one of many answers at once, as text or as a line of JSON.
fn print_one(format: Format, text: &Lines, json: &Value) -> io::Result<()> {
    let line = match format {
        Format::Text => text.within(render::columns(io::stdout())),
        Format::Json => format!("{}\n", escape::json(&json.to_string())),
    };
    io::stdout().write_all(line.as_bytes())
}

/// For commands that run until they are interrupted, which is how they are meant to end.
pub(crate) fn signals() -> Result<Signals, Failure> {
    shutdown::signals().map_err(|source| Failure::System { what: "cannot catch signals", source })
}

/// Says on stderr why a command failed.
fn fail(failure: &Failure, format: Format) -> ExitCode {
    let code = failure.exit_code();
    match format {
        Format::Text => say(&in_words(failure).within(render::columns(io::stderr()))),
        Format::Json => {
            let details = failure.details().into_iter().map(|detail| format!("\n  {detail}"));
            let error = fault::chain(failure) + &details.collect::<String>();
            fail_as_json(&error, failure.next_step().as_deref(), code);
        }
    }
    code.into()
}

/// Why it failed and what to try next, for people.
fn in_words(failure: &Failure) -> Lines {
    let mut lines = Lines::of(format_args!("only1mcp: {}", fault::chain(failure)));
    failure.details().iter().for_each(|detail| lines.line(format_args!("  {detail}")));
    let next = failure.next_step().map(|next| format!("  next: {next}"));
    next.iter().flat_map(|next| next.lines()).for_each(|line| lines.line(line));
    lines
}

/// One line on stderr, so that stdout holds answers and nothing else.
pub(crate) fn fail_as_json(error: &str, next: Option<&str>, code: u8) {
    let document = json!({ "error": error, "next": next, "code": code }).to_string();
    say(&format!("{}\n", escape::json(&document)));
}
