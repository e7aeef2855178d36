//! What callers are told about revisions and the log that cannot be had.

use runtime::grpc::refusal;
use tonic::{Code, Status};

use crate::log::{LogError, Unavailable, further_back};

/// Why a revision's content cannot be had.
pub(crate) fn unavailable(error: &Unavailable) -> Status {
    let (reason, revision) = match error {
        Unavailable::Log(error) => return log_fault(error),
        Unavailable::RolledBack { revision, further, others, .. } => {
            let refused = refusal::precondition("ROLLED_BACK", format!("revision {revision}"), error.to_string());
            return refusal::with_next(&refused, further_back(*further, others));
        }
        Unavailable::Unknown { revision, .. } => ("REVISION_UNKNOWN", revision),
        Unavailable::Pruned { revision, .. } => ("REVISION_PRUNED", revision),
        Unavailable::First { revision } => ("REVISION_FIRST", revision),
    };
    refusal::not_found(reason, "revision", revision.to_string(), error.to_string())
}

pub(super) fn log_fault(error: &LogError) -> Status {
    refusal::other(Code::DataLoss, "LOG_DAMAGED", error.to_string())
}

/// No change can be decided while the log is away and cannot record it.
pub(crate) fn log_away(why: &str) -> Status {
    let message = format!("the log of revisions is not sound, so nothing is decided until it is: {why}");
    refusal::other(Code::DataLoss, "LOG_DAMAGED", message)
}
