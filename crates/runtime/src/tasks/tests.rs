//! No task ends unnoticed.

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("cannot open the log")]
struct Outer(#[source] std::io::Error);

#[tokio::test]
async fn a_panic_triggers_the_shutdown_and_is_reported() {
    let tasks = Tasks::new(Shutdown::new());
    let token = tasks.shutdown().token();
    tasks.spawn("patient", async move { token.cancelled().await });
    tasks.spawn("careless", async { panic!("seven of {}", 9) });
    tasks.shutdown().triggered().await;
    let joined = tasks.join(Duration::from_secs(5)).await;
    let failure = Failure { task: "careless", cause: Cause::Panicked("seven of 9".into()) };
    assert_eq!(joined, Joined { failures: vec![failure], aborted: vec![] });
    assert_eq!(tasks.shutdown().phase(), Phase::Stopped);
}

#[tokio::test]
async fn a_component_that_fails_is_reported_with_its_sources() {
    let tasks = Tasks::new(Shutdown::new());
    tasks.spawn_component("log", async { Err(Outer(std::io::Error::other("disk on fire"))) });
    tasks.shutdown().triggered().await;
    let joined = tasks.join(Duration::from_secs(5)).await;
    assert_eq!(joined.failures[0].to_string(), "task log failed: cannot open the log: disk on fire");
}

#[tokio::test(start_paused = true)]
async fn join_names_what_it_had_to_abort() {
    let tasks = Tasks::new(Shutdown::new());
    tasks.spawn("deaf", std::future::pending());
    tasks.spawn("quick", async {});
    let local = LocalSet::new();
    let own = tasks.clone();
    local.run_until(async move { own.spawn_local("local", async {}) }).await;
    local.await;
    let joined = tasks.join(Duration::from_secs(5)).await;
    assert_eq!(joined, Joined { failures: vec![], aborted: vec!["deaf"] });
    assert!(tasks.running().is_empty());
}
