//! The log and the watched file, shown as dependencies: trouble with either makes the process no less ready.

use std::sync::Arc;

use runtime::Gate;
use tokio::sync::watch;

use crate::status::{SourceState, Status};

/// Runs until the engine is gone.
pub(crate) async fn watch(log: Gate, file: Option<Gate>, mut status: watch::Receiver<Arc<Status>>) {
    loop {
        let seen = Arc::clone(&status.borrow_and_update());
        match &seen.log_fault {
            None => log.open(),
            Some(fault) => log.close(fault.clone()),
        }
        if let Some(file) = &file {
            let source = &seen.source;
            let trouble = match source.state {
                SourceState::Following | SourceState::Disabled | SourceState::Settling | SourceState::None => None,
                state @ (SourceState::Starting
                | SourceState::Missing
                | SourceState::Refused
                | SourceState::RolledBack) => Some(state.as_str().replace('_', " ")),
            };
            match trouble {
                None => file.open(),
                Some(trouble) => file.close(format!("{}: {trouble}", source.name)),
            }
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}
