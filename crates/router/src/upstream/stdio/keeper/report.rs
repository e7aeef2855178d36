//! What a keeper tells its router, one line each: `started PID`, `refused REASON`, `exited CODE`, `killed SIGNAL`.

use std::fmt;

use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Exited(i32),
    Killed(i32),
    /// The keeper was killed, and the child with it.
    KeeperLost,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with status {code}"),
            Self::Killed(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "was ended by signal {number} ({signal})"),
                Err(_) => write!(f, "was ended by signal {number}"),
            },
            Self::KeeperLost => f.write_str("was ended because its keeper process was killed"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Started(u32),
    Refused(String),
    Ended(Ending),
}

impl Report {
    pub(super) fn line(&self) -> String {
        match self {
            Self::Started(pid) => format!("started {pid}\n"),
            Self::Refused(reason) => format!("refused {}\n", reason.replace('\n', " ")),
            Self::Ended(Ending::Exited(code)) => format!("exited {code}\n"),
            Self::Ended(Ending::Killed(signal)) => format!("killed {signal}\n"),
            Self::Ended(Ending::KeeperLost) => unreachable!("a keeper cannot report its own death"),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ')?;
        match word {
            "started" => rest.parse().ok().map(Self::Started),
            "refused" => Some(Self::Refused(rest.to_owned())),
            "exited" => rest.parse().ok().map(|code| Self::Ended(Ending::Exited(code))),
            "killed" => rest.parse().ok().map(|signal| Self::Ended(Ending::Killed(signal))),
            _ => None,
        }
    }
}

/// The reports of one keeper. Reading can be given up and taken up again at any point.
pub(super) struct Reports<R> {
    from: R,
    begun: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reports<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, begun: Vec::new() }
    }

    /// `None` when the keeper is gone.
    pub(super) async fn next(&mut self) -> Option<Report> {
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.begun.drain(..=end).collect();
                match Report::parse(String::from_utf8_lossy(&line).trim_end()) {
                    Some(report) => return Some(report),
                    None => continue,
                }
            }
            match self.from.read_buf(&mut self.begun).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}
