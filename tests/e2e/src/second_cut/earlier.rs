//! Lines of earlier acceptances at full size. The simulation, line 11 of the main job, is a line of its own here.

use testkit::{Fault, fault};

use crate::{Figures, Size, main_job, sound};

pub fn run(size: Size) -> Result<Figures, Fault> {
    if size == Size::Short {
        return Err(fault("this line has no short form: those of the lines it plays are tests already"));
    }
    let main_job = main_job::LINES.iter().filter(|line| [2, 3, 5].contains(&line.number));
    let sound = sound::LINES.iter().filter(|line| [2, 3].contains(&line.number));
    let mut figures = Figures::default();
    for line in main_job.chain(sound) {
        figures.note("line", format!("\"{}\"", line.title));
        figures.merge((line.run)(size).map_err(|error| error.during(line.title.to_owned()))?);
    }
    Ok(figures)
}
