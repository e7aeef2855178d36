//! `show`: the content of a revision, as a file.

use config_file::{spell, yaml};
use model::{Mask, Snapshot};
use runtime::exit;

use super::{Lines, Output, diff};
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
        complaints.line(format_args!(
            "{name} has secrets that are written out; {marks} of its values are masked here, and such a file is refused \
             until they are written anew"
        ));
    }
    let code = if marks == 0 { exit::DONE } else { exit::REFUSED };
    Output { complaints, code, ..Output::done(text, spell(snapshot)) }
}
