//! Before an attempt starts anything: whether the references of its new endpoints can be resolved here.

use std::time::Duration;

use model::{BackendId, Transport};

use crate::secrets::Secrets;

/// The references that cannot be resolved, and why.
pub(super) async fn missing(transports: Vec<(BackendId, Transport)>, limit: Duration) -> Option<String> {
    let texts: Vec<_> =
        transports.iter().flat_map(|(_, transport)| transport.templates()).map(|(_, text)| text).collect();
    let secrets = Secrets::of_texts(texts.into_iter(), limit).await;
    let errors = transports.iter().flat_map(|(backend, transport)| {
        let errors = transport.templates().into_iter().filter_map(|(place, text)| {
            secrets.resolve(&place, text).err().map(|error| format!("server `{backend}`: {error}"))
        });
        errors.collect::<Vec<_>>()
    });
    let all: Vec<_> = errors.collect();
    (!all.is_empty()).then(|| all.join("; "))
}
