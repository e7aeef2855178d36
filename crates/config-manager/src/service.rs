//! The gRPC service: routers follow it, operators ask it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{Mask, Time};
use rollout::reconciler::Link;
use runtime::{Clock, Tasks};
use tokio::sync::{broadcast, mpsc, watch};
use tonic::{Request, Response, Status as GrpcStatus, Streaming};
use wire::pb::config::v1 as pb;
use wire::pb::config::v1::config_service_server::ConfigService;

use crate::admin::Events;
use crate::command::Command;
use crate::follow::{self, Directives};
use crate::log::Log;
use crate::status::{Happened, Status};
use crate::work_pool::WorkPool;

/// Any number of calls at once; all state is the engine's.
#[derive(Debug)]
pub struct Service {
    pub(crate) engine: mpsc::Sender<Command>,
    pub(crate) log: Arc<Log>,
    pub(crate) status: watch::Receiver<Arc<Status>>,
    pub(crate) events: broadcast::Sender<Happened>,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    /// Parses documents that are only to be validated.
    pub(crate) documents: WorkPool,
    /// Reads the log.
    pub(crate) reads: WorkPool,
    /// What is shown of configurations goes through it.
    pub(crate) mask: Mask,
    /// Numbers the streams of routers, never the same twice.
    pub(crate) links: AtomicU64,
}

#[tonic::async_trait]
impl ConfigService for Service {
    type FollowStream = Directives;
    type WatchStream = Events;

    async fn follow(&self, request: Request<Streaming<pb::FollowRequest>>) -> Result<Response<Directives>, GrpcStatus> {
        let link = Link(self.links.fetch_add(1, Ordering::Relaxed));
        let stop = self.tasks.shutdown().token();
        let (directives, reader) =
            follow::open(link, request.into_inner(), self.log.clone(), self.engine.clone(), stop);
        self.tasks.spawn("router stream", reader);
        Ok(Response::new(directives))
    }

    async fn reload(&self, request: Request<pb::ReloadRequest>) -> Result<Response<pb::ReloadResponse>, GrpcStatus> {
        self.do_reload(request).await.map(Response::new)
    }

    async fn validate(
        &self,
        request: Request<pb::ValidateRequest>,
    ) -> Result<Response<pb::ValidateResponse>, GrpcStatus> {
        self.do_validate(request).await.map(Response::new)
    }

    async fn apply(&self, request: Request<pb::ApplyRequest>) -> Result<Response<pb::ApplyResponse>, GrpcStatus> {
        self.do_apply(request).await.map(Response::new)
    }

    async fn rollback(
        &self,
        request: Request<pb::RollbackRequest>,
    ) -> Result<Response<pb::RollbackResponse>, GrpcStatus> {
        self.do_rollback(request).await.map(Response::new)
    }

    async fn list_revisions(
        &self,
        request: Request<pb::ListRevisionsRequest>,
    ) -> Result<Response<pb::ListRevisionsResponse>, GrpcStatus> {
        self.do_list(request.into_inner()).await.map(Response::new)
    }

    async fn get_revision(
        &self,
        request: Request<pb::GetRevisionRequest>,
    ) -> Result<Response<pb::GetRevisionResponse>, GrpcStatus> {
        self.do_get(request.into_inner()).await.map(Response::new)
    }

    async fn get_status(
        &self,
        _: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, GrpcStatus> {
        let status = self.status.borrow().clone();
        let mut answer: pb::GetStatusResponse = (&*status).into();
        let left = status.source.next_try.map(|at| at.since(Time::from_nanos(self.clock.now_nanos())));
        answer.source.iter_mut().for_each(|source| source.next_try = left.map(wire::duration_to_pb));
        Ok(Response::new(answer))
    }

    async fn watch(&self, _: Request<pb::WatchRequest>) -> Result<Response<Events>, GrpcStatus> {
        Ok(Response::new(self.do_watch()))
    }
}
