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
            let source = &seen.source;
            let followed = match source.state {
                // Refused by nobody, and undone by a rollback.
                SourceState::Following | SourceState::Settling | SourceState::Disabled | SourceState::None => {
                    source.refusals.is_empty().then_some(()).ok_or("rolled back")
                }
                state @ (SourceState::Starting | SourceState::Missing | SourceState::Refused) => Err(state.as_str()),
            };
            match followed {
                Ok(()) => file.open(),
                Err(why) => file.close(format!("{}: {}", source.name, why.replace('_', " "))),
            }
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}
