//! What a keeper is to start. The keeper is told over its control pipe.
//!
//! Not as arguments, because every user of the machine can read the arguments of a process, and a child's arguments
//! would stand there twice.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;

use crate::secrets::Secret;

/// What to start, with secrets resolved: never printed.
pub(crate) struct Launch {
    pub(crate) command: Secret,
    pub(crate) arguments: Vec<Secret>,
    /// The whole environment: nothing is inherited.
    pub(crate) environment: Vec<(String, Secret)>,
    pub(crate) directory: Option<Secret>,
}

impl Launch {
    /// Everything but the environment, which the keeper hands on as it got it: each text after its length, all of them
    /// after theirs.
    pub(super) fn orders(&self) -> Vec<u8> {
        let directory = self.directory.as_ref().map(Secret::expose).unwrap_or_default();
        let texts = [directory, self.command.expose()].into_iter().chain(self.arguments.iter().map(Secret::expose));
        let mut all = vec![0; LENGTH];
        for text in texts {
            all.extend_from_slice(&length(text.len()));
            all.extend_from_slice(text.as_bytes());
        }
        let rest = length(all.len() - LENGTH);
        all[..LENGTH].copy_from_slice(&rest);
        all
    }
}

const LENGTH: usize = size_of::<u64>();

fn length(of: usize) -> [u8; LENGTH] {
    (of as u64).to_le_bytes()
}

/// The orders as the keeper reads them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Orders {
    /// Empty: the keeper's own directory.
    pub(super) directory: OsString,
    pub(super) command: OsString,
    pub(super) arguments: Vec<OsString>,
}

impl Orders {
    /// Fails if the router is gone before it has said all.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut left = read_length(from)?;
        let mut texts = Vec::new();
        while left > 0 {
            let text = read_length(from)?;
            left = left.checked_sub(LENGTH as u64 + text).ok_or(io::ErrorKind::InvalidData)?;
            let mut bytes = Vec::new();
            if from.take(text).read_to_end(&mut bytes)? as u64 != text {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            texts.push(OsString::from_vec(bytes));
        }
        let mut texts = texts.into_iter();
        let (Some(directory), Some(command)) = (texts.next(), texts.next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        Ok(Self { directory, command, arguments: texts.collect() })
    }
}

fn read_length(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; LENGTH];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secrets;

    #[test]
    fn orders_arrive_as_they_were_given_or_not_at_all() {
        let text = |text: &str| Secrets::default().resolve("test", text).unwrap();
        let launch = Launch {
            command: text("a program"),
            arguments: vec![text(""), text("line\nbreak")],
            environment: Vec::new(),
            directory: None,
        };
        let orders = launch.orders();
        let expected = Orders {
            directory: "".into(),
            command: "a program".into(),
            arguments: vec!["".into(), "line\nbreak".into()],
        };
        assert_eq!(Orders::read(&mut &orders[..]).unwrap(), expected);
        for cut in 0..orders.len() {
            assert!(Orders::read(&mut &orders[..cut]).is_err(), "cut at {cut}");
        }
    }
}
