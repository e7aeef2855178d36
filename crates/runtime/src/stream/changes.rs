//! Changes as a stream for a watcher. A slow watcher delays no other task.

use futures_util::{Stream, stream};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Every change from now on, each with the number of changes before it that this watcher was too slow for. `missed` is
/// called with that number as soon as it is known. Ends with the sender.
pub fn changes<T: Clone>(changes: Receiver<T>, missed: fn(u64)) -> impl Stream<Item = (T, u64)> {
    stream::unfold((changes, 0), move |(mut changes, mut behind)| async move {
        loop {
            match changes.recv().await {
                Ok(change) => return Some(((change, behind), (changes, 0))),
                Err(RecvError::Lagged(number)) => {
                    missed(number);
                    behind += number;
                }
                Err(RecvError::Closed) => return None,
            }
        }
    })
}
