//! Two processes that call themselves one router.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use wire::pb::config::v1 as pb;

use super::world::{World, servers};

/// A stream of `r1` in the process that began as `boot`, and what keeps it open.
async fn follow(world: &World, boot: &str) -> (mpsc::Sender<pb::FollowRequest>, Streaming<pb::FollowResponse>) {
    let (say, said) = mpsc::channel(4);
    let hello = pb::Hello { node: "r1".into(), boot: boot.into(), ..pb::Hello::default() };
    let report = Some(pb::follow_request::Report::Hello(hello));
    say.send(pb::FollowRequest { envelope: None, report }).await.unwrap();
    let mut stream = world.client().follow(ReceiverStream::new(said)).await.unwrap().into_inner();
    // It is attached once it is offered what is live.
    stream.message().await.unwrap().unwrap();
    (say, stream)
}

async fn ended(mut stream: Streaming<pb::FollowResponse>) -> Status {
    loop {
        if let Err(status) = stream.message().await {
            return status;
        }
    }
}

#[tokio::test]
async fn who_shares_a_name_is_told_so_and_so_is_whoever_looks() {
    let mut world = World::with(&servers(1, "")).await;
    // Without a router nothing would be live to be offered.
    let real = world.router("r0").await;
    real.has(1).await;
    let (_first, one) = follow(&world, "a").await;
    let (_second, two) = follow(&world, "b").await;
    let replaced = ended(one).await;
    assert_eq!(replaced.code(), Code::Aborted);
    assert!(replaced.message().contains("takes the place of one that is still open"), "{replaced}");
    assert!(world.status().routers.iter().all(|router| !router.rival), "it may have been replaced for good");
    let (_third, three) = follow(&world, "a").await;
    let fought = ended(two).await;
    assert_eq!(fought.code(), Code::Aborted);
    assert!(fought.message().contains("another process calls itself router r1, too; give each a --node"), "{fought}");
    let shown = world.until("the conflict is shown", |status| status.routers.iter().any(|router| router.rival)).await;
    let router = pb::GetStatusResponse::from(&*shown).routers.into_iter().find(|router| router.node == "r1").unwrap();
    assert!(router.reason.contains("another process calls itself r1, too"), "{}", router.reason);
    // The same process again is no rival of itself.
    let (_fourth, _four) = follow(&world, "a").await;
    assert!(ended(three).await.message().contains("takes the place"));
    world.until("nothing is shown any more", |status| status.routers.iter().all(|router| !router.rival)).await;
    world.stop().await;
}
