//! What the control side shows: the generation to calls, the status to displays, the copy to the disk.

use std::sync::Arc;

use fleet::{Before, DiskCopy, Fleet};
use model::Time;
use runtime::TraceContext;
use tokio::sync::watch;
use tokio::time::Instant;

use super::endpoints::Endpoints;
use super::status::{self, Status};
use crate::generation::{Generation, Live};

pub(super) type Copies = watch::Receiver<Option<Arc<DiskCopy>>>;

/// The only one that publishes.
pub(super) struct Publisher {
    live: Arc<Live>,
    /// The number of the generation.
    turn: u64,
    /// The generation before the live one, until there is time to let it go.
    retired: Option<Arc<Generation>>,
    swap_began: Option<Instant>,
    /// The trace of the change by which the live revision was swapped in.
    swapped_by: Option<TraceContext>,
    status: watch::Sender<Arc<Status>>,
    /// The status differs from the one that was shown last.
    unseen: bool,
    copies: watch::Sender<Option<Arc<DiskCopy>>>,
}

impl Publisher {
    pub(super) fn new(live: Arc<Live>) -> (Self, watch::Receiver<Arc<Status>>, Copies) {
        let (status, seen) = watch::channel(Arc::default());
        let (copies, to_disk) = watch::channel(None);
        let publisher =
            Self { live, turn: 0, retired: None, swap_began: None, swapped_by: None, status, unseen: true, copies };
        (publisher, seen, to_disk)
    }

    /// The status that was shown last.
    pub(super) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// The status has changed.
    pub(super) fn look_anew(&mut self) {
        self.unseen = true;
    }

    pub(super) fn publish(&mut self, fleet: &Fleet, endpoints: &Endpoints, by_file: bool) {
        let begun = Instant::now();
        fail::fail_point!("router-before-swap");
        let before = self.live.load();
        let made = Before { table: &before.table, catalogs: &before.catalogs };
        let turn = fleet.turn(by_file, Some(made), |serial| endpoints.get(serial).cloned());
        drop(before);
        let Some(turn) = turn else { return };
        self.turn += 1;
        self.retired = Some(self.live.publish(Generation::new(self.turn, turn)));
        metrics::histogram!("only1mcp_router_turn_seconds").record(begun.elapsed());
        self.unseen = true;
    }

    pub(super) fn begin_swap(&mut self) {
        self.swap_began = Some(Instant::now());
    }

    /// Another revision was published, because of `cause`.
    pub(super) fn swapped(&mut self, fleet: &Fleet, cause: Option<TraceContext>) {
        self.swapped_by = cause;
        if let Some(begun) = self.swap_began.take() {
            metrics::histogram!("only1mcp_router_swap_seconds").record(begun.elapsed());
            tracing::info!(revision = fleet.roster().revision().0, "live");
        }
    }

    /// Lets the previous generation go.
    pub(super) fn retire(&mut self) {
        self.retired = None;
    }

    pub(super) fn tidy(&mut self, fleet: &Fleet, endpoints: &Endpoints, now: Time) {
        if std::mem::take(&mut self.unseen) {
            let departures = fleet.departures(now);
            let before = self.status();
            let mut status = status::status((now, fleet), endpoints, &self.live.load(), departures, &before);
            status.trace = self.swapped_by;
            self.status.send_replace(Arc::new(status));
        }
    }

    pub(super) fn copy_to_disk(&self, copy: DiskCopy) {
        self.copies.send_replace(Some(Arc::new(copy)));
    }
}
