//! What config-manager stands on, told to whoever asks for its health: it serves without them, but not for ever.

use std::sync::Arc;

use runtime::Gate;
use tokio::sync::watch;

use crate::status::{SourceState, Status};

/// Until the engine is gone.
pub(crate) async fn watch(log: Gate, file: Option<Gate>, mut status: watch::Receiver<Arc<Status>>) {
    loop {
        let seen = Arc::clone(&status.borrow_and_update());
        match &seen.log_fault {
            None => log.open(),
            Some(fault) => log.close(fault.clone()),
        }
        if let Some(file) = &file {
            match seen.source.state {
                SourceState::Following | SourceState::Settling | SourceState::Disabled | SourceState::None => {
                    file.open()
                }
                state @ (SourceState::Starting | SourceState::Missing | SourceState::Refused) => {
                    file.close(format!("{}: {}", seen.source.name, state.as_str().replace('_', " ")));
                }
            }
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}
