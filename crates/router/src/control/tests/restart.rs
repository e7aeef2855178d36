//! What a router that starts again has of what it served before.

use super::*;

#[test]
fn a_start_with_nobody_to_ask_serves_what_was_last_live() {
    run(|directory| async move {
        let a = Server::start(&["one"]).await;
        let live = content(quick(), &[at("a", &a.url), at("gone", "http://127.0.0.1:1/")]);
        let mut case = Case::start(&directory).await;
        case.swap(7, &live, None).await;
        case.up(1).await;
        let read = || disk::load(&directory).unwrap().filter(|copy| !copy.known.is_empty());
        while read().is_none() {
            tokio::task::yield_now().await;
        }
        case.stop().await;

        let case = Case::start(&directory).await;
        assert_eq!(case.started.live.load().revision, Revision(7));
        assert_eq!(case.tools(), "one", "known before the server is up");
        let admitted = case
            .started
            .live
            .admit_within(Kind::Tool, "one", 1, &Homes::default(), |_| true, Duration::ZERO)
            .await
            .unwrap();
        assert_eq!(admitted.lease.revision, Revision(7));
        let entries = vec![drain::OverlayEntry {
            drain: drain::DrainId::Admin { number: 1, started: model::WallTime(1) },
            backend: admitted.backend.clone(),
            endpoint: None,
            weight: model::Weight::NONE,
            remaining: Duration::from_secs(60),
            disabled: false,
            rate: 0,
        }];
        case.overlay(entries).await;
        while disk::load(&directory).unwrap().is_none_or(|copy| copy.overlay.is_empty()) {
            tokio::task::yield_now().await;
        }
        drop(admitted);
        case.stop().await;

        let mut case = Case::start(&directory).await;
        case.up(1).await;
        let refused = case.started.live.admit(Kind::Tool, "one", 1, &Homes::default(), |_| true).unwrap_err();
        assert!(matches!(refused, Unroutable::Cordoned { revision: Revision(7), .. }), "{refused:?}");
        case.overlay(Vec::new()).await;
        while case.started.live.admit(Kind::Tool, "one", 1, &Homes::default(), |_| true).is_err() {
            tokio::task::yield_now().await;
        }
        case.stop().await;
    });
}

#[test]
fn a_stop_writes_what_the_disk_had_refused() {
    run(|directory| async move {
        let place = directory.join("state");
        let mut case = Case::start(&place).await;
        let live = content(quick(), &[]);
        case.swap(7, &live, None).await;
        // Taken, and handed to the writer in the same turn.
        while case.started.commands.capacity() < case.started.commands.max_capacity() {
            tokio::task::yield_now().await;
        }
        std::fs::create_dir(&place).unwrap();
        case.stop().await;
        assert_eq!(disk::load(&place).unwrap().map(|copy| copy.saved.revision), Some(Revision(7)));
    });
}
