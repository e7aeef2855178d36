//! A disk that refuses every write: readiness, status and metrics say so, callers are refused, and changes go on when
//! it is mended.

use tonic::{Code, Status};
use wire::pb::config::v1 as pb;

use super::world::{World, servers};
use crate::Status as Shown;
use crate::log::file::probe::{self, Plan};

const EAGER: &str = "hot_reload: { watcher: { poll_interval_ms: 100, debounce_ms: 50 } }\n";

/// The writer waits for the disk for ever, also when a test ends early.
struct Disk<'a>(&'a World);

impl Disk<'_> {
    fn fails(&self) {
        probe::plan(&self.0.state, Plan::new(0, u32::MAX));
    }

    fn is_mended(&self) {
        probe::plan(&self.0.state, Plan::new(0, 0));
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        self.is_mended();
    }
}

fn is_away(status: &Shown) -> bool {
    status.log_fault.as_ref().is_some_and(|fault| fault.contains("did not reach the disk"))
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss, "{status:?}");
    let message = status.message();
    assert!(message.contains("is not sound") && message.contains("mend it (`df`, `dmesg`)"), "{message}");
}

#[tokio::test]
async fn while_the_log_cannot_be_written_every_signal_says_so_and_nobody_waits_in_vain() {
    let world = World::with(&servers(1, EAGER)).await;
    let router = world.router("r1").await;
    world.depends_on("log", None).await;
    let disk = Disk(&world);
    disk.fails();
    world.write(&servers(2, EAGER));
    let status = world.until("a failed disk", is_away).await;
    let fault = status.log_fault.clone().unwrap_or_default();
    world.depends_on("log", Some(&fault)).await;
    refused(world.roll_back(1).await);
    refused(world.apply("mine", "", 0).await);
    refused(world.client().reload(pb::ReloadRequest::default()).await);
    assert_eq!((world.status().revision.0, router.live()), (1, 1), "nothing is live that is not on the disk");

    disk.is_mended();
    router.has(2).await;
    world.until("well", |status| status.log_fault.is_none()).await;
    world.depends_on("log", None).await;
    world.write(&servers(3, EAGER));
    router.has(3).await;
    assert_eq!(world.roll_back(2).await.unwrap().revision, 4);
}

#[tokio::test]
async fn one_whose_record_waits_for_the_disk_keeps_no_one_else_waiting() {
    let world = World::with(&servers(1, EAGER)).await;
    let _router = world.router("r1").await;
    let disk = Disk(&world);
    disk.fails();
    // The record of the refusal is what fails, so this caller waits; later requests are answered.
    let asked = world.roll_back(9);
    let later = async {
        world.until("a failed disk", is_away).await;
        refused(world.roll_back(9).await);
        disk.is_mended();
    };
    let (answer, ()) = tokio::join!(asked, later);
    assert_eq!(answer.unwrap_err().code(), Code::NotFound);
    world.until("well", |status| status.log_fault.is_none()).await;
}
