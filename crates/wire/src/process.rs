//! The API that every process offers besides its own area. It belongs to no service. Here is only the translation of
//! its calls; the keeper of the log does the work.

use std::time::Duration;

use tonic::{Extensions, Request, Response, Status};

use crate::pb::process::v1 as pb;
use crate::words::{duration, duration_to_pb};
use pb::process_service_server::{ProcessService, ProcessServiceServer};

pub use pb::process_service_server::SERVICE_NAME;

/// The log of the process, by the two functions of its keeper.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// The current filter; and if it is temporary, the filter that follows it, and after how long.
    pub read: fn() -> (String, Option<(String, Duration)>),
    /// Applies a filter, for ever or for that long, on behalf of the actor named in the extensions of a request.
    /// Returns the filter before, or says what is wrong with this one.
    pub change: fn(&Extensions, &str, Option<Duration>) -> Result<String, Status>,
}

impl Log {
    /// To be mounted on the server of the process.
    pub fn service(self) -> ProcessServiceServer<Self> {
        ProcessServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl ProcessService for Log {
    async fn get_log(&self, _: Request<pb::GetLogRequest>) -> Result<Response<pb::GetLogResponse>, Status> {
        let (filter, fallback) = (self.read)();
        let remaining = fallback.as_ref().map(|(_, left)| duration_to_pb(*left));
        let fallback = fallback.map(|(filter, _)| filter).unwrap_or_default();
        Ok(Response::new(pb::GetLogResponse { filter, fallback, remaining }))
    }

    async fn set_log(&self, request: Request<pb::SetLogRequest>) -> Result<Response<pb::SetLogResponse>, Status> {
        let (_, extensions, pb::SetLogRequest { filter, lasting }) = request.into_parts();
        let lasting = lasting.map(|lasting| duration("lasting", Some(lasting))).transpose()?;
        let previous = (self.change)(&extensions, &filter, lasting)?;
        Ok(Response::new(pb::SetLogResponse { previous }))
    }
}
