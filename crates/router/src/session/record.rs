//! The records of the journal of sessions: one record a line, each with a checksum. So a line that was cut short, or
//! that the disk returned wrong, is no record and spoils no other one. All times are stamps.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;

use super::SessionId;
use super::ends::{Row, row_of};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// At the time `at`, the session counts as used until `until`.
    Used { id: SessionId, issued: u64, at: u64, until: u64 },
    /// The session has ended.
    Ended { id: SessionId, issued: u64 },
    /// These sessions of a row have ended. Comes before all uses.
    Ends { first: SessionId, row: Row },
    /// The session was forgotten.
    Forgotten { id: SessionId },
    /// At the time `at`, no unknown session that was issued before `floor` could live.
    Floor { floor: u64, at: u64 },
}

impl Record {
    pub(super) fn write(self, text: &mut String) {
        let content = match self {
            Self::Used { id, issued, at, until } => format!("used {} {issued} {at} {until}", hex(id)),
            Self::Ended { id, issued } => format!("ended {} {issued}", hex(id)),
            Self::Ends { first, row: Row { bits: [a, b, c, d], latest } } => {
                format!("ends {} {latest} {a} {b} {c} {d}", hex(first))
            }
            Self::Forgotten { id } => format!("forgotten {}", hex(id)),
            Self::Floor { floor, at } => format!("floor {floor} {at}"),
        };
        let check = format!("{:016x}", checksum(content.as_bytes()));
        text.extend([&content, " ", &check, "\n"]);
    }

    fn read(line: &str) -> Option<Self> {
        let (content, check) = line.rsplit_once(' ')?;
        if check.len() != 16 || u64::from_str_radix(check, 16).ok()? != checksum(content.as_bytes()) {
            return None;
        }
        let mut words = content.split(' ');
        let kind = words.next()?;
        if kind == "floor" {
            return Some(Self::Floor { floor: words.next()?.parse().ok()?, at: words.next()?.parse().ok()? });
        }
        let id = parse_id(words.next()?)?;
        let mut number = || words.next()?.parse().ok();
        Some(match kind {
            "used" => Self::Used { id, issued: number()?, at: number()?, until: number()? },
            "ended" => Self::Ended { id, issued: number()? },
            "ends" => {
                let latest = number()?;
                Self::Ends { first: id, row: Row { latest, bits: [number()?, number()?, number()?, number()?] } }
            }
            "forgotten" => Self::Forgotten { id },
            _ => return None,
        })
    }
}

/// FNV-1a: it must detect a cut or a mix-up, not a forgery.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn hex(id: SessionId) -> String {
    HEXLOWER.encode(id.as_bytes())
}

fn parse_id(hex: &str) -> Option<SessionId> {
    Some(SessionId::from_bytes(HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()?))
}

/// What the last record of a session's use says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) issued: u64,
    pub(super) until: u64,
}

/// The content of a whole journal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) used: BTreeMap<SessionId, Seen>,
    pub(super) ended: BTreeMap<SessionId, Row>,
    pub(super) floor: u64,
    /// The latest stamp at which anything was written.
    pub(super) latest: u64,
    /// How many records the journal has.
    pub(super) records: usize,
    /// How many lines are not records.
    pub(super) broken: usize,
}

impl Past {
    pub(super) fn read(content: &[u8]) -> Self {
        let mut past = Self::default();
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match std::str::from_utf8(line).ok().and_then(Record::read) {
                Some(record) => past.add(record),
                None => past.broken += 1,
            }
        }
        past
    }

    fn add(&mut self, record: Record) {
        self.records += 1;
        match record {
            Record::Used { id, issued, at, until } => {
                self.latest = self.latest.max(at);
                // An end may overtake a use on its way to the disk.
                if !self.ended.get(&row_of(&id)).is_some_and(|row| row.has(&id)) {
                    self.used.insert(id, Seen { issued, until });
                }
            }
            Record::Ended { id, issued } => {
                self.used.remove(&id);
                self.ended.entry(row_of(&id)).or_default().add(&id, issued);
            }
            Record::Ends { first, row } => drop(self.ended.insert(first, row)),
            Record::Forgotten { id } => drop(self.used.remove(&id)),
            Record::Floor { floor, at } => {
                self.floor = self.floor.max(floor);
                self.latest = self.latest.max(at);
            }
        }
    }
}
