//! Calls over stdio, against a real child under a real keeper.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mcp::{Edit, Span};
use model::{Limits, Revision, Transport};
use router::call::{Answer, Cause, Traceparent};
use router::endpoint::{EndpointEvent, EndpointPhase, Lease};
use router::forward;
use tokio::time::Instant;

use crate::bench::{Bench, PATIENCE, bench, call_of, tool_call};

pub fn server(trees: u32) -> Transport {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let args = vec!["serve".to_owned(), trees.to_string()];
    Transport::Stdio { command: program, args, env: BTreeMap::new(), cwd: None }
}

fn small() -> Bench {
    bench(server(0), Limits::default())
}

pub async fn the_listing_has_all_pages() {
    let small = small();
    let offered = small.up().await;
    assert_eq!(offered.items[mcp::Kind::Tool].iter().map(|tool| tool.name()).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(offered.instructions.as_deref(), Some("be kind"));
    let state = small.endpoint.state();
    assert_eq!(state.protocol_version, Some(mcp::ProtocolVersion::V2025_06_18));
    assert_eq!((state.phase, state.restarts), (EndpointPhase::Up, 0));
    let pid = state.pid.unwrap();
    small.endpoint.ping(PATIENCE).await.unwrap();
    small.up().await; // again: the same process, only listed
    assert_eq!(small.endpoint.state().pid, Some(pid));
    small.endpoint.shut_down().await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(small.call(&tool_call("1", "echo")).await.unwrap_err().cause, Cause::Down);
}

pub async fn answers_out_of_order_find_their_callers() {
    let small = Arc::new(small());
    small.up().await;
    let ids = ["1", "\"1\"", "1.5e1".trim_end_matches(".5e1"), "\"a \\\"b\"", "18446744073709551615"];
    let calls: Vec<_> = ids.iter().map(|id| (*id, tool_call(id, "hold"))).collect();
    let all = futures_util::future::join_all(calls.iter().map(|(_, call)| small.whole(call)));
    let released = async {
        // The queue is in order, so the others are with the child before this one.
        small.whole(&tool_call("\"last\"", "release")).await
    };
    let (answers, released) = tokio::join!(all, released);
    assert_eq!(released, r#"{"id":"last","jsonrpc":"2.0","result":{"content":"released"}}"#);
    let mut seen = Vec::new();
    for (id, answer) in ids.iter().zip(answers) {
        let (prefix, content) = answer.split_once(",\"jsonrpc\"").unwrap();
        assert_eq!(prefix, format!("{{\"id\":{id}"));
        seen.push(content.to_owned());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), ids.len(), "each call got an answer of its own");
    small.endpoint.shut_down().await;
}

pub async fn names_tokens_and_traces_are_replaced_and_restored() {
    let small = small();
    small.up().await;
    let text = "{\"jsonrpc\":\"2.0\",\n \"id\" : \"x\", \"method\":\"tools/call\",\r\n\"params\":{\"name\":\"small__progress\",\
                \"_meta\":{\"progressToken\":\"mine\"}}}";
    let mut call = call_of(text);
    let name = text.find("\"small__progress\"").unwrap();
    let item = mcp::Item::parse(mcp::Kind::Tool, r#"{"name":"progress","inputSchema":{}}"#).unwrap();
    call.name = Some((Span { start: name, end: name + 17 }, item.into()));
    let lease = Lease::admit(&small.endpoint, Revision(1)).unwrap();
    let Answer::Events(mut events) = forward(&lease, call.clone(), None, || false).await.unwrap() else {
        panic!("a stream")
    };
    for step in 1..=3 {
        let message = String::from_utf8(events.next().await.unwrap().unwrap().to_vec()).unwrap();
        assert!(message.contains(&format!(r#""params":{{"progress":{step},"progressToken":"mine"}}"#)), "{message}");
    }
    let last = events.next().await.unwrap().unwrap();
    assert_eq!(&last[..], br#"{"id":"x","jsonrpc":"2.0","result":{"content":"done"}}"#);
    assert!(events.next().await.is_none());

    let value = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let echo = tool_call("5", "echo");
    let mut call = call_of(&echo);
    let at = Span::at(echo.find("\"name\"").unwrap());
    let edit = Edit::new(at, format!("\"_meta\":{{\"traceparent\":\"{value}\"}},").into_bytes());
    call.traceparent = Some(Box::new(Traceparent { value: value.into(), state: None, edit: Some(edit) }));
    let Answer::Whole(answer) = forward(&lease, call, None, || false).await.unwrap() else { panic!("one message") };
    assert!(String::from_utf8_lossy(&answer).contains(value));
    assert_eq!(small.endpoint.admission.in_flight(), 1);
    drop(lease);
    assert_eq!(small.endpoint.admission.in_flight(), 0);
    small.endpoint.shut_down().await;
}

pub async fn a_dropped_call_is_cancelled_at_the_server() {
    let small = small();
    small.up().await;
    let lease = Lease::admit(&small.endpoint, Revision(1)).unwrap();
    let mut held = Box::pin(forward(&lease, call_of(&tool_call("1", "hold")), None, || false));
    let echo = tool_call("2", "echo");
    tokio::select! {
        _ = &mut held => panic!("it is held"),
        _ = small.whole(&echo) => {}
    }
    assert_eq!(small.whole(&tool_call("3", "cancelled")).await, r#"{"id":3,"jsonrpc":"2.0","result":{"content":[]}}"#);
    drop(held);
    let cancelled = small.whole(&tool_call("3", "cancelled")).await;
    assert!(!cancelled.contains("[]"), "{cancelled}");
    small.endpoint.shut_down().await;
}

pub async fn what_the_server_asks_is_answered_here() {
    let small = small();
    small.up().await;
    let replies = small.whole(&tool_call("1", "ask")).await;
    assert!(replies.contains(r#""code":-32601"#) && replies.contains(r#""id":"s1""#), "{replies}");
    assert!(replies.contains(r#"{"id":77,"jsonrpc":"2.0","result":{}}"#), "{replies}");
    small.whole(&tool_call("2", "noise")).await;
    assert_eq!(small.endpoint.state().stray, ["this is no JSON"]);
    small.whole(&tool_call("3", "change")).await;
    assert_eq!(small.event().await, EndpointEvent::ListChanged);
    small.endpoint.shut_down().await;
}

pub async fn a_crash_fails_what_was_sent_and_holds_what_comes() {
    let small = small();
    small.up().await;
    let error = small.call(&tool_call("1", "crash")).await.unwrap_err();
    assert_eq!((error.cause, error.sent), (Cause::Lost, true));
    assert_eq!(error.message, "server `small` gave no answer: its process exited with status 3");
    let detail = error.detail.as_ref().unwrap();
    assert_eq!(detail.text, "its stderr ends with: the reactor | is melting");
    let reference = detail.reference.to_string();
    assert_eq!(error.data.as_deref().unwrap(), format!(r#"{{"reference":"{reference}"}}"#));
    let EndpointEvent::Lost { reason } = small.event().await else { panic!("lost") };
    assert_eq!(*reason, *format!("its process exited with status 3{detail}"));
    assert_eq!(small.endpoint.state().last_error.unwrap().to_string(), *reason, "operators read all of it");
    assert_eq!(small.endpoint.state().phase, EndpointPhase::Lost);
    // A call that comes now waits for the process that the fleet starts.
    let echo = tool_call("2", "echo");
    let (answer, _) = tokio::join!(small.whole(&echo), small.up());
    assert!(answer.starts_with(r#"{"id":2,"#));
    assert_eq!(small.endpoint.state().restarts, 1);
    small.endpoint.shut_down().await;
}

pub async fn a_restart_fails_what_was_sent_and_holds_what_comes() {
    let small = small();
    small.up().await;
    let pid = small.endpoint.state().pid.unwrap();
    // A process that hangs: it takes no signal but SIGKILL.
    let lease = Lease::admit(&small.endpoint, Revision(1)).unwrap();
    let mut held = Box::pin(forward(&lease, call_of(&tool_call("1", "hold")), None, || false));
    let echo = tool_call("2", "echo");
    tokio::select! {
        _ = &mut held => panic!("it is held"),
        _ = small.whole(&echo) => {}
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGSTOP).unwrap();
    let begun = Instant::now();
    small.endpoint.restart("a test says so");
    small.endpoint.restart("once is enough");
    let error = held.await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}: not when the process is gone", begun.elapsed());
    assert_eq!((error.cause, error.sent), (Cause::Lost, true), "it may have been executed, and is not repeated");
    assert_eq!(error.message, "server `small` was restarted while the call was running: a test says so");
    let EndpointEvent::Lost { reason } = small.event().await else { panic!("lost") };
    assert!(reason.starts_with("it was restarted: a test says so; its process was ended by signal 9"), "{reason}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let (answer, _) = tokio::join!(small.whole(&echo), small.up());
    assert!(answer.starts_with(r#"{"id":2,"#));
    assert_ne!(small.endpoint.state().pid, Some(pid));
    drop(lease);
    small.endpoint.shut_down().await;
}

pub async fn failures_to_start_say_why_to_operators_alone() {
    let fails = async |transport: Transport, expected: &str, told: &str| {
        let limits = Limits { connect: Duration::from_secs(5), ..Limits::default() };
        let small = bench(transport, limits);
        let error = small.endpoint.bring_up(Instant::now() + Duration::from_secs(5)).await.unwrap_err();
        let reference = error.output.reference.to_string();
        assert_eq!(error.to_string(), format!("{expected} (reference {reference})"));
        let state = small.endpoint.state();
        assert_eq!((state.phase, state.last_error.unwrap().to_string()), (EndpointPhase::Down, error.to_string()));
        let refused = small.call(&tool_call("1", "echo")).await.unwrap_err();
        assert_eq!(refused.message, format!("server `small` is down: {told}"));
        assert_eq!(refused.data.unwrap(), format!(r#"{{"reference":"{reference}","retryAfterMs":500}}"#));
    };
    let stdio = |command: &str, args: &[&str], env: &[(&str, &str)]| Transport::Stdio {
        command: command.into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        cwd: None,
    };
    fails(
        stdio("/no/such/program", &[], &[]),
        "`/no/such/program` could not be started: No such file or directory (os error 2)",
        "its process could not be started",
    )
    .await;
    fails(
        stdio("sh", &["-c", "echo broken >&2; exit 4"], &[]),
        "initialize: server `small` gave no answer: its process exited with status 4; its stderr ends with: broken",
        "initialize: server `small` gave no answer: its process exited with status 4",
    )
    .await;
    fails(
        stdio("sh", &[], &[("KEY", "${env:ONLY1MCP_NOT_SET}")]),
        "env.KEY: `${env:ONLY1MCP_NOT_SET}` is not set in the router's environment",
        "a reference in its configuration cannot be resolved",
    )
    .await;
    let mut lost = stdio("sh", &[], &[]);
    if let Transport::Stdio { cwd, .. } = &mut lost {
        *cwd = Some("/no/such/place".into());
    }
    fails(
        lost,
        "`sh` could not be started: cannot enter the directory that `cwd` names: No such file or directory (os error 2)",
        "its process could not be started",
    )
    .await;
}

pub async fn a_child_sees_only_its_own_environment() {
    // The environment is shown by a shell that then fails to be a server.
    let transport = Transport::Stdio {
        command: "sh".into(),
        args: vec!["-c".into(), "env | cut -d= -f1 | grep -v -e PWD -e SHLVL -e ^_ | sort | tr '\\n' ' ' >&2".into()],
        env: [("KEY".to_owned(), "${env:HOME}".to_owned())].into(),
        cwd: None,
    };
    let small = bench(transport, Limits::default());
    small.endpoint.bring_up(Instant::now() + PATIENCE).await.unwrap_err();
    let names: Vec<_> =
        small.endpoint.state().stderr[0].split_whitespace().map(str::to_owned).filter(|name| *name != "LANG").collect();
    assert_eq!(names, ["HOME", "KEY", "PATH"]);
}

/// Every user of the machine can read the arguments of a process.
pub async fn arguments_stand_in_the_process_list_once() {
    let secret = "hunter2-as-an-argument";
    let mut transport = server(0);
    let Transport::Stdio { args, .. } = &mut transport else { panic!("it is a program") };
    args.push(secret.to_owned());
    let small = bench(transport, Limits::default());
    small.up().await;
    let child = small.endpoint.state().pid.unwrap();
    let own = |pid: u32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    assert!(own(child, "cmdline").contains(secret));
    let stat = own(child, "stat");
    let keeper = stat[stat.rfind(')').unwrap() + 1..].split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    let shown = own(keeper, "cmdline");
    assert!(shown.contains("__keeper") && !shown.contains(secret), "{shown}");
    small.endpoint.shut_down().await;
}

pub async fn a_child_has_no_descriptor_of_somebody_else() {
    // As a program that knows nothing of close-on-exec leaves its descriptors.
    let program = std::env::current_exe().unwrap();
    let foreign = std::fs::File::open(&program).unwrap();
    nix::fcntl::fcntl(&foreign, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let transport = Transport::Stdio {
        command: "sh".into(),
        args: vec!["-c".into(), "readlink /proc/$$/fd/* | tr '\\n' ' ' >&2".into()],
        env: [].into(),
        cwd: None,
    };
    let small = bench(transport, Limits::default());
    small.endpoint.bring_up(Instant::now() + PATIENCE).await.unwrap_err();
    let open = small.endpoint.state().stderr[0].clone();
    assert!(open.contains("pipe:"), "{open}");
    assert!(!open.contains(program.to_str().unwrap()), "{open}");
    drop(foreign);
}
