//! How a large message is changed in place.

use mcp::Span;

use super::Large;
use crate::call::Call;
use crate::upstream::inbound::{Inbound, Restore, read};

/// What `change` makes of `message` in place.
fn changed(message: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let large = Large { bytes: message.into(), held: None };
    String::from_utf8(large.with(change).to_vec()).unwrap()
}

fn restore(id: &str) -> Restore {
    let request = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call"}}"#);
    Restore::new(&Call::of_message(request.into_bytes()), 1234)
}

fn span_in(message: &str) -> Span {
    let found = read(message.as_bytes());
    if let Inbound::Answer { span, .. } | Inbound::NamelessError { error: span } = found {
        return span;
    }
    panic!("{found:?}");
}

#[test]
fn a_large_answer_reads_as_a_small_one() {
    for id in ["1", "4321", "\"an id that is longer than ours\""] {
        let restore = restore(id);
        for mark in ["", "\u{feff}"] {
            let answer = format!(r#"{mark}{{"result":{{"x": 1.0}},"id" : 1234, "jsonrpc":"2.0"}} "#);
            let span = span_in(&answer);
            let small = restore.answer(answer.as_bytes(), span);
            assert_eq!(changed(&answer, |message| restore.answer_in_place(message, span)).as_bytes(), small);
            let error = format!(r#"{mark}{{"jsonrpc":"2.0","id":null,"error":{{"code":-1,"message":"m"}} }} "#);
            let span = span_in(&error);
            let small = restore.named(error.as_bytes(), span);
            assert_eq!(changed(&error, |message| restore.name_in_place(message, span)).as_bytes(), small);
        }
    }
}
