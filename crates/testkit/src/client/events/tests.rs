//! Events in pieces, with comments and several lines of data.

use super::Events;

#[test]
fn events_are_found_however_the_bytes_are_cut() {
    let stream = b": hello\n\nevent: message\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nid: 7\ndata:x\n\ndata: rest";
    let whole = ["{\"a\":\n1}", "x"];
    for size in 1..stream.len() {
        let mut events = Events::default();
        let mut found = Vec::new();
        for piece in stream.chunks(size) {
            events.push(piece);
            found.extend(std::iter::from_fn(|| events.next()));
        }
        assert_eq!(found, whole, "in pieces of {size}");
    }
}
