//! `validate`: is this file a configuration? Answered here, without any service; what would come of it, only routers
//! know.

mod programs;
pub(super) mod trial;
pub(super) mod variables;

use std::{fs::File, io, path::Path};

use config_file::{Format, Judged, ReadError, Source};
use model::{Owner, Violation};
use runtime::exit;
use serde_json::{Value, json};

use super::{Lines, Output, render};
use crate::{args::ValidateArgs, failure::Failure};

pub(crate) async fn run(args: &ValidateArgs) -> Result<Output, Failure> {
    let name = display(&args.file);
    let text = match read(&args.file) {
        Ok(text) => text,
        Err(error) => return Ok(invalid(&name, &[Violation::from(error)])),
    };
    let format = Format::of(&args.file);
    let source = Source { owner: Owner::file(), name: name.as_str().into(), format, text };
    let valid = judge(&name, &source);
    if args.trial && valid.code == exit::DONE { trial::run(args, source, valid).await } else { Ok(valid) }
}

pub(super) fn judge(name: &str, source: &Source) -> Output {
    let merged = config_file::merge(std::slice::from_ref(source));
    let mut missing = programs::missing(merged.programs());
    missing.extend(variables::unset(&merged.variables()));
    match merged.judge() {
        Ok(Judged { snapshot, mut advice, .. }) => {
            advice.extend(missing);
            let (servers, digest) = (snapshot.backends.len(), snapshot.digest().to_string());
            let text = format!("{name}: valid, {}, digest {digest}", render::count(servers, "server"));
            let json = json!({ "valid": true, "servers": servers, "digest": digest, "violations": [] });
            let mut valid = Output::done(Lines::of(text), json);
            advise(&mut valid, &advice);
            valid
        }
        Err(violations) => invalid(name, &violations),
    }
}

/// Advice about the programs of the text that are not on this machine.
pub(super) fn missing(source: &Source) -> Vec<Violation> {
    programs::missing(config_file::merge(std::slice::from_ref(source)).programs())
}

/// Adds advice on what is right and probably not meant.
pub(super) fn advise(output: &mut Output, advice: &[Violation]) {
    advice.iter().for_each(|advice| output.complaints.line(format_args!("{advice} (advice)")));
    output.json["advice"] = advice.iter().map(render::violation_json).collect();
}

/// The answer about a file that is no configuration.
pub(super) fn invalid(name: &str, violations: &[Violation]) -> Output {
    let mut complaints = Lines::default();
    violations.iter().for_each(|violation| complaints.line(violation));
    complaints.line(format_args!("{name}: not valid, {}", render::count(violations.len(), "violation")));
    let violations: Value = violations.iter().map(render::violation_json).collect();
    let json = json!({ "valid": false, "violations": violations });
    Output { complaints, code: exit::REFUSED, ..Output::done(Lines::default(), json) }
}

/// The text of a file, or of standard input for `-`. A pipe is allowed: the user who waits for its other end can
/// interrupt.
pub(crate) fn read(path: &Path) -> Result<String, ReadError> {
    if path == Path::new("-") {
        return config_file::read_stream(display(path).as_ref(), io::stdin());
    }
    match config_file::read(path) {
        Err(ReadError::NotRegular { path }) => {
            let stream = File::open(&path).map_err(|source| ReadError::Open { path: path.clone(), source })?;
            config_file::read_stream(&path, stream)
        }
        read => read,
    }
}

pub(super) fn display(path: &Path) -> String {
    if path == Path::new("-") { "(standard input)".to_owned() } else { path.display().to_string() }
}
