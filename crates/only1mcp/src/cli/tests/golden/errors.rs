//! Why a command could not do what was asked, and what to try next.

use std::{io, path::PathBuf};

use runtime::grpc::refusal;
use tonic::Status;

use super::*;
use crate::{
    cli::in_words,
    failure::Failure,
    place::{PlaceError, Running},
};

const SOCKET: &str = "/srv/somebody/.local/state/only1mcp/only1mcp-1a2b3c4d5e6f/admin.sock";

fn socket() -> PathBuf {
    SOCKET.into()
}

fn denied() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "it is served by uid 1001, not by uid 1000 or root")
}

fn running() -> Vec<Running> {
    let one = |name: &str| Running {
        state_dir: format!("/srv/somebody/.local/state/only1mcp/{name}-1a2b3c4d5e6f"),
        config: format!("/srv/somebody/{name}.yaml"),
        pid: 1712,
    };
    vec![one("bank"), one("shop")]
}

pub(super) fn all() -> Vec<Golden> {
    let file = || PathBuf::from("/srv/somebody/only1mcp.yaml");
    let place = || "/srv/somebody/only1mcp.yaml".to_owned();
    let refused = |status| Failure::Refused { status: Box::new(status) };
    let not_found = "there is no drain with the id a9, nor a server of that name that has one";
    let several = PlaceError::Several { running: running() };
    let two = PlaceError::TwoConfigs { first: "only1mcp.yaml".into(), second: "only1mcp.toml".into() };
    let status = Box::new(Status::unavailable("connection refused"));
    let again = refusal::precondition("ROLLED_BACK", "revision 4", "revision 4 is live, by a rollback to 2 already");
    let again = refusal::with_next(&again, "to go further back: `only1mcp rollback 1`");
    let target = || "http://10.0.0.7:9441".to_owned();
    let failures = [
        ("unknown_server", Failure::NoServer { server: "ghost".into() }),
        ("unknown_drain", refused(Status::not_found(not_found))),
        ("stopped_gateway", Failure::NotRunning { place: place(), socket: socket(), others: Vec::new() }),
        ("others_run", Failure::NotRunning { place: place(), socket: socket(), others: running() }),
        ("two_gateways", Failure::Place(several)),
        ("two_files", Failure::Place(two)),
        ("no_access", Failure::NoAccess { socket: socket(), source: denied() }),
        ("unreachable", Failure::Unreachable { target: target(), status }),
        ("no_answer", Failure::Timeout { target: target(), seconds: 30.0 }),
        ("not_up_yet", Failure::NotUpYet { server: "files".into(), seconds: 30.0 }),
        ("service_elsewhere", Failure::Lacks { service: "drain-coordinator", targets: vec![target(), target()] }),
        ("content_not_kept", Failure::NotKept { revision: 3 }),
        ("no_revision_0", Failure::NoRevision),
        ("empty_layer", Failure::EmptyLayer { path: file() }),
        ("changed_meanwhile", Failure::ChangedMeanwhile { path: file() }),
        ("no_place_for_more", Failure::Layout { path: file() }),
        ("wrong_arguments", Failure::Arguments { reason: "they do not begin with `{`".into() }),
        ("rolled_back_already", refused(again)),
        ("no_mcp", Failure::Mcp { url: "http://127.0.0.1:8080/mcp".into(), reason: "connection refused".into() }),
    ];
    let of = |(name, failure): (&str, Failure)| {
        let (complaints, code) = (in_words(&failure), failure.exit_code());
        let output = Output { complaints, code, ..Output::nothing_more() };
        (format!("error_{name}"), output)
    };
    failures.map(of).into()
}
