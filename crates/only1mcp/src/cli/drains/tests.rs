//! Waiting for the end of a drain, and what is left when one is ended.

use std::time::Duration;

use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use wire::pb::drain::v1::{Drain, WatchResponse};

use super::{add_held, end, show, show_all, stay};
use crate::cli::render::Reading;
use crate::cli::{Lines, Output};
use crate::failure::Failure;

fn drain(id: &str, state: &str) -> Drain {
    Drain { id: id.into(), server: "files".into(), state: state.into(), ..Drain::default() }
}

/// Those, and then nothing more for ever.
fn changes(changes: Vec<(Drain, u64)>) -> impl Stream<Item = Result<WatchResponse, Status>> + Unpin {
    let change = |(drain, missed)| Ok(WatchResponse { drain: Some(drain), missed });
    tokio_stream::iter(changes.into_iter().map(change)).chain(tokio_stream::pending())
}

async fn waits(told: Vec<(Drain, u64)>, listed: Vec<Drain>) -> Result<Drain, Failure> {
    let end = end(drain("a1", "draining"), changes(told), async || Ok(listed.clone()), "drain-coordinator");
    tokio::time::timeout(Duration::from_secs(20), end).await.expect("the wait has an end")
}

#[tokio::test]
async fn the_end_of_a_drain_is_found_also_when_it_was_missed() {
    let over = drain("a1", "done");
    let listed = || vec![drain("a2", "draining"), drain("a1", "done")];
    assert_eq!(waits(vec![(drain("a2", "done"), 0), (over.clone(), 0)], Vec::new()).await.unwrap(), over);
    assert_eq!(waits(vec![(drain("a2", "draining"), 3)], listed()).await.unwrap(), over);
    // The drain still ran when it was looked up.
    let running = vec![drain("a1", "evicting")];
    assert_eq!(waits(vec![(drain("a2", "draining"), 3), (over.clone(), 0)], running).await.unwrap(), over);
    let forgotten = waits(vec![(drain("a2", "draining"), 3)], Vec::new()).await.unwrap_err();
    assert_eq!(forgotten.to_string(), "drain a1 of files is over, and no longer on record");
}

#[test]
fn a_drain_that_was_ended_does_not_stay_while_its_calls_run_on() {
    let of = |id: &str, state: &str| Drain { cause: "admin".into(), ..drain(id, state) };
    let elsewhere = Drain { server: "crm".into(), ..of("a3", "done") };
    let removal = Drain { cause: "removed".into(), ..drain("r1", "draining") };
    let listed = vec![of("a1", "cancelled"), of("a2", "done"), elsewhere, removal];
    assert_eq!(stay(&[of("a1", "cancelled")], listed), [of("a2", "done")]);
}

#[test]
fn calls_that_were_cut_off_are_counted_and_the_oldest_is_named() {
    let over =
        Drain { evicted: 2, cause: "admin".into(), oldest: r#"`export`, request "7""#.into(), ..drain("a1", "done") };
    let said = "note: drain a1 of files cut off 2 calls; the oldest: `export`, request \"7\"";
    let ended_well = Drain { evicted: 0, ..over.clone() };
    let runs = Drain { state: "evicting".into(), ..over.clone() };
    for (drain, is_said) in [(over, true), (ended_well, false), (runs, false)] {
        let mut status = Output::done(Lines::default(), serde_json::Value::Null);
        add_held(std::slice::from_ref(&drain), &mut status);
        for output in [show(&drain, false, ""), show_all(std::slice::from_ref(&drain), true, &Reading::now()), status] {
            let text = output.text.as_str();
            assert_eq!(text.lines().any(|line| line == said), is_said, "{text}");
        }
    }
}
