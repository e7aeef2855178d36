//! The main job once more, with hostile peers beside it.

use testkit::Fault;

use super::bounded::company::Company;
use crate::{
    Figures, Size,
    main_job::{four_processes, zero_drop},
};

pub fn run(size: Size) -> Result<Figures, Fault> {
    let mut figures = zero_drop::beside(size, Some(Company::invite()?))?;
    figures.merge(four_processes::beside(size, Some(Company::invite()?))?);
    Ok(figures)
}
