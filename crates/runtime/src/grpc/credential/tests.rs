//! Every kind of connection against every kind of credential.

use std::net::SocketAddr;

use super::*;

#[test]
fn the_connection_decides_what_proves_the_caller() {
    let base = tempfile::tempdir().unwrap();
    let token = AdminToken::load_or_create(&base.path().join("token")).unwrap();
    let secret = token.reveal().to_owned();
    let (with, without) = (Auth { token: Some(token), own_uid: 1000 }, Auth { token: None, own_uid: 1000 });
    let tcp = Some(Peer::Tcp(SocketAddr::from(([127, 0, 0, 1], 9))));
    let unix = |uid| Some(Peer::Unix { uid });
    let (good, lower, wrong, basic) = (
        format!("Bearer {secret}"),
        format!("bearer  {secret} "),
        format!("Bearer x{secret}"),
        format!("Basic {secret}"),
    );
    let cases = [
        (&with, tcp, Some(&good), Ok("token")),
        (&with, tcp, Some(&lower), Ok("token")),
        (&with, tcp, Some(&wrong), Err("--token-file")),
        (&with, tcp, Some(&basic), Err("of the form")),
        (&with, tcp, Some(&secret), Err("of the form")),
        (&with, tcp, None, Err("--token-file")),
        (&without, tcp, Some(&good), Err("Unix socket")),
        (&without, tcp, None, Err("Unix socket")),
        (&without, unix(Some(1000)), None, Ok("uid:1000")),
        (&without, unix(Some(0)), None, Ok("uid:0")),
        (&with, unix(Some(1001)), Some(&good), Err("uid 1001")),
        (&with, unix(None), Some(&good), Err("over TCP")),
        (&without, Some(Peer::Internal), None, Ok("internal")),
        (&with, None, Some(&good), Err("no known kind")),
    ];
    for (auth, peer, authorization, expected) in cases {
        let actor = auth.identify(peer, authorization.map(String::as_bytes));
        match (&actor, expected) {
            (Ok(Actor(actor)), Ok(expected)) => assert_eq!(actor, expected),
            (Err(reason), Err(expected)) => {
                assert!(reason.contains(expected) && !reason.contains(&secret), "{reason}");
            }
            (actor, expected) => panic!("{peer:?} {authorization:?}: {actor:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn a_path_is_shown_as_far_as_it_says_which() {
    assert_eq!(shown("/a/b"), "/a/b");
    assert_eq!(shown(&"/x".repeat(5000)).len(), PATH_SHOWN);
}
