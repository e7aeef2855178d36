//! `show`: the content of a revision, as a file.

use config_file::{spell, yaml};
use model::{Mask, Snapshot};
use runtime::exit;

use super::{Lines, Output, diff, render};
use crate::{admin::Admin, args::ShowArgs, failure::Failure};

pub(crate) async fn run(args: &ShowArgs) -> Result<Output, Failure> {
    let admin = Admin::find(&args.admin).await?;
    let side = diff::revision(&admin, args.revision.unwrap_or_default()).await?;
    Ok(show(&side.name, &side.snapshot))
}

pub(super) fn show(name: &str, snapshot: &Snapshot) -> Output {
    let (mut text, mut complaints) = (Lines::default(), Lines::default());
    let file = yaml(snapshot);
    file.lines().for_each(|line| text.verbatim(line));
    let marks = Mask::marks(&file);
    if marks > 0 {
        let (is, a_secret) = if marks == 1 { ("is", "a secret") } else { ("are", "secrets") };
        complaints.line(format_args!(
            "{name}: {} under `env` or `headers`, or in a URL, {is} written out, may be {a_secret}, and {is} masked here; a \
             file with such a mark is refused",
            render::count(marks, "value")
        ));
    }
    let code = if marks == 0 { exit::DONE } else { exit::REFUSED };
    Output { complaints, code, ..Output::done(text, spell(snapshot)) }
}
