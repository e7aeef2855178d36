//! What goes wrong, and how often it did.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    StreamBroken,
    MessageLost,
    MessageDelayed,
    MessageDuplicated,
    BaseNotHeld,
    ManagerCrashed,
    CrashedBeforeFsync,
    CrashedAfterFsync,
    AppendFailed,
    ManagerReplaced,
    StaleDirective,
    LogLost,
    RouterCrashed,
    CrashedInBetween,
    DiskCopyOlder,
    LeaseExpired,
    VoteNo,
    VoteSlow,
    OfferRefused,
    ServerDown,
    ServerLost,
    SecretMissing,
    CoordinatorCrashed,
    ClockSet,
    FileEventLost,
    FileHalfWritten,
    FileBroken,
    FileMissing,
    /// No fault, but as rare: it stays by its weight.
    RemovedWithWeight,
    /// It leaves by `progressive`, and another one takes over.
    RemovedStepByStep,
    /// An operator drains it by `progressive`, and another one takes over.
    DrainedStepByStep,
}

impl Fault {
    pub const ALL: [Self; 31] = [
        Self::StreamBroken,
        Self::MessageLost,
        Self::MessageDelayed,
        Self::MessageDuplicated,
        Self::BaseNotHeld,
        Self::ManagerCrashed,
        Self::CrashedBeforeFsync,
        Self::CrashedAfterFsync,
        Self::AppendFailed,
        Self::ManagerReplaced,
        Self::StaleDirective,
        Self::LogLost,
        Self::RouterCrashed,
        Self::CrashedInBetween,
        Self::DiskCopyOlder,
        Self::LeaseExpired,
        Self::VoteNo,
        Self::VoteSlow,
        Self::OfferRefused,
        Self::ServerDown,
        Self::ServerLost,
        Self::SecretMissing,
        Self::CoordinatorCrashed,
        Self::ClockSet,
        Self::FileEventLost,
        Self::FileHalfWritten,
        Self::FileBroken,
        Self::FileMissing,
        Self::RemovedWithWeight,
        Self::RemovedStepByStep,
        Self::DrainedStepByStep,
    ];
}

/// How often each happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(BTreeMap<Fault, u64>);

impl Faults {
    pub(crate) fn count(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    pub fn add(&mut self, other: &Self) {
        for (fault, times) in &other.0 {
            *self.0.entry(*fault).or_default() += times;
        }
    }
}
