//! `logs`: what the process of a stdio server has said on stderr, and on stdout where it is no MCP. The filters of our
//! own log lines are in `log`.

use std::{collections::BTreeMap, time::Duration};

use data_encoding::HEXLOWER;
use runtime::exit;
use serde_json::{Value, json};
use wire::pb::router::v1::{Endpoint, InspectRequest, InspectResponse};

use super::{Lines, Output, reader, render};
use crate::{admin::Admin, args::LogsArgs, failure::Failure};

/// How often a router is asked for more.
const EVERY: Duration = Duration::from_millis(500);

pub(crate) async fn run(args: &LogsArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let shown = show(&args.server, &ask(&admin, &args.server).await?);
    let output = admin.or_configured_off(&args.server, shown).await?;
    if !args.follow || output.code != exit::DONE {
        return Ok(output);
    }
    let mut signals = super::signals()?;
    tokio::select! {
        ended = follow(&admin, args) => ended,
        _ = signals.recv() => Ok(Output::nothing_more()),
        () = reader::gone() => Ok(Output::nothing_more()),
    }
}

async fn ask(admin: &Admin, server: &str) -> Result<Vec<InspectResponse>, Failure> {
    let mut answers = Vec::new();
    for mut router in admin.needed_routers()? {
        let request = InspectRequest { server: server.to_owned(), with_tools: false };
        let mut answer = admin.ask(&router.target, router.client.inspect(request)).await?;
        // An older router does not choose.
        answer.endpoints.retain(|one| one.key.as_ref().is_some_and(|key| key.backend == server));
        answers.push(answer);
    }
    Ok(answers)
}

/// What the endpoints have said so far.
pub(super) fn show(server: &str, answers: &[InspectResponse]) -> Result<Output, Failure> {
    let all = || answers.iter().flat_map(|answer| answer.endpoints.iter().map(move |one| (answer.node.as_str(), one)));
    if all().next().is_none() {
        return Err(Failure::NoServer { server: server.to_owned() });
    }
    let (mut text, mut complaints) = (Lines::default(), Lines::default());
    let mut said = Said { several: all().count() > 1, ..Said::default() };
    for (node, one) in all() {
        said.more(node, one).iter().for_each(|line| text.verbatim(&line.in_text(said.several)));
    }
    let has_process = all().any(|(_, one)| one.transport == "stdio");
    if !has_process {
        complaints
            .line(format_args!("{server} is no process of the gateway's, which reaches it over HTTP: see its own log"));
    } else if text.is_empty() {
        complaints.line(format_args!("{server} has said nothing"));
    }
    let code = if has_process { exit::DONE } else { exit::REFUSED };
    let json = all().map(|(node, one)| as_json(node, one)).collect();
    Ok(Output { complaints, code, ..Output::done(text, json) })
}

fn as_json(node: &str, one: &Endpoint) -> Value {
    json!({
        "router": node,
        "digest": one.key.as_ref().map(|key| HEXLOWER.encode(&key.digest)),
        "pid": (one.pid != 0).then_some(one.pid),
        "stderr": one.stderr,
        "stray_output": one.stray_output,
        "error": render::some(&one.error),
    })
}

/// Prints the lines so far, then new ones, until the command is interrupted or its output is closed.
async fn follow(admin: &Admin, args: &LogsArgs) -> Result<Output, Failure> {
    let mut said = Said::default();
    loop {
        let answers = ask(admin, &args.server).await?;
        said.several |= answers.iter().map(|answer| answer.endpoints.len()).sum::<usize>() > 1;
        for answer in &answers {
            let several = said.several;
            for line in answer.endpoints.iter().flat_map(|one| said.more(&answer.node, one)) {
                let mut text = Lines::default();
                text.verbatim(&line.in_text(several));
                if super::print_one(args.admin.output.output, &text, &line.in_json()).is_err() {
                    return Ok(Output::nothing_more());
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What was printed of each endpoint: its last lines.
#[derive(Default)]
struct Said {
    /// Lines say which router they come from.
    several: bool,
    before: BTreeMap<(String, Vec<u8>, &'static str), Vec<String>>,
}

struct Line {
    router: String,
    stream: &'static str,
    text: String,
}

impl Said {
    /// The lines that were not printed yet.
    fn more(&mut self, router: &str, one: &Endpoint) -> Vec<Line> {
        let digest = one.key.as_ref().map(|key| key.digest.clone()).unwrap_or_default();
        let mut lines = Vec::new();
        for (stream, now) in [("stderr", &one.stderr), ("stdout", &one.stray_output)] {
            let before = self.before.entry((router.to_owned(), digest.clone(), stream)).or_default();
            let more = fresh(before, now).iter();
            lines.extend(more.map(|text| Line { router: router.to_owned(), stream, text: text.clone() }));
            before.clone_from(now);
        }
        lines
    }
}

impl Line {
    fn in_text(&self, several: bool) -> String {
        let router = if several { format!("[{}] ", self.router) } else { String::new() };
        let stream = if self.stream == "stdout" { "stdout: " } else { "" };
        format!("{router}{stream}{}", self.text)
    }

    fn in_json(&self) -> Value {
        json!({ "router": self.router, "stream": self.stream, "line": self.text })
    }
}

/// Of the last lines as they are `now`, those that came after the last lines as they were `before`.
fn fresh<'a>(before: &[String], now: &'a [String]) -> &'a [String] {
    let common = (0..=before.len().min(now.len())).rev().find(|count| before.ends_with(&now[..*count]));
    &now[common.unwrap_or_default()..]
}

#[cfg(test)]
mod tests {
    use super::fresh;

    #[test]
    fn only_new_lines_are_printed() {
        let lines = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        for (before, now, expected) in [
            ("", "ab", "ab"),
            ("ab", "ab", ""),
            ("ab", "abc", "c"),
            ("abc", "bcde", "de"),
            ("abc", "xy", "xy"),
            ("abc", "", ""),
        ] {
            assert_eq!(fresh(&lines(before), &lines(now)).concat(), expected, "{before} {now}");
        }
    }
}
