//! Which texts are filters, which are not, and that the one log of a process follows the filter.

use super::*;

fn parsed(text: &str) -> Result<String, FilterError> {
    text.parse::<Filter>().map(|filter| filter.to_string())
}

#[test]
fn a_filter_names_levels_and_programs_of_ours() {
    assert_eq!(parsed("warn").unwrap(), "warn");
    assert_eq!(parsed(" Debug , router = trace,config-manager=off").unwrap(), "debug,config_manager=off,router=trace");
    assert_eq!(parsed("router=debug").unwrap(), "info,router=debug");
    let loud: Filter = "trace".parse().unwrap();
    assert!(loud.targets().would_enable("router::call", &Level::TRACE));
    assert!(!loud.targets().would_enable("h2::frame", &Level::DEBUG), "others print what they carry");
    let quiet: Filter = "error".parse().unwrap();
    assert!(!quiet.targets().would_enable("h2::frame", &Level::INFO));
    let told = Filter::warnings().targets();
    assert!(told.would_enable("router::call", &Level::WARN) && !told.would_enable(BRING_UP, &Level::WARN));
}

#[test]
fn what_is_none_is_refused_with_what_there_is() {
    for (text, wanted) in [
        ("loud", "`loud` is no level; expected one of off, error, warn, info, debug, trace"),
        ("router", "`router` is no level"),
        ("h2=debug", "config_manager, drain_coordinator, health_monitor, only1mcp, router, runtime"),
        ("router=", "`` is no level"),
        ("info,", "it says nothing of a level"),
        ("", "it says nothing of a level"),
        ("info,debug", "everything has two levels"),
        ("router=info,router=debug", "router has two levels"),
        ("info,router[call]=debug", "`router[call]` writes no log"),
    ] {
        let error = parsed(text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
}

#[test]
fn colours_are_for_terminals_whose_user_wants_them() {
    let wanted = |is_terminal, no_color: Option<&str>| colours(is_terminal, no_color.map(OsStr::new));
    assert_eq!(
        [wanted(true, None), wanted(true, Some("")), wanted(true, Some("1")), wanted(false, None)],
        [true, true, false, false]
    );
}

#[tokio::test(start_paused = true)]
async fn the_filter_changes_for_a_while_or_for_ever_and_never_to_nonsense() {
    init().unwrap();
    let mut caller = Extensions::new();
    change(&caller, "debug", None).unwrap_err();
    caller.insert(Actor("uid:0".to_owned()));
    let (first, _) = read();
    assert_eq!(change(&caller, "debug", Some(Duration::from_secs(60))).unwrap(), first);
    assert_eq!(change(&caller, "trace", Some(Duration::from_secs(90))).unwrap(), "debug");
    for (filter, lasting) in [("loud", None), ("info", Some(Duration::ZERO)), ("info", Some(Duration::MAX))] {
        let refused = change(&caller, filter, lasting).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    assert_eq!(read(), ("trace".to_owned(), Some((first.clone(), Duration::from_secs(90)))));
    assert!(tracing::enabled!(Level::TRACE));
    let stopped = tokio::time::timeout(Duration::from_secs(91), fall_back());
    stopped.await.unwrap_err();
    assert_eq!(read(), (first.clone(), None));
    assert!(!tracing::enabled!(Level::TRACE));
    assert_eq!(change(&caller, "error", None).unwrap(), first);
    assert_eq!(read(), ("error".to_owned(), None));
}
