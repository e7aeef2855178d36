//! Which session ids are accepted, and for how long.

mod gateway;
mod room;
mod schedules;

use mcp::{Kind, ProtocolVersion};
use runtime::state_dir::Maker;

use super::record::{Past, Record};
use super::*;
use gateway::{Fault, Gateway, START};

const DAY: u64 = 86_400_000;
const IDLE: u64 = 100_000;
const BOUNDS: Bounds = Bounds { idle: IDLE, sessions: 1000 };

fn keys(lines: &[&str]) -> Keys {
    Keys::parse(&lines.iter().map(|byte| byte.repeat(32) + "\n").collect::<String>()).unwrap()
}

#[test]
fn an_id_says_what_was_sealed_and_nobody_else_can_make_one() {
    let ours = keys(&["01"]);
    let (id, text) = ours.seal(ProtocolVersion::V2025_06_18, 77, "anonymous", r#"{"name":"x"}"#);
    let expected = Sealed {
        id,
        version: ProtocolVersion::V2025_06_18,
        issued: 77,
        principal: "anonymous".into(),
        client_info: r#"{"name":"x"}"#.into(),
    };
    assert_eq!(ours.open(&text), Some(expected.clone()));
    assert_eq!(keys(&["02", "01"]).open(&text), Some(expected), "after a rotation");
    assert_eq!(keys(&["02"]).open(&text), None);
    for at in 0..text.len() {
        let mut forged = text.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(ours.open(std::str::from_utf8(&forged).unwrap()), None, "byte {at}");
    }
    for text in ["", "x", &"A".repeat(5000), "ä"] {
        assert_eq!(ours.open(text), None);
    }
}

#[test]
fn sessions_of_one_process_share_a_row_and_those_of_two_that_share_a_key_do_not() {
    let (one, other) = (keys(&["01"]), keys(&["01"]));
    let id = |keys: &Keys| keys.seal(ProtocolVersion::LATEST, 77, "a", "{}").0;
    let ids: std::collections::BTreeSet<_> = (0..300).flat_map(|_| [id(&one), id(&other)]).collect();
    let rows: std::collections::BTreeSet<_> = ids.iter().map(ends::row_of).collect();
    assert_eq!((ids.len(), rows.len()), (600, 4));
}

#[test]
fn keys_that_are_none_are_named_by_line() {
    let check = |text: &str, expected: &str| assert_eq!(Keys::parse(text).unwrap_err().to_string(), expected);
    check("", "the session key file holds no key: expected 64 hexadecimal digits a line");
    check(
        &format!("{}\nxyz\n", "0".repeat(64)),
        "line 2 of the session key file is no key: expected 64 hexadecimal digits",
    );
}

#[test]
fn a_key_file_is_made_once_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("session.key");
    let load = |maker| Keys::load_or_create(&path, maker);
    let (_, text) = load(Maker::Us).unwrap().seal(ProtocolVersion::LATEST, 1, "a", "{}");
    assert!(load(Maker::Us).unwrap().open(&text).is_some());
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);

    // A key file that others can read: ours gets its mode corrected, the operator's is refused.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = load(Maker::Operator).unwrap_err();
    assert!(runtime::fault::chain(&refused).contains("run: chmod 600"), "{refused}");
    assert!(load(Maker::Us).unwrap().open(&text).is_some());
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_key_file_that_a_crash_cut_is_made_anew_and_any_other_is_refused_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("session.key");
    for cut in ["", "0123456789abcdef"] {
        std::fs::write(&path, cut).unwrap();
        let refused = Keys::load_or_create(&path, Maker::Operator);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(refused.is_err());
        let refused = Keys::load_or_create(&path, Maker::Operator).unwrap_err().to_string();
        assert!(refused.contains("openssl rand -hex 32"), "{refused}");
        let (_, text) = Keys::load_or_create(&path, Maker::Us).unwrap().seal(ProtocolVersion::LATEST, 1, "a", "{}");
        assert!(Keys::load_or_create(&path, Maker::Us).unwrap().open(&text).is_some());
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("session.key.unreadable-2")).unwrap(), "0123456789abcdef");
    for (other, reason) in [("\n", "holds no key"), ("xyz\n", "line 1"), ("\u{fffd}", "line 1")] {
        std::fs::write(&path, other).unwrap();
        let refused = Keys::load_or_create(&path, Maker::Us).unwrap_err().to_string();
        assert!(refused.contains(reason) && refused.contains("remove it: a new key is made"), "{refused}");
    }
}

#[test]
fn a_session_expires_by_idle_time_alone_and_for_good() {
    let mut gateway = Gateway::new(BOUNDS);
    let session = gateway.begin();
    for _ in 0..5 {
        gateway.pass(IDLE);
        assert!(gateway.uses(&session));
    }
    gateway.pass(IDLE + 1);
    assert!(!gateway.uses(&session));
    gateway.pass(61_000);
    assert!(!gateway.uses(&session), "after a sweep");
    gateway.restart(0);
    assert!(!gateway.uses(&session), "after a restart");
    gateway.bounds.idle = 365 * DAY;
    assert!(!gateway.uses(&session), "with more time");
    gateway.restart(0);
    assert!(!gateway.uses(&session), "with more time, after a restart");
}

#[test]
fn what_was_found_expired_stays_so_with_more_time_and_no_sweep() {
    for known in [true, false] {
        let mut gateway = Gateway::new(BOUNDS);
        let session = gateway.begin();
        if !known {
            gateway.restart(0);
        }
        gateway.elapse(IDLE + 1);
        assert!(!gateway.uses(&session));
        gateway.bounds.idle = 365 * DAY;
        assert!(!gateway.uses(&session));
        if known {
            gateway.restart(0);
            assert!(!gateway.uses(&session));
        }
    }
}

#[test]
fn what_is_in_use_lives_over_restarts_however_old_it_is() {
    let mut gateway = Gateway::new(BOUNDS);
    let session = gateway.begin();
    for _ in 0..40 {
        gateway.pass(IDLE - 1000);
        assert!(gateway.uses(&session));
        gateway.restart(500);
    }
    gateway.restart(IDLE + BOUNDS.grain() + 1);
    assert!(!gateway.uses(&session), "time passes while the gateway is down");
}

#[test]
fn an_ended_session_stays_dead_as_long_as_its_id_could_be_used() {
    let mut gateway = Gateway::new(BOUNDS);
    let session = gateway.begin();
    assert!(gateway.uses(&session));
    assert!(gateway.ends(&session).is_ok());
    assert!(!gateway.uses(&session));
    gateway.bounds.idle = 30 * DAY;
    for _ in 0..40 {
        gateway.pass(DAY - 1);
        assert!(!gateway.uses(&session));
        gateway.restart(1);
        assert!(!gateway.uses(&session));
    }
    gateway.pass(DAY);
    assert_eq!(gateway.sessions.ended(), 0, "its seal holds no longer");
    gateway.bounds.idle = 365 * DAY;
    assert!(!gateway.uses(&session));
}

#[test]
fn an_end_that_failed_did_not_happen_and_the_next_one_writes() {
    for fault in [Fault::Clean, Fault::Half] {
        let mut gateway = Gateway::new(BOUNDS);
        let (session, other) = (gateway.begin(), gateway.begin());
        assert!(gateway.uses(&session) && gateway.uses(&other));
        gateway.fault(Some(fault));
        assert!(gateway.ends(&session).is_err());
        assert!(gateway.ends(&session).is_err());
        gateway.fault(None);
        assert!(gateway.uses(&session), "{fault:?}");
        gateway.restart(0);
        assert!(gateway.uses(&session), "{fault:?}");
        gateway.fault(Some(fault));
        assert!(gateway.ends(&session).is_err());
        gateway.fault(None);
        assert!(gateway.ends(&session).is_ok());
        assert!(gateway.ends(&other).is_ok(), "the line after the broken one");
        gateway.restart(0);
        assert!(!gateway.uses(&session) && !gateway.uses(&other), "{fault:?}\n{}", gateway.text());
    }
}

#[test]
fn a_line_cut_anywhere_swallows_nothing() {
    let id = |byte| SessionId::from_bytes([byte; 12]);
    let mut lines = [String::new(), String::new()];
    Record::Ended { id: id(1), issued: 1_764_000_000_000 }.write(&mut lines[0]);
    Record::Ended { id: id(2), issued: 1_764_000_000_001 }.write(&mut lines[1]);
    let whole = Past::read(lines.concat().as_bytes());
    assert_eq!((whole.ended.len(), whole.broken), (2, 0));
    // A line without its line end is still that line: the checksum says so.
    for cut in 0..lines[0].len() - 1 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions");
        std::fs::write(&path, &lines[0][..cut]).unwrap();
        let (mut file, past) = journal::open(path.clone()).unwrap();
        assert_eq!((past.ended.len(), past.records), (0, 0), "cut at {cut}");
        journal::Journal::append(&mut file, &lines[1], true).unwrap();
        let (_, past) = journal::open(path).unwrap();
        assert_eq!(past.ended.keys().collect::<Vec<_>>(), [&ends::row_of(&id(2))], "cut at {cut}");
    }
    let wrong = lines[0].replace("1764", "1763") + &lines[1];
    assert_eq!(Past::read(wrong.as_bytes()).ended.len(), 1);
}

#[test]
fn a_journal_that_cannot_be_read_stops_the_start_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions");
    std::fs::create_dir(&path).unwrap();
    assert!(Sessions::open(path.clone(), runtime::Clock::start()).is_err());
    assert!(path.is_dir());
}

#[test]
fn a_clock_that_jumps_moves_no_session() {
    let (forward, back) = (30 * i64::try_from(DAY).unwrap(), -30 * i64::try_from(DAY).unwrap());
    for jump in [forward, back] {
        let mut gateway = Gateway::new(BOUNDS);
        let (used, unused, dead, ended) = (gateway.begin(), gateway.begin(), gateway.begin(), gateway.begin());
        assert!(gateway.ends(&ended).is_ok());
        gateway.pass(IDLE - 20_000);
        assert!(gateway.uses(&used));
        gateway.pass(15_000);
        gateway.set_clock(jump);
        assert!(gateway.uses(&used) && !gateway.uses(&ended));
        gateway.restart(100);
        assert!(gateway.uses(&used) && gateway.uses(&unused) && !gateway.uses(&ended), "{jump}");
        gateway.pass(IDLE + BOUNDS.grain() + 1);
        assert!(!gateway.uses(&dead) && !gateway.uses(&unused), "{jump}");
        let (fresh, untouched) = (gateway.begin(), gateway.begin());
        let another = gateway.begin();
        assert!(gateway.ends(&another).is_ok());
        gateway.set_clock(-jump);
        gateway.restart(100);
        assert!(gateway.uses(&fresh) && !gateway.uses(&dead) && !gateway.uses(&ended), "{jump}");
        let after = gateway.begin();
        gateway.pass(IDLE - 1000);
        assert!(gateway.uses(&fresh) && gateway.uses(&after), "{jump}");
        gateway.pass(2000 + BOUNDS.grain());
        assert!(!gateway.uses(&untouched), "{jump}");
        gateway.restart(100);
        gateway.pass(IDLE + BOUNDS.grain() + 1);
        assert!(!gateway.uses(&fresh) && !gateway.uses(&after), "{jump}");
    }
}

#[test]
fn a_request_beside_the_sweep_revives_nothing() {
    for round in 0..200 {
        let mut gateway = Gateway::new(BOUNDS);
        let session = Sealed { id: SessionId::from_bytes([7; 12]), issued: START + 5000, ..gateway.begin() };
        assert!(gateway.uses(&session));
        gateway.elapse(IDLE + 1);
        assert!(!gateway.sweep_beside(&session), "round {round}");
    }
}

#[test]
fn what_is_known_by_mistake_leaves_with_the_second_end() {
    let mut gateway = Gateway::new(BOUNDS);
    let session = gateway.begin();
    let known = gateway.touch(&session).unwrap();
    assert!(gateway.ends(&session).is_ok());
    gateway.sessions.tables.known.insert(session.id, known);
    assert!(gateway.ends(&session).is_ok());
    assert!(!gateway.uses(&session));
}

#[test]
fn what_another_router_issued_by_a_clock_ahead_of_ours_expires_once() {
    let mut gateway = Gateway::new(BOUNDS);
    let session = Sealed { id: SessionId::from_bytes([7; 12]), issued: START + 5000, ..gateway.begin() };
    assert!(gateway.uses(&session));
    gateway.pass(IDLE + 1);
    assert!(!gateway.uses(&session));
    gateway.pass(1000);
    assert!(!gateway.uses(&session));
}

#[test]
fn a_session_keeps_its_newest_streams() {
    let known = Known::default();
    (1..=4).for_each(|stream| known.takes(stream));
    assert!(!known.is_further(1) && known.is_further(2) && (1..=4).all(|stream| known.has_stream(stream)));
    known.takes(5);
    assert!(!known.has_stream(1) && (2..=5).all(|stream| known.has_stream(stream)) && !known.is_further(2));
    assert!(known.claims(5));
    known.gives_up(1, 10);
    known.gives_up(3, 10);
    known.takes(6);
    assert!([2, 4, 5, 6].into_iter().all(|stream| known.has_stream(stream)), "one has left");
}

#[test]
fn one_stream_is_told_once() {
    let known = Known::default();
    assert!(!known.to_be_told(Kind::Tool, 5), "a client that never listed has nothing to list again");
    known.saw_list(Kind::Tool, 4);
    assert!(known.to_be_told(Kind::Tool, 5));
    assert!(!known.to_be_told(Kind::Tool, 5));
    known.takes(1);
    assert!(known.claims(1) && !known.claims(2));
    known.takes(2);
    assert!(known.claims(2) && !known.claims(1), "the newest is told");
    assert!(
        known.to_be_told(Kind::Tool, 5) && !known.to_be_told(Kind::Tool, 5),
        "nobody knows whether the first was heard"
    );
    known.saw_list(Kind::Tool, 5);
    known.gives_up(1, 10);
    assert!(known.claims(2));
    known.gives_up(2, 10);
    assert!(known.claims(3), "what is open takes over");
    assert!(!known.to_be_told(Kind::Tool, 5) && known.to_be_told(Kind::Tool, 6));
}

#[test]
fn a_list_from_before_anything_was_live_is_a_list() {
    let known = Known::default();
    known.saw_list(Kind::Tool, 0);
    assert!(!known.to_be_told(Kind::Tool, 0));
    assert!(known.to_be_told(Kind::Tool, 1));
}

#[test]
fn a_session_from_before_a_restart_is_told_that_its_list_may_be_old() {
    let mut gateway = Gateway::new(BOUNDS);
    let session = gateway.begin();
    gateway.restart(0);
    let known = gateway.touch(&session).unwrap();
    assert!(known.to_be_told(Kind::Tool, 1));
    assert!(!known.to_be_told(Kind::Tool, 1));
}

#[test]
fn a_session_with_an_open_stream_is_in_use() {
    let mut gateway = Gateway::new(BOUNDS);
    let session = gateway.begin();
    let known = gateway.touch(&session).unwrap();
    known.takes(1);
    for _ in 0..20 {
        gateway.pass(30_000);
    }
    gateway.restart(0);
    assert!(gateway.uses(&session), "over a kill, too");
    let known = gateway.touch(&session).unwrap();
    known.takes(2);
    for _ in 0..20 {
        gateway.pass(30_000);
    }
    known.gives_up(2, gateway.now());
    gateway.elapse(IDLE);
    assert!(gateway.uses(&session));
    gateway.elapse(IDLE + 1);
    assert!(!gateway.uses(&session));
}

#[tokio::test]
async fn the_thread_writes_before_it_promises() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions");
    let clock = runtime::Clock::start();
    let (sessions, thread) = Sessions::open(path.clone(), clock).unwrap();
    let now = sessions.now();
    let ours = keys(&["01"]);
    let sealed = |text: String| ours.open(&text).unwrap();
    let one = sealed(ours.seal(ProtocolVersion::LATEST, sessions.stamp(now), "a", "{}").1);
    sessions.begin(one.id, now, BOUNDS);
    assert!(sessions.touch(&one, now + 20, || BOUNDS).is_some());
    sessions.end(&one, now + 20, BOUNDS).await.unwrap();
    let (again, other) = Sessions::open(path, clock).unwrap();
    assert!(again.touch(&one, now + 20, || BOUNDS).is_none());
    let stopped = tokio::task::spawn_blocking(move || thread.stop() && other.stop());
    assert!(stopped.await.unwrap());
    assert!(sessions.end(&one, now + 20, BOUNDS).await.is_err(), "it is closed");
}

#[tokio::test]
async fn what_another_process_ends_last_is_ended_here_once_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions");
    let clock = runtime::Clock::start();
    let ours = keys(&["01"]);
    let (predecessor, thread) = Sessions::open(path.clone(), clock).unwrap();
    let now = predecessor.now();
    let begin = |sessions: &Sessions| {
        let sealed = ours.open(&ours.seal(ProtocolVersion::LATEST, sessions.stamp(now), "a", "{}").1).unwrap();
        sessions.begin(sealed.id, now, BOUNDS);
        sealed
    };
    let (ended, other) = (begin(&predecessor), begin(&predecessor));
    predecessor.share().await;
    let (successor, its_thread) = Sessions::open(path.clone(), clock).unwrap();
    successor.share().await;
    let own = begin(&successor);
    predecessor.end(&ended, now + 20, BOUNDS).await.unwrap();
    let lives = |sessions: &Sessions, sealed| sessions.touch(sealed, now + 20, || BOUNDS).is_some();
    assert!(lives(&successor, &ended), "it has not looked yet");
    // A word that is answered comes after all earlier ones.
    successor.unshare().await;
    successor.share().await;
    assert!(!lives(&successor, &ended) && lives(&successor, &other) && lives(&successor, &own));
    let stopped = tokio::task::spawn_blocking(move || thread.stop() && its_thread.stop());
    assert!(stopped.await.unwrap());
    let (again, _) = Sessions::open(path, clock).unwrap();
    assert!(!lives(&again, &ended) && lives(&again, &other) && lives(&again, &own));
}
