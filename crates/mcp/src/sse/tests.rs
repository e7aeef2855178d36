//! The decoder against hand-written streams, and over every way to cut them.

use proptest::prelude::*;

use super::{Decoder, Event, EventTooLarge, Frame};

fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut decoder = Decoder::new(1 << 16);
    let mut events = Vec::new();
    for mut chunk in chunks {
        while let Some(event) = decoder.next(&mut chunk).unwrap() {
            events.push(event);
        }
        assert!(chunk.is_empty());
    }
    events
}

fn data(text: &str) -> Event {
    Event { data: text.into(), ..Event::default() }
}

#[test]
fn blocks() {
    let check = |stream: &str, expected: &[Event]| {
        assert_eq!(decode([stream.as_bytes()]), expected, "{stream:?}");
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(decode(bytes), expected, "byte by byte: {stream:?}");
    };
    check("data: a\n\n", &[data("a")]);
    check("data:a\r\n\r\ndata:  b\r\n\r\n", &[data("a"), data(" b")]);
    check("data: a\r\rdata: b\r\r", &[data("a"), data("b")]);
    check("data: a\r\n\ndata: b\n\r\n", &[data("a"), data("b")]);
    check("\u{feff}data: a\n\n", &[data("a")]);
    check("data: a\n\u{feff}data: b\n\n", &[data("a")]);
    check(": ping\n\n:\n\ndata: a\n: in between\ndata: b\n\n", &[data("a\nb")]);
    check("data\n\n", &[data("")]);
    check("data:\ndata:\n\n", &[data("\n")]);
    check("unknown: 1\n\nevent: x\n\ndata: a\n\n", &[data("a")]);
    check("data: unfinished\n", &[]);
    check("event: message\ndata: a\n\nevent\ndata: b\n\n", &[data("a"), data("b")]);
    check("event: endpoint\ndata: /m?id=1\n\ndata: a\n\n", &[data(""), data("a")]);
    check("data: 1\nid: 7\nevent: Message\n\n", &[Event { id: Some("7".into()), ..data("") }]);
    check("id: 7\nretry: 250\ndata:\n\n", &[Event { id: Some("7".into()), retry: Some(250), ..data("") }]);
    check(
        "retry: 5\n\nretry: x\n\nid\n\nid: a\0b\n\n",
        &[Event { retry: Some(5), ..Event::default() }, Event { id: Some(String::new()), ..Event::default() }],
    );
}

#[test]
fn a_large_event_ends_the_stream() {
    for stream in [&b"data: 0123456789"[..], b"data: 0123\ndata: 4567\n\n"] {
        let mut decoder = Decoder::new(12);
        assert_eq!(decoder.next(&mut &b"data: ok\n\n"[..]), Ok(Some(data("ok"))));
        assert_eq!(decoder.next(&mut &stream[..]), Err(EventTooLarge { limit: 12 }));
        assert_eq!(decoder.next(&mut &b"\n"[..]), Err(EventTooLarge { limit: 12 }));
    }
}

#[test]
fn what_follows_an_event_stays_bytes() {
    let stream = "id\n\n".repeat(32_000);
    let (mut decoder, mut left) = (Decoder::new(1 << 16), stream.as_bytes());
    for read in 1..=3 {
        assert_eq!(decoder.next(&mut left).unwrap().unwrap().id.as_deref(), Some(""));
        assert_eq!((left.len(), decoder.held()), (stream.len() - 4 * read, 0));
    }
}

#[test]
fn what_is_held_of_an_event_counts_with_its_fields_and_is_given_back() {
    let mut decoder = Decoder::new(1 << 20);
    let mut push = |text: &str| {
        drop(decoder.next(&mut text.as_bytes()).unwrap());
        (decoder.held(), decoder.line.capacity())
    };
    let long = "x".repeat(100_000);
    assert_eq!(push(&format!("id: {long}\nevent: {long}\ndata: {long}\ndata")).0, 200_004);
    push(&long);
    let (held, kept) = push("\n\n");
    assert!(held == 0 && kept <= super::LINE_KEPT, "{held} {kept}");
}

#[test]
fn frames() {
    let mut out = Vec::new();
    Frame { id: Some("4\n5"), event: Some("e"), retry: Some(9), data: Some(b"a\r\nb\rc\n") }.write(&mut out);
    assert_eq!(String::from_utf8_lossy(&out), "event: e\nid: 4\nretry: 9\ndata: a\ndata: b\ndata: c\ndata: \n\n");
}

proptest! {
    #[test]
    fn chunking_changes_nothing(
        lines in proptest::collection::vec(("(data|id|event|retry|x|)", "[ a1:\u{e9}]{0,6}", "(\n|\r|\r\n|\n\n|\r\n\r\n)"), 0..12),
        cuts in proptest::collection::vec(0usize..200, 0..8),
    ) {
        let stream: String = lines.iter().map(|(field, value, end)| format!("{field}:{value}{end}")).collect();
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= stream.len()).chain([0, stream.len()]).collect();
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream.as_bytes()[cut[0]..cut[1]]).collect();
        prop_assert_eq!(decode(chunks), decode([stream.as_bytes()]));
    }

    #[test]
    fn what_is_written_is_read(message in "[^\r]{0,40}", id in proptest::option::of("[a-z0-9]{1,8}")) {
        let mut out = Vec::new();
        Frame { id: id.as_deref(), ..Frame::message(message.as_bytes()) }.write(&mut out);
        prop_assert_eq!(decode([out.as_slice()]), [Event { id, ..data(&message) }]);
    }
}
