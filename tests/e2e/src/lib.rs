//! The requirements of the gateway, as scenarios over real processes.
//!
//! Each acceptance line is one function from a [`Size`] to [`Figures`]: its short form runs with the tests, its full
//! size in the `acceptance` program. The lines stand in six lists:
//!
//! | list | what it measures |
//! |---|---|
//! | [`main_job`] | the configuration changes while clients call: no call is lost, bad input changes nothing |
//! | [`run_anywhere`] | the gateway in containers, and what operators see of it: traces, metrics, gRPC, schema |
//! | [`sound`] | no client and no server harms the others: limits, sessions, secrets, hostile peers |
//! | [`second_cut`] | what it costs: lines of Rust, instructions per call, changes before up to 2,000 servers |
//! | [`first_hour`] | what people read: commands of the documents, incidents, files of MCP clients |
//! | [`leaving`] | what leaves, and how: endpoints, servers, routers, the gateway itself |

pub mod commands;
pub mod figures;
pub mod first_hour;
pub mod leaving;
pub mod ledger;
pub mod main_job;
pub mod run_anywhere;
pub mod second_cut;
pub mod sound;
pub mod sources;
pub mod traffic;
pub mod transcript;
pub mod world;

pub use figures::Figures;

use testkit::Fault;

/// How much of a scenario is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As the acceptance line says.
    Full,
    /// The same in a few seconds.
    Short,
}

impl Size {
    pub fn pick<T>(self, full: T, short: T) -> T {
        match self {
            Self::Full => full,
            Self::Short => short,
        }
    }
}

/// One acceptance line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub number: u8,
    pub title: &'static str,
    pub run: fn(Size) -> Result<Figures, Fault>,
}

/// The short form of a line, as a test.
pub fn short(run: fn(Size) -> Result<Figures, Fault>) -> Result<(), Fault> {
    let (result, kept) = testkit::scratch::judged(|| run(Size::Short)?.into_result(), Result::is_ok);
    result.map(|_| ()).map_err(|error| error.during(format!("logs and state are in {kept:?}")))
}
