//! The answers to requests that are too large, too long or malformed; and the answers of `grpc.health.v1`.

use prost::Message;
use tonic_types::StatusExt;

use super::{
    raw::{Raw, all, frame, one},
    *,
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[tokio::test]
async fn nonsense_is_answered_with_the_code_for_it() {
    let (pipe, connector) = duplex();
    let tasks = start(&Auth::new(None), vec![pipe.into()]);
    let raw = Raw::connect(&connector).await;
    let empty = || one(&[]);
    for (path, timeout, body, code, why) in [
        (CHECK, None, one(&[0x0a, 0xff]), Code::Internal, ""),
        ("/test.WhoAmI/Never", Some("30m"), empty(), Code::DeadlineExceeded, "DEADLINE"),
        (WATCH, Some("30m"), empty(), Code::DeadlineExceeded, "DEADLINE"),
        (CALL, Some("soon"), empty(), Code::InvalidArgument, "INVALID_FIELD"),
        (CALL, Some("123456789S"), empty(), Code::InvalidArgument, "INVALID_FIELD"),
        (CALL, Some("99999999H"), empty(), Code::Ok, ""),
        ("/grpc.health.v1.Health/Chek", None, empty(), Code::Unimplemented, ""),
        ("/grpc.health.v2.Health/Check", None, empty(), Code::Unimplemented, ""),
        (CHECK, None, all(vec![frame(&[0; 16], 5 << 20)]), Code::ResourceExhausted, "MESSAGE_BYTES"),
    ] {
        let status = raw.status(path, timeout, body).await;
        assert_eq!((status.code(), reason(&status).as_str()), (code, why), "{path} {timeout:?}: {status}");
    }
    // The connection is still good, and so is the server.
    assert_eq!(raw.status(CHECK, None, empty()).await.code(), Code::Ok);
    assert!(tasks.join(GRACE).await.is_clean());
}

#[tokio::test]
async fn questions_to_reflection_are_bounded_together() {
    let (pipe, connector) = duplex();
    let tasks = start(&Auth::new(None), vec![pipe.into()]);
    let raw = Raw::connect(&connector).await;
    // Each asks for the list of services, of a host with a long name.
    let question = [&[0x0a, 0x80, 0x80, 0x04][..], &[b'x'; 0x1_0000], &[0x3a, 0x00]].concat();
    let some = |count| all(vec![frame(&question, question.len()); count]);
    assert_eq!(raw.status(REFLECTION, None, some(3)).await.code(), Code::Ok);
    let status = raw.status(REFLECTION, None, some(20)).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "REFLECTION_BYTES"));
    let status = raw.status(&REFLECTION.replace("v1", "v1alpha"), None, all(vec![frame(&[0; 16], 5 << 20)])).await;
    assert_ne!(status.code(), Code::Unimplemented, "{status}");
    assert!(tasks.join(GRACE).await.is_clean());
}

#[tokio::test]
async fn one_stream_too_many_waits_for_another_to_end() {
    let (pipe, connector) = duplex();
    let tasks = start(&Auth::new(None), vec![pipe.into()]);
    let raw = Raw::connect(&connector).await;
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(raw.send(WATCH, None, one(&[])).await);
    }
    let mut more = Box::pin(raw.send(WATCH, None, one(&[])));
    tokio::time::timeout(Duration::from_millis(100), &mut more).await.unwrap_err();
    // Other connections are not affected.
    assert_eq!(Raw::connect(&connector).await.status(CHECK, None, one(&[])).await.code(), Code::Ok);
    drop(open.pop());
    tokio::time::timeout(GRACE, more).await.unwrap();
    assert!(tasks.join(GRACE).await.is_clean());
}

#[tokio::test]
async fn health_tells_the_process_its_services_and_what_they_depend_on() {
    let (pipe, connector) = duplex();
    let shutdown = Shutdown::new();
    let readiness = Readiness::new(shutdown.clone());
    let (gate, peer) = (readiness.gate("record of drains"), readiness.dependency("config-manager"));
    let tasks = start_with(&Auth::new(None), vec![pipe.into()], readiness.clone(), shutdown);
    let client = HealthClient::new(connect_lazy(&Target::Duplex(connector)).unwrap());
    let check = async |name: &str| {
        let request = HealthCheckRequest { service: name.to_owned() };
        client.clone().check(request).await.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
    };
    let gate_name = "only1mcp.dependency/record-of-drains";
    let mut watch =
        client.clone().watch(HealthCheckRequest { service: gate_name.to_owned() }).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(check("test.WhoAmI").await, Ok(ServingStatus::NotServing));
    gate.open();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut moves = client.clone().watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    while moves.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    for (name, expected) in [
        ("", Ok(ServingStatus::Serving)),
        ("test.WhoAmI", Ok(ServingStatus::Serving)),
        (gate_name, Ok(ServingStatus::Serving)),
        ("only1mcp.dependency/config-manager", Ok(ServingStatus::NotServing)),
        ("test.WhoElse", Err(Code::NotFound)),
    ] {
        assert_eq!(check(name).await, expected, "{name}");
    }
    // One that was added while the server runs.
    let late = readiness.dependency("late");
    let request = HealthCheckRequest { service: "only1mcp.dependency/config-manager".to_owned() };
    let mut watch = client.clone().watch(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    peer.open();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(check("only1mcp.dependency/late").await, Ok(ServingStatus::NotServing));
    late.open();
    drop((watch, moves));
    assert!(tasks.join(GRACE).await.is_clean());
}

/// The details are what other programs' libraries read.
#[test]
fn a_refusal_says_what_and_why_to_programs() {
    let status = refusal::invalid("without[2]", "no router `x` is attached");
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "without[2]");
    assert_eq!(details.error_info().unwrap().domain, refusal::DOMAIN);
    let status = refusal::exhausted("CHANGES", "changes", "too many");
    assert!(status.get_error_details().retry_info().unwrap().retry_delay.is_some());
    let bytes = status.details();
    assert!(!bytes.is_empty() && tonic_types::pb::Status::decode(bytes).unwrap().code == 8);
}
