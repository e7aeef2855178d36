//! The table of what a call gets, and whose turn it is.

use model::{BackendId, EndpointKey, EndpointSpec, Isolation, Transport, VariantId};
use runtime::{Clock, Shutdown, Tasks};
use tokio::runtime::Handle;

use super::*;
use crate::endpoint::{EndpointState, Signals, Upstreams};

const SECOND: Duration = Duration::from_secs(1);

fn limits(hold: Option<Duration>) -> Limits {
    Limits { connect: 10 * SECOND, hold, ..Limits::default() }
}

#[test]
fn one_table_says_what_a_call_gets_of_a_server_that_is_not_there() {
    let away = Absence::Away { next: Some(30 * SECOND) };
    let unknown = Absence::Away { next: None };
    let refusing = |lasts| Absence::Refusing { lasts: lasts * SECOND };
    // What it is, how long the call has waited, how long it still waits with `keep` and with `hold`, and the hint of the error.
    let table = [
        (Absence::Coming, 0, Some(10), Some(20), Some(AGAIN)),
        (Absence::Coming, 4, Some(6), Some(16), Some(AGAIN)),
        (Absence::Coming, 20, None, None, Some(AGAIN)),
        (away, 0, None, Some(20), Some(30 * SECOND)),
        (away, 19, None, Some(1), Some(30 * SECOND)),
        (away, 20, None, None, Some(30 * SECOND)),
        (unknown, 0, None, Some(20), Some(AGAIN)),
        (refusing(0), 0, Some(3), Some(20), Some(PINGED)),
        (refusing(2), 0, Some(1), Some(20), Some(PINGED)),
        (refusing(3), 0, None, Some(20), Some(PINGED)),
        (refusing(60), 20, None, None, Some(PINGED)),
        (refusing(1), 60, Some(2), Some(2), Some(PINGED)),
        (Absence::Over, 0, None, None, None),
    ];
    for (absence, waited, keep, hold, hint) in table {
        let left = |held| absence.patience(&limits(held), waited * SECOND);
        let in_seconds = |seconds: Option<u32>| seconds.map(|seconds| seconds * SECOND);
        assert_eq!((left(None), left(Some(20 * SECOND))), (in_seconds(keep), in_seconds(hold)), "{absence:?} {waited}");
        assert_eq!(absence.hint(), hint, "{absence:?}");
    }
    let short = limits(Some(SECOND));
    assert_eq!(Absence::Coming.patience(&short, SECOND), Some(9 * SECOND), "a held call waits as long as any other");
}

#[tokio::test(start_paused = true)]
async fn it_does_not_matter_whether_a_server_was_up_before() {
    let transport = Transport::Http { url: "http://127.0.0.1:1/mcp".into(), headers: Default::default() };
    let spec = EndpointSpec { transport, isolation: Isolation::Shared };
    let key = EndpointKey { backend: BackendId::new("s").unwrap(), variant: VariantId::only(), digest: spec.digest() };
    let tasks = Tasks::new(Shutdown::new());
    let upstreams = Upstreams::new(tasks, Handle::current(), Clock::start(), Signals::new());
    let endpoint = Endpoint::new(key, spec, Arc::new(limits(None)), &upstreams);
    let set = |phase, next: Option<u32>| {
        endpoint.state.send_modify(|state| *state = EndpointState { phase, ..EndpointState::default() });
        endpoint.set_next_attempt(next.map(|next| next * SECOND));
        let absence = endpoint.absence();
        // A moment passes meanwhile.
        let is_seven = |left: Duration| left + SECOND / 2 > 7 * SECOND;
        let about = matches!(absence, Absence::Away { next: Some(left) } if is_seven(left));
        if about { Absence::Away { next: Some(7 * SECOND) } } else { absence }
    };
    for phase in [EndpointPhase::Down, EndpointPhase::Lost] {
        assert_eq!(set(phase, Some(7)), Absence::Away { next: Some(7 * SECOND) }, "{phase:?}");
        let data = endpoint.down_error().data.unwrap();
        let hint = data.strip_prefix(r#"{"retryAfterMs":"#).and_then(|rest| rest.strip_suffix('}'));
        assert!((6_500..=7_000).contains(&hint.unwrap().parse().unwrap()), "{data}");
    }
    assert_eq!(set(EndpointPhase::Lost, None), Absence::Coming, "it is brought up at once");
    assert_eq!([EndpointPhase::Down, EndpointPhase::Lost].map(|phase| set(phase, Some(0))), [Absence::Coming; 2]);
    assert_eq!(set(EndpointPhase::Down, None), Absence::Away { next: None });
    assert_eq!(set(EndpointPhase::Connecting, None), Absence::Coming);
    assert_eq!(set(EndpointPhase::Ended, None), Absence::Over);
    assert_eq!(endpoint.down_error().data, None, "it does not come back");
    assert_eq!(set(EndpointPhase::Down, Some(7)), Absence::Away { next: Some(7 * SECOND) });
    endpoint.limits.store(Arc::new(limits(Some(30 * SECOND))));
    assert_eq!(endpoint.patient_limits(), limits(Some(30 * SECOND)));
    endpoint.cordon();
    assert!(matches!(endpoint.absence(), Absence::Away { next: Some(_) }));
    assert_eq!(
        endpoint.patient_limits(),
        limits(None),
        "it holds no calls, and those that it has may wait for a connection"
    );

    // Of all calls that are held, one tries twice a second.
    let turns = |calls: usize| (0..calls).filter(|_| endpoint.may_be_tried()).count();
    assert_eq!((turns(100), turns(100)), (1, 0));
    tokio::time::advance(AGAIN).await;
    assert_eq!(turns(100), 1);
}
